"""Matrix factorisation of implicit feedback that follows the stream.

Two models at two confidences: one smooth, one that follows the last few steps. Users are folded in exactly from
their newest history at every request. As events come, the vectors of their users and items take some steps of conjugate
gradients towards their solutions, over a bounded sample of what they met. The Gramians of all users and all items are
corrected at each change of a vector.

References
----------
Hu, Koren, Volinsky (2008), Collaborative filtering for implicit feedback datasets.
Takacs, Pilaszy, Tikk (2011), Applications of the conjugate gradient method for implicit feedback collaborative
filtering.
He, Zhang, Kan, Chua (2016), Fast matrix factorization for online recommendation with implicit feedback.
"""

import zlib
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from online_models.engine.als import RANK, fold_in_each, learn_pair, replace_vector
from online_models.engine.changes import Changed
from online_models.engine.items import CLOCK_POSITIVE, DAY, HALF_LIVES, POP_ACTIVE, ItemTable, grown
from online_models.engine.jit import jit
from online_models.engine.popular import ActiveArrays, refresh_active
from online_models.engine.rings import Rings

SMOOTH, SHARP = 0, 1
CONFIDENCE = (3.0, 30.0)
REGULARISATION = (20.0, 5.0)
CONFIDENCES, REGULARISATIONS = np.array(CONFIDENCE), np.array(REGULARISATION)

FOLDS = ((SMOOTH, 0.8, 30), (SMOOTH, 0.93, 70), (SHARP, 0.6, 15))
"""Of the request's user vectors: model, weight per step back, steps."""
_FOLD_MODELS, _FOLD_FADINGS, _FOLD_STEPS = (np.array(of_folds) for of_folds in zip(*FOLDS, strict=True))

N_PAST = 1 << 16
"""Past events to draw the replayed one from."""

N_ACTIVE = 4096
"""Items scanned for candidates, whatever the size of the catalogue."""


@jit
def unit_vectors(
    vectors: NDArray[np.float32],
    n_events: NDArray[np.float32],
    least: float,
    slots: NDArray[np.int32],
    out: NDArray[np.float32],
) -> None:
    """Write the vectors of some items at length 1, shape (n, RANK); 0 for those with fewer than `least` events."""
    for m in range(slots.size):
        vector = vectors[slots[m]]
        square, scale = np.float32(0.0), np.float32(0.0)
        for r in range(RANK):
            square += vector[r] * vector[r]
        if n_events[slots[m]] >= least and square > 0.0:
            scale = np.float32(1.0) / np.sqrt(square)
        for r in range(RANK):
            out[m, r] = scale * vector[r]


class ItemFactors:
    """What a request needs: vectors of items by slot, both models, their Gramians, and the active items it scans.

    The active items are the most popular at 30 days, by `ItemTable` alone: equal rows make equal sets.
    """

    def __init__(self, capacity: int = 1024) -> None:
        self.items = np.zeros((2, capacity, RANK), np.float32)
        self.gram_items = np.zeros((2, RANK, RANK))
        self.active_arrays = ActiveArrays(
            np.zeros(N_ACTIVE, np.int32),
            np.zeros(N_ACTIVE, np.int32),
            np.zeros(N_ACTIVE, np.int32),
            np.zeros(N_ACTIVE),
            np.zeros(N_ACTIVE, np.int64),
            np.full(capacity, -1, np.int32),
            np.zeros(1, np.int64),
            np.zeros((2, N_ACTIVE, RANK), np.float32),
            np.array([HALF_LIVES[POP_ACTIVE] * DAY]),
        )
        self.changed = Changed(capacity)

    @property
    def active(self) -> NDArray[np.int32]:
        return self.active_arrays.members[: self.active_arrays.size[0]]

    @property
    def active_vectors(self) -> NDArray[np.float32]:
        """Of `active`, shape (2, n, RANK)."""
        return self.active_arrays.vectors[:, : self.active_arrays.size[0]]

    def reserve(self, n_slots: int) -> None:
        """Make room for slots below `n_slots`."""
        old = self.items.shape[1]
        if n_slots > old:
            capacity = max(n_slots, 2 * old)
            self.items = np.stack([grown(m, capacity) for m in self.items])
            places = grown(self.active_arrays.place_of, capacity)
            places[old:] = -1
            self.active_arrays = self.active_arrays._replace(place_of=places)
            self.changed.reserve(capacity)

    def fold_in(self, history: NDArray[np.int32], positive: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Return the user's vectors, one per entry of `FOLDS`, shape (3, RANK); zeros without a history."""
        out = np.zeros((len(FOLDS), RANK), np.float32)
        if len(history):
            fold_in_each(
                self.items,
                self.gram_items,
                REGULARISATIONS,
                CONFIDENCES,
                _FOLD_MODELS,
                _FOLD_FADINGS,
                _FOLD_STEPS,
                history,
                positive,
                out,
            )
        return out

    def refresh(self, slots: NDArray[np.int32], table: ItemTable) -> None:
        """Let the active items follow rows of `table` and vectors that were learned or restored."""
        active = self.active_arrays
        active.size[0] = refresh_active(
            active.members,
            active.heap,
            active.where,
            active.keys,
            active.seqs,
            active.place_of,
            active.size[0],
            slots,
            table.counts[:, POP_ACTIVE],
            table.clocks[:, CLOCK_POSITIVE],
            table.seq_last,
            active.half_life_s[0],
            self.items,
            active.vectors,
        )

    def row(self, slot: int) -> bytes:
        """Both vectors of one item."""
        return self.items[:, slot].tobytes()

    def restore(self, slots: NDArray[np.int32], rows: Iterable[bytes]) -> None:
        """Take over rows; `refresh` must follow, and the Gramian be restored."""
        self.items[:, slots] = np.frombuffer(b"".join(rows), np.float32).reshape(-1, 2, RANK).swapaxes(0, 1)

    def item_gramians(self) -> bytes:
        """Of all item vectors, both models."""
        return self.gram_items.tobytes()

    def restore_item_gramians(self, gramians: bytes) -> None:
        self.gram_items[:] = np.frombuffer(gramians).reshape(self.gram_items.shape)

    def forget(self, slots: NDArray[np.int32], table: ItemTable) -> None:
        """Clear vectors and take them out of the Gramian and the active items; `table` must have forgotten first."""
        subtract(self.gram_items, self.items, slots)
        self.changed.drop(slots)
        if (self.active_arrays.place_of[slots] >= 0).any():
            self.active_arrays.place_of[:] = -1
            self.active_arrays.size[0] = 0
            self.refresh(table.known(), table)


class Factors(ItemFactors):
    """The same with what learning needs: vectors of users by slot, and who had events with each item.

    Parameters
    ----------
    seed
        Of the vectors that new items begin with.
    """

    def __init__(self, seed: int = 0, capacity: int = 1024) -> None:
        super().__init__(capacity)
        n_words = max(1, -(-seed.bit_length() // 32))
        self._words = np.append(np.frombuffer(seed.to_bytes(4 * n_words, "little"), np.uint32), np.uint32(0))
        """Of the seed, and of a name: what numpy makes of two numbers, in half the time."""
        self.users = np.zeros((2, 1024, RANK), np.float32)
        self.gram_users = np.zeros((2, RANK, RANK))
        self.rings = Rings(capacity)
        self.users_changed = Changed(1024)

    def reserve(self, n_slots: int) -> None:
        super().reserve(n_slots)
        self.rings.reserve(self.items.shape[1])

    def reserve_users(self, n_slots: int) -> None:
        """Make room for user slots below `n_slots`."""
        if n_slots > self.users.shape[1]:
            capacity = max(n_slots, 2 * self.users.shape[1])
            self.users = np.stack([grown(m, capacity) for m in self.users])
            self.users_changed.reserve(capacity)

    def first_vectors(self, name: str) -> NDArray[np.float32]:
        """Return small random vectors, shape (2, RANK): a function of seed and name, in whatever order items come."""
        self._words[-1] = zlib.crc32(name.encode())
        rng = np.random.default_rng(self._words)
        return rng.normal(0.0, 0.05, (2, RANK)).astype(np.float32)

    def add_item(self, item: int, name: str) -> None:
        """Give a new item its first vectors."""
        new = self.first_vectors(name)
        for m in (SMOOTH, SHARP):
            replace_vector(self.gram_items[m], self.items[m, item], new[m])
        self.changed.add(item)

    def append(self, user: int, item: int, positive: bool) -> None:
        """Remember who had an event with `item`."""
        self.rings.append(item, 2 * user + positive)

    def learn_one(
        self, user: int, item: int, items: NDArray[np.int32], positive: NDArray[np.bool_], n_total: int
    ) -> None:
        """Improve both vectors of a (user, item) pair; `items` are the user's newest events of `n_total`.

        `refresh` must follow for requests to see the item's.
        """
        learn_pair(
            self.users,
            self.items,
            self.gram_users,
            self.gram_items,
            REGULARISATIONS,
            CONFIDENCES,
            user,
            item,
            items,
            positive,
            n_total,
            self.rings.of(item),
            int(self.rings.totals[item]),
            True,
            True,
        )
        self.changed.add(item)
        self.users_changed.add(user)

    def forget(self, slots: NDArray[np.int32], table: ItemTable) -> None:
        super().forget(slots, table)
        self.rings.forget(slots)

    def user_row(self, slot: int) -> bytes:
        """Both vectors of one user."""
        return self.users[:, slot].tobytes()

    def restore_user(self, slot: int, row: bytes) -> None:
        """Take over a row; the Gramian must be restored too."""
        self.users[:, slot] = np.frombuffer(row, np.float32).reshape(2, RANK)

    def user_gramians(self) -> bytes:
        """Of all user vectors, both models."""
        return self.gram_users.tobytes()

    def restore_user_gramians(self, gramians: bytes) -> None:
        self.gram_users[:] = np.frombuffer(gramians).reshape(self.gram_users.shape)

    def forget_users(self, slots: NDArray[np.int32]) -> None:
        """Clear vectors and take the users out of the Gramian and of all rings."""
        subtract(self.gram_users, self.users, slots)
        self.rings.forget_users(slots)
        self.users_changed.drop(slots)


def subtract(
    gramians: NDArray[np.float64], vectors: NDArray[np.float32], slots: Sequence[int] | NDArray[np.int32]
) -> None:
    """Zero the vectors of `slots`, both models, and correct their Gramians."""
    for gramian, of_model in zip(gramians, vectors, strict=True):
        gone = of_model[slots].astype(np.float64)
        gramian -= gone.T @ gone
        of_model[slots] = 0.0
