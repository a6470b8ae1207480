"""A user seen against the models at one moment: what all sources and all inputs of a request share."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from online_models.arrays import Slots
from online_models.columns import Columns
from online_models.engine import inputs, pairs
from online_models.engine.content import year_of
from online_models.engine.evidence import CDEC, COMB, S0, merge
from online_models.engine.factors import FOLDS, SMOOTH
from online_models.engine.history import Steps
from online_models.engine.items import POP_SLOW, stage
from online_models.engine.popular import TopList
from online_models.engine.retrieval import draw, little_known

_PRIME = 7919
EXACT_AMONG = 20_000
"""Items up to which a filtered scan looks at each: some 2 ms."""


class StaleContextError(Exception):
    """Another request has begun on the same models since this context was made."""


class Context:
    """The evidence of the user's newest steps, merged. Valid until the next context over the same columns is made.

    Parameters
    ----------
    t
        Now, epoch seconds of stream time.
    repeats
        Whether items of the history may be among the candidates: then the inputs say how they recur.
    likings
        Genre -> weight, what is said of the taste of a user without steps.
    """

    def __init__(
        self,
        columns: Columns,
        steps: Steps,
        t: float,
        repeats: bool = False,
        likings: Mapping[str, float] | None = None,
    ) -> None:
        self.columns, self.steps, self.t, self.repeats = columns, steps, t, repeats
        self._likings = columns.content.likings({} if likings is None or len(steps.items) else likings)
        work, lists = columns.workspace, columns.neighbours
        self._tick = work.begin()
        self._little_known: dict[tuple[int, int], Slots] = {}
        self._among: NDArray[np.bool_] | None = None
        """What is allowed, where a filter says so."""
        self._tastes: tuple[NDArray[np.float32], float] | None = None
        self._n_touched = merge(
            lists.ids,
            lists.values,
            lists.starts,
            lists.sizes,
            lists.totals,
            lists.refs,
            columns.translation,
            pairs.RATE,
            columns.items.n_events,
            steps.items,
            steps.times,
            t,
            work.touched_at,
            work.tick,
            work.touched,
            work.evidence,
        )
        self.folds = columns.factors.fold_in(steps.items, steps.positive)

    def bar(self, slots: Slots) -> None:
        """Keep items out of this request's candidates."""
        self._check()
        self.columns.workspace.bar(slots)

    def bar_all_but(self, allowed: NDArray[np.bool_]) -> None:
        """Keep all others out; a mask over all slots."""
        self._check()
        self.columns.workspace.bar_all_but(allowed)
        self._among = allowed

    def allowed(self) -> Slots:
        """Return all items that are not kept out, lowest slot first."""
        self._check()
        return self.columns.workspace.allowed(self.columns.n_slots)

    def covisited(self, k: int) -> Slots:
        """Return the allowed items with the highest evidence of all newest steps."""
        return self._by_evidence(COMB, k)

    def next_after_last(self, k: int) -> Slots:
        """Return those with the highest evidence of the newest step alone."""
        return self._by_evidence(S0, k)

    def lately_covisited(self, k: int) -> Slots:
        """Return those with the highest decayed evidence."""
        return self._by_evidence(CDEC, k)

    def _by_evidence(self, column: int, k: int) -> Slots:
        self._check()
        work = self.columns.workspace
        return work.best(work.evidence[:, column], work.touched, self._n_touched, k)

    def near(self, fold: int, k: int) -> Slots:
        """Return the items with the highest positive product with one of the user's vectors: of the active ones, or of
        all that are not kept out where these are few enough to look at each.
        """
        self._check()
        factors, model = self.columns.factors, FOLDS[fold][0]
        vectors, work = factors.active_vectors[model], self.columns.workspace
        if self._among is not None and np.count_nonzero(self._among) <= EXACT_AMONG:
            among = np.flatnonzero(self._among).astype(np.int32)
            return work.best(factors.items[model, among] @ self.folds[fold], among, len(among), k)
        scores = np.dot(vectors, self.folds[fold], out=work.scores[: len(vectors)])
        return work.best(scores, factors.active, len(scores), k)

    def nearest_to_last(self, k: int) -> Slots:
        """Return the allowed items whose vectors are nearest to that of the newest item."""
        self._check()
        columns = self.columns
        vector = columns.factors.items[SMOOTH, self.steps.items[-1]]
        slots, cosines = columns.index.search(vector, 2 * k, self._among)
        return columns.workspace.best(cosines, slots, len(slots), k)

    def popular(self, top: TopList, k: int) -> Slots:
        """Return the first allowed items of a popularity list."""
        self._check()
        return self.columns.workspace.first(top.ids, k)

    def little_known(self, below: int, n_sampled: int) -> Slots:
        """Return allowed items with fewer events than `below`, at most `n_sampled`.

        Where there are more items than that, it goes through at most about eight times as many of them, evenly spread
        over all, and begins elsewhere each second. Of what a filter keeps, it returns all.
        """
        self._check()
        columns, work = self.columns, self.columns.workspace
        if (below, n_sampled) not in self._little_known and self._among is not None:
            allowed = self.allowed()
            self._little_known[below, n_sampled] = allowed[columns.items.n_events[allowed] < below]
        if (below, n_sampled) not in self._little_known:
            n_slots = columns.n_slots
            n = little_known(
                int(self.t) * _PRIME % n_slots if n_slots > n_sampled else 0,
                max(1, n_slots // (8 * n_sampled)),
                n_slots,
                columns.items.n_events,
                below,
                work.barred,
                self._tick,
                work.found[:n_sampled],
            )
            self._little_known[below, n_sampled] = work.found[:n].copy()
        return self._little_known[below, n_sampled]

    def drawn(self, slots: Slots, k: int) -> Slots:
        """Return k of the items at random: others each millisecond."""
        work = self.columns.workspace
        chances = np.empty(len(slots), np.float32)
        draw(slots, int(self.t * 1000), chances)
        return work.best(chances, slots, len(slots), k)

    def taste_match(self, slots: Slots) -> NDArray[np.float32]:
        """Return how well the labels of items match those of the user's steps, shape (n,)."""
        return self.columns.content.match_labels(slots, self.tastes()[0])

    def tastes(self) -> tuple[NDArray[np.float32], float]:
        """Return the user's tastes and mean release year, see `Content.tastes`."""
        if self._tastes is None:
            self._tastes = self.columns.content.tastes(self.steps.items, self.steps.positive, self._likings)
        return self._tastes

    def inputs(self, slots: Slots) -> NDArray[np.float32]:
        """Return the ranker's inputs of some candidates, shape (n, n_inputs), columns as in `inputs.NAMES`."""
        self._check()
        columns, steps, work, table = self.columns, self.steps, self.columns.workspace, self.columns.items
        out = np.empty((len(slots), inputs.N_INPUTS), np.float32)
        logs = np.empty((len(slots), inputs.N_LOGS), np.float32)
        inputs.fill(
            out,
            logs,
            slots,
            self.t,
            columns.n_events,
            steps.n_events,
            stage(steps.n_events),
            table.counts,
            table.clocks,
            table.seq_last,
            table.rates,
            work.touched_at,
            self._tick,
            work.evidence,
            columns.factors.items,
            self.folds,
            columns.liking(steps.items, steps.positive),
            steps.items,
            steps.times,
            self.repeats,
        )
        np.log(logs, out=logs)
        of_user = np.empty(inputs.N_OF_USER, np.float32)
        inputs.of_user(
            steps.items, steps.times, steps.n_events, self.t, table.counts, table.clocks, table.rates[POP_SLOW], of_user
        )
        content, (tastes, mean_year) = columns.content, self.tastes()
        inputs.complete(
            out,
            logs,
            slots,
            len(steps.items) > 0,
            of_user,
            content.labels,
            content.years,
            year_of(self.t),
            tastes,
            mean_year,
        )
        inputs.write_log_ranks(out)
        return out

    def _check(self) -> None:
        if self._tick != self.columns.workspace.tick:
            raise StaleContextError("another request has begun on the same models since this context was made")
