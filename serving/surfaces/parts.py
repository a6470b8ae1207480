"""What surfaces are declared with."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from online_models.catalogue.text_index import TextIndex
from serving.memory.last_answers import LastAnswers
from serving.memory.last_lists import LastLists
from serving.memory.rotation import Rotation
from serving.memory.users import Users
from serving.pipelines.pipeline import Afterwards, StageObserver


@dataclass(frozen=True)
class Parts:
    """The parts of one serving process that stages need."""

    users: Users
    withheld: Callable[[], Collection[str]]
    """Items that this process has hidden a moment ago."""
    text: TextIndex
    lists: LastLists
    """What was last ranked for whom."""
    answers: LastAnswers
    """What was answered to whom a moment ago."""
    rotation: Rotation
    impressions: Afterwards
    observe: StageObserver
