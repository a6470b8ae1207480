"""What one partition's `Attribution` had told before a crash, while it reads again what led to it."""

from collections.abc import Iterable, Mapping

from flows.common.batches import KafkaBatch
from state.records import Example


class Said:
    """Examples that are in the log already, so that they are neither repeated nor contradicted.

    Reading again leads to the same examples but where the wall clock or a late message decided: so a slate whose
    negatives were told stays closed. All is forgotten `margin_ms` of event time after everything has been read again.
    """

    def __init__(self, margin_ms: int) -> None:
        self.since = 0
        """Wall clock from which on they were written, epoch ms."""
        self._margin_ms = margin_ms
        self._examples: set[str] = set()
        self._closed: set[str] = set()  # request ids
        self._until: int | None = None  # watermark after which nothing is said twice; None: still reading again
        self._to_read_again: dict[str, int] = {}  # topic -> end of what may have been read before

    def __bool__(self) -> bool:
        return bool(self._examples)

    def __contains__(self, example_id: str) -> bool:
        return example_id in self._examples

    def has_closed(self, request_id: str) -> bool:
        """Return whether a slate's negatives were told."""
        return request_id in self._closed

    def take(self, examples: Iterable[Example], since: int, ends: Mapping[str, int]) -> None:
        """Take over what the log of examples has.

        Parameters
        ----------
        since
            Wall clock from which on they were written, epoch ms.
        ends
            Topic -> end of its log now: nothing behind it was read before.
        """
        self.since = since
        self._to_read_again = dict(ends)
        for example in examples:
            self._examples.add(example.example_id)
            if example.request_id is not None and (0, None) in zip(example.labels, example.outcomes, strict=True):
                self._closed.add(example.request_id)

    def read(self, batch: KafkaBatch, watermark: int) -> None:
        """A stretch was read (again)."""
        if batch.at_end or batch.next_offset >= self._to_read_again.get(batch.topic, 0):
            self._to_read_again.pop(batch.topic, None)
        if not self._to_read_again and self._until is None:
            self._until = watermark + self._margin_ms

    def advance(self, watermark: int) -> None:
        """Forget all when its time has come."""
        if self._until is not None and watermark > self._until:
            self._examples.clear()
            self._closed.clear()
            self._until = None
