"""What a person sees while the stack starts and stops."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn


class Display:
    """A line per part: a spinner and the time while it starts, then a tick. Plain lines where there is no terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            SpinnerColumn(finished_text="[green]✓[/]"),
            TextColumn("{task.fields[part]:<12}"),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}

    def begin(self, part: str, what: str) -> None:
        """Show that `part` is at `what`."""
        if part in self._tasks:
            self._progress.update(self._tasks[part], description=what)
        else:
            self._tasks[part] = self._progress.add_task(what, part=part, total=1)

    def done(self, part: str, what: str) -> None:
        self.begin(part, what)
        self._progress.update(self._tasks[part], completed=1)
        if not self._console.is_terminal:
            self._console.print(f"{part}: {what}", highlight=False)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()
