"""What surfaces are declared with."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from serving.impressions import ImpressionLog
from serving.pipeline import StageObserver
from serving.users import Users


@dataclass(frozen=True)
class Parts:
    """The parts of one serving process that stages need."""

    users: Users
    withheld: Callable[[], Collection[str]]
    """Items that this process has hidden a moment ago."""
    impressions: ImpressionLog
    observe: StageObserver
