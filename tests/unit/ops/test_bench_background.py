"""Work beside a measurement: its errors reach who measures."""

import pytest

from ops.bench.background import Background


class Work(Background):
    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self.error = error

    def work(self) -> None:
        if self.error is not None:
            raise self.error
        self.stopping.wait(60)


def measure(work: Work, error: Exception | None = None) -> None:
    with work:
        assert work.failed.wait(60)
        if error is not None:
            raise error


def test_what_ended_it_is_raised_at_the_end_of_the_block() -> None:
    """R31"""
    work = Work(ValueError("no room"))
    with pytest.raises(ValueError, match="no room"):
        measure(work)
    with pytest.raises(ValueError, match="no room"):
        work.check()


def test_an_error_of_the_measurement_goes_first() -> None:
    with pytest.raises(KeyError):
        measure(Work(ValueError("no room")), KeyError())


def test_it_works_until_the_block_ends() -> None:
    with Work() as work:
        assert work.is_working
        work.check()
    assert not work.is_working
