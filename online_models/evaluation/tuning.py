"""Constants of a baseline, chosen on the part of a log before the first query that counts."""

from collections.abc import Callable, Mapping

from online_models.evaluation.baselines import Baseline, Constant

Judge = Callable[[Baseline], float]
"""Mean of the metric along the tuning part: higher is better."""


def tune(
    make: Callable[[Mapping[str, float]], Baseline],
    constants: Mapping[str, Constant],
    judge: Judge,
    tried: Callable[[float], None] | None = None,
) -> dict[str, float]:
    """Return the best constants found by changing one at a time.

    From the default each choice is tried outwards, and a direction is given up as soon as it gets worse.
    """
    best = {name: constant.default for name, constant in constants.items()}

    def value(of: Mapping[str, float]) -> float:
        found = judge(make(of))
        if tried is not None:
            tried(found)
        return found

    top = value(best)
    for name, constant in constants.items():
        start = best[name]
        above = sorted(choice for choice in constant.choices if choice > start)
        below = sorted((choice for choice in constant.choices if choice < start), reverse=True)
        for direction in (above, below):
            for choice in direction:
                found = value(best | {name: choice})
                if found <= top:
                    break
                top, best = found, best | {name: choice}
    return best
