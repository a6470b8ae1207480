"""Work in a thread beside a measurement."""

import threading
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self


class Background(ABC):
    """Runs while the block of its `with` does. What ended it before its time is raised at the end of the block."""

    def __init__(self) -> None:
        self.stopping = threading.Event()
        """Set at the end of the block: work looks at it."""
        self.failed = threading.Event()
        """Set when it cannot go on."""
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    @abstractmethod
    def work(self) -> None:
        """Work until `stopping` is set, or there is nothing left to do."""

    @property
    def is_working(self) -> bool:
        return self._thread.is_alive()

    def check(self) -> None:
        """Raise what ended it."""
        if self._error is not None:
            raise self._error

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopping.set()
        self._thread.join()
        if kind is None:
            self.check()

    def _run(self) -> None:
        try:
            self.work()
        except Exception as error:  # raised by `check`, in the thread that waits for this one
            self._error = error
            self.failed.set()
