"""What a list loses first: the rungs that it descends when something is late or missing, and how load sheds work.

Declared here, kept by the pipeline and by the stages' fallbacks. A list says on which rung it is, in
`degraded["answer"]`, beside what is missing and why.
"""

from enum import IntEnum


class Rung(IntEnum):
    """From the best to the last resort. Filters, blocks and hidden items hold on each of them."""

    FULL = 0
    NO_RANKER = 1
    """Candidates of all sources, by popularity: the ranker failed, or the request's time was spent."""
    CACHED = 2
    """What was last ranked for this user, as this process remembers it: the user's state cannot be read; or, under
    load, it was ranked a moment ago and nothing that it was made of has changed."""
    POPULARITY = 3
    """What people take in this context: nothing is remembered of the user either."""
    DISK = 4
    """Models and catalogue as the last good copy on disk has them: Redis has not been reached since the start."""

    @property
    def told(self) -> str:
        """What `degraded["answer"]` says."""
        return _TOLD[self]


_TOLD = {
    Rung.FULL: "full",
    Rung.NO_RANKER: "no ranker",
    Rung.CACHED: "cached list of this user",
    Rung.POPULARITY: "contextual popularity",
    Rung.DISK: "last good copy on disk",
}

BUDGET_MS = 80.0
"""Of one request, from its arrival, over its wait for a turn and all stages; `FRESHET_REQUEST_BUDGET_MS` changes it."""
LEAST_WAIT_MS = 20.0
"""For what a stage waits for, also when the budget is spent: what a user has hidden is worth that."""
MAX_SCORED = 500
"""Candidates that the ranker sees, after the filters, of a request that did not wait."""
FILTERED = 8
"""Times as many are scored of a filtered list: of what few know the sources cannot tell what the ranker would like."""
REPEATED = (0.05, 0.44, 10.0)
"""(from, to, seconds): a request that has waited for its turn for more than the first share of its budget gets the list
of a moment ago again, where a new one would be made of the same; the longer it has waited, the older that may be, up to
these seconds from the second share on. So the shorter a queue is, the more lists are made anew. With one age for all
the 95 % quantile was longer: presumably the queue was worked off and built up by turns."""
LOAD: tuple[tuple[float, int], ...] = ((0.44, 300), (0.56, 200), (0.69, 120), (0.81, 60))
"""(share, n): a request that has waited for its turn for more than this share of its budget has at most n candidates
scored. Waiting is what load shows in first, before the budget is spent: with less to do for each, the queue is worked
off. 50 clients at once whose lists come within 50 ms wait for less than the first of these, 35 ms: such a load gets
lists that are ranked whole, now or a moment ago."""


def oldest_repeated_s(waited: float) -> float:
    """Return how old a list may be that is repeated to a request that has waited for this share of its budget."""
    begin, end, seconds = REPEATED
    return seconds * min(1.0, max(0.0, (waited - begin) / (end - begin)))


def most_scored(waited: float) -> int:
    """Return how many candidates are scored for a request that has waited for this share of its budget."""
    n = MAX_SCORED
    for longer_than, at_most in LOAD:
        if waited <= longer_than:
            break
        n = at_most
    return n
