"""Everything that an evaluation says, as one record."""

from collections.abc import Mapping

import numpy as np
from msgspec import Struct

from online_models.evaluation.metrics import (
    ITEM_EVENTS,
    LISTS,
    PER_QUERY,
    USER_EVENTS,
    Estimate,
    by_age,
    coverage,
    diversity,
    gini,
    microseconds,
    over_stream,
    paired,
    summarise,
)
from online_models.evaluation.protocols import Outcome

Splits = dict[str, dict[str, Estimate]]


class ModelReport(Struct):
    """One model's results."""

    name: str
    views: dict[str, Splits]
    """`all`, and for sessions `new` -> split -> metric -> estimate."""
    paired: dict[str, dict[str, Estimate]]
    """View -> metric -> difference to the baseline; empty without one."""
    coverage: float
    novelty: float
    diversity: float
    gini: float
    event_us: tuple[float, float]
    """Cost of learning an event: median, 99th percentile."""
    list_us: tuple[float, float]
    stream: tuple[list[float], list[float]]
    """Position in the stream, and the headline metric around it."""
    by_user_events: list[Estimate]
    """The headline metric by how many events the user had, in the classes of `USER_EVENTS`."""
    by_item_events: list[Estimate]
    """The same by how many events the target had, in the classes of `ITEM_EVENTS`."""
    by_lists: list[Estimate]
    """The same by how many queries came before, in the classes of `LISTS`."""
    constants: dict[str, float]
    """That were tuned for this data set; empty for a model that ran with its own."""


class Report(Struct):
    """The results of all models on one data set."""

    data: str
    protocol: str
    headline: str
    """The metric that the protocol is about."""
    baseline: str | None
    models: list[ModelReport]


def report_of(
    data: str,
    protocol: str,
    outcomes: Mapping[str, Outcome],
    baseline: str | None,
    n_items: int,
    genres: dict[str, frozenset[str]],
    constants: Mapping[str, dict[str, float]] | None = None,
) -> Report:
    """Summarise the outcome of each model. `n_items`: size of the catalogue; `constants`: those tuned, by model."""
    headline = "MRR@20" if protocol == "sessions" else "NDCG@10"
    views = {"all": False, "new": True} if protocol == "sessions" else {"all": False}
    models = []
    for name, outcome in outcomes.items():
        values = PER_QUERY[headline](np.array(outcome.ranks, np.int64))
        where, mean = over_stream(values, outcome.positions)
        to_baseline = {
            view: {metric: paired(outcome, outcomes[baseline], metric, new_only) for metric in PER_QUERY}
            for view, new_only in views.items()
            if baseline is not None
        }
        models.append(
            ModelReport(
                name=name,
                views={view: summarise(outcome, new_only) for view, new_only in views.items()},
                paired=to_baseline,
                coverage=coverage(outcome.lists, n_items),
                novelty=float(np.mean(outcome.novelty)) if outcome.novelty else 0.0,
                diversity=diversity(outcome.lists, genres),
                gini=gini(outcome.lists, n_items),
                event_us=microseconds(outcome.observe_s),
                list_us=microseconds(outcome.recommend_s),
                stream=(where.tolist(), mean.tolist()),
                by_user_events=by_age(values, outcome.earlier_events, outcome.clusters, USER_EVENTS),
                by_item_events=by_age(values, outcome.item_events, outcome.clusters, ITEM_EVENTS),
                by_lists=by_age(values, list(range(len(outcome))), outcome.clusters, LISTS),
                constants=(constants or {}).get(name, {}),
            )
        )
    return Report(data, protocol, headline, baseline, models)
