"""The engine without some of what it has: a source, or a group of the ranker's inputs."""

from collections.abc import Mapping

from online_models.engine.engine import Engine
from online_models.engine.history import History
from online_models.engine.inputs import CONTEXT, N_INPUTS, NAMES
from online_models.engine.listwise import ListwiseRanker
from online_models.learning.budget import UNLIMITED
from online_models.learning.learner import Learner, Slate
from online_models.sources import LEARNED

INPUT_GROUPS: Mapping[str, tuple[str, ...]] = {
    "inputs:popularity": (
        *("pop_0.1d", "pop_0.5d", "pop_2d", "pop_8d", "pop_30d", "pop_all", "rank_pop", "positive_share"),
        *("pop_offset", "pop_distance", "pop_to_last"),
    ),
    "inputs:stage": ("stage_8d", "stage_share", "item_stage", "stage_distance", "stage_offset", "stage_to_last"),
    "inputs:age": (
        *("hours_since_item", "item_age", "events_since_item", "age_offset", "age_distance", "age_to_last"),
    ),
    "inputs:neighbours": (
        *(
            "cf",
            "cb",
            "cdec",
            "close",
            "liked",
            "s0",
            "s1",
            "s2",
            "s3",
            "mk",
            "transition_count",
            "transition_hours",
            "hits",
            "most",
        ),
        *("comb", "rank_comb", "rank_s0"),
    ),
    "inputs:factors": ("mf_smooth", "mf_smooth_long", "mf_sharp", "rank_mf", "liking"),
    "inputs:repeats": ("is_last", "times_in_history", "repeat_nearness", "repeat_minutes"),
    "inputs:content": ("taste_slow", "taste_fast", "year_distance", "years_old"),
    "inputs:user": CONTEXT,
}
"""Each input is in one of them."""

GROUPS = (*(f"source:{source.name}" for source in LEARNED), *INPUT_GROUPS)


class AblatedLearner(Learner):
    """Learns and ranks lists that lack a source's candidates, or in which a group of inputs is zero."""

    def __init__(self, without: str, seed: int, ranker: ListwiseRanker | None) -> None:
        kept = tuple(source for source in LEARNED if f"source:{source.name}" != without)
        super().__init__(organic_share=UNLIMITED, replay_share=UNLIMITED, seed=seed, ranker=ranker, sources=kept)
        self._zero = [NAMES.index(name) for name in INPUT_GROUPS.get(without, ())]

    def slate(self, history: History, t: float, repeats: bool) -> Slate:
        slate = super().slate(history, t, repeats)
        slate.inputs[:, self._zero] = 0.0
        return slate


def ablated(without: str, seed: int = 0, ranker: ListwiseRanker | None = None) -> Engine:
    """Return the engine without one of `GROUPS`. It begins with random weights: those that ship know all inputs."""
    return Engine(learner=AblatedLearner(without, seed, ranker or ListwiseRanker(N_INPUTS, seed=seed)))
