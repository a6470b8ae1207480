"""Builds the features that `online_models.features` declares."""

import numpy as np
from numpy.typing import NDArray

from online_models.arrays import Slots
from online_models.catalogue import NONE
from online_models.columns import Columns, Context
from online_models.covisitation import at
from online_models.features import DECLARED, FEATURES

_COLUMN = {name: column for column, name in enumerate(FEATURES)}
_NEUTRAL = np.array([feature.neutral for feature in DECLARED], dtype=np.float32)
_N_POPULARITIES = sum(name.startswith("pop_") for name in FEATURES) - 1
_MINUTE_MS, _HOUR_MS, _DAY_MS = 60_000.0, 3_600_000.0, 86_400_000.0
_POP_FLOOR, _COVIS_FLOOR = 0.05, 0.01


def feature_matrix(columns: Columns, context: Context, slots: Slots) -> NDArray[np.float32]:
    """Return one row per candidate and one column per `FEATURES`, as of `context.now_ms`, shape (n, n_features)."""
    matrix = np.empty((len(slots), len(FEATURES)), dtype=np.float32)
    matrix[:] = _NEUTRAL
    if len(slots) == 0:
        return matrix
    _fill_items(matrix, columns, context, slots)
    matrix[:, _COLUMN["history"]] = np.log1p(context.n_events)
    if len(context.slots):
        _fill_history(matrix, columns, context, slots)
    else:
        matrix[:, _COLUMN["pop_if_new_user"]] = matrix[:, _COLUMN["pop_8d"]] - _NEUTRAL[_COLUMN["pop_8d"]]
    if context.taste.any():
        matrix[:, _COLUMN["genre_match"]] = context.taste[columns.catalogue.genres[slots]].sum(axis=1)
    return matrix


def _fill_items(matrix: NDArray[np.float32], columns: Columns, context: Context, slots: Slots) -> None:
    matrix[:, :_N_POPULARITIES] = np.log(_POP_FLOOR + columns.popularity.predict_many(slots, context.now_ms))
    statistics = columns.statistics
    n_events = statistics.n_events[slots]
    matrix[:, _COLUMN["quality"]] = (statistics.n_positives[slots] + 1.0) / (n_events + 1.5)
    known = n_events > 0
    age = np.maximum(context.now_ms - statistics.first_ts[slots], 0) / _DAY_MS
    matrix[known, _COLUMN["item_age"]] = np.log1p(age[known])
    since = np.maximum(context.now_ms - statistics.last_ts[slots], 0) / _HOUR_MS
    matrix[known, _COLUMN["since_event"]] = np.log1p(since[known])


def _fill_history(matrix: NDArray[np.float32], columns: Columns, context: Context, slots: Slots) -> None:
    known, scores = context.covisited
    covisited = at(slots, known, scores)
    matrix[:, _COLUMN["covis"]] = np.log(_COVIS_FLOOR + covisited)
    highest = scores.max(initial=0.0)
    if highest > 0.0:
        matrix[:, _COLUMN["covis_share"]] = covisited / highest
    matrix[:, _COLUMN["covis_last"]] = np.log(_COVIS_FLOOR + at(slots, *context.covisited_last))
    embedding = columns.embedding
    matrix[:, _COLUMN["emb_user"]] = embedding.predict_many(slots, context.vector)
    matrix[:, _COLUMN["emb_last"]] = embedding.predict_many(slots, embedding.vectors[context.slots[0]])
    _fill_likings(matrix, columns, context, slots)
    matches = slots[:, None] == context.slots
    recent = matches.any(axis=1)
    matrix[recent, _COLUMN["in_recent"]] = 1.0
    matrix[recent, _COLUMN["recency"]] = 1.0 / (1.0 + matches[recent].argmax(axis=1))
    idle = max(context.now_ms - int(context.times_ms[0]), 0) / _MINUTE_MS
    matrix[:, _COLUMN["idle"]] = np.log1p(idle)


def _fill_likings(matrix: NDArray[np.float32], columns: Columns, context: Context, slots: Slots) -> None:
    creators = context.creators_known
    if len(creators):
        own = columns.catalogue.creators[slots]
        same = (own[:, None] == creators).sum(axis=1)
        matrix[:, _COLUMN["creator_match"]] = np.where(own == NONE, 0.0, same / len(context.creators))
    if not np.isnan(context.log_price):
        gap = np.abs(columns.catalogue.log_prices[slots] - context.log_price)
        matrix[:, _COLUMN["price_gap"]] = np.where(np.isnan(gap), _NEUTRAL[_COLUMN["price_gap"]], gap)
