"""What the catalogue says about items, as columns by slot."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from online_models.arrays import Slots, grown
from state.records import Item

NONE = -1
_FIRST_GENRES = 4


class Vocabulary:
    """Numbers for words, in order of appearance."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._numbers)

    def add(self, word: str) -> int:
        return self._numbers.setdefault(word, len(self._numbers))

    def get(self, word: str) -> int | None:
        return self._numbers.get(word)


class Catalogue:
    """Columns over `Item`s. Items without an entry have empty ones."""

    def __init__(self) -> None:
        self.genre_names = Vocabulary()
        self.category_names = Vocabulary()
        self.creator_names = Vocabulary()
        self.genres: NDArray[np.int32] = np.full((0, _FIRST_GENRES), NONE, dtype=np.int32)
        """Genre numbers, padded; as wide as the item with the most needs it."""
        self.categories: NDArray[np.int32] = np.full(0, NONE, dtype=np.int32)
        self.creators: NDArray[np.int32] = np.full(0, NONE, dtype=np.int32)
        self.log_prices: NDArray[np.float32] = np.full(0, np.nan, dtype=np.float32)
        """NaN where unknown, or free."""
        self.hidden: NDArray[np.bool_] = np.zeros(0, dtype=np.bool_)

    def reserve(self, n_slots: int) -> None:
        """Make room for slots below `n_slots`."""
        self.genres = grown(self.genres, n_slots, NONE)
        self.categories = grown(self.categories, n_slots, NONE)
        self.creators = grown(self.creators, n_slots, NONE)
        self.log_prices = grown(self.log_prices, n_slots, np.nan)
        self.hidden = grown(self.hidden, n_slots, False)

    def put(self, slot: int, item: Item) -> None:
        """Take over an item's entry."""
        genres = [self.genre_names.add(genre) for genre in dict.fromkeys(item.genres)]
        if len(genres) > self.genres.shape[1]:
            wider = np.full((len(self.genres), 2 * len(genres)), NONE, dtype=np.int32)
            wider[:, : self.genres.shape[1]] = self.genres
            self.genres = wider
        self.genres[slot] = NONE
        self.genres[slot, : len(genres)] = genres
        self.categories[slot] = NONE if item.category is None else self.category_names.add(item.category)
        self.creators[slot] = NONE if item.creator is None else self.creator_names.add(item.creator)
        self.log_prices[slot] = np.log(item.price) if item.price else np.nan
        self.hidden[slot] = item.status == "hidden"

    def forget(self, slots: Slots) -> None:
        self.genres[slots] = NONE
        self.categories[slots] = NONE
        self.creators[slots] = NONE
        self.log_prices[slots] = np.nan
        self.hidden[slots] = False

    def taste(self, slots: Slots, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the share of each genre in weighted items, shape (n_genres + 1,); the last, for padding, is 0."""
        genres = self.genres[slots]
        votes = np.broadcast_to(weights[:, None], genres.shape)
        shares = np.bincount(np.where(genres == NONE, len(self.genre_names), genres).ravel(), weights=votes.ravel())
        return self._as_shares(shares.astype(np.float64))

    def taste_of(self, genres: Mapping[str, float]) -> NDArray[np.float64]:
        """Return `taste` for given weights; negative ones and unknown genres count nothing."""
        shares = np.zeros(len(self.genre_names))
        for genre, weight in genres.items():
            number = self.genre_names.get(genre)
            if number is not None:
                shares[number] = max(weight, 0.0)
        return self._as_shares(shares)

    def _as_shares(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        shares = np.zeros(len(self.genre_names) + 1)
        known = min(len(weights), len(self.genre_names))
        shares[:known] = weights[:known]
        mass = shares.sum()
        return shares / mass if mass > 0 else shares
