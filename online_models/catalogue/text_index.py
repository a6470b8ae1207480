"""Full-text search over the catalogue: titles, labels and descriptions, tolerant of typing errors. An index of Tantivy.

It has a numbering of its own, so that it outlives the replica that its items came from, and takes only what changed.
"""

import threading
import zlib
from collections.abc import Collection, Iterable, Mapping

import numpy as np
import tantivy
from numpy.typing import NDArray

from state.records import Item

MAX_WORDS = 16
"""Of a query; what comes behind is left out."""

MAX_TERMS = 2000
"""A search among at most so many items looks at these alone."""

_FIELDS = {"title": 3.0, "labels": 2.0, "description": 1.0}
"""Field -> weight of a match in it."""

_TYPO_WEIGHT = 0.5
_PREFIX_WEIGHT = 0.6
_ONE_TYPO_FROM, _TWO_TYPOS_FROM = 4, 8
"""Characters of a word from which it may be misspelt in one place, in two places."""

_HEAP_BYTES = 32_000_000
_ANALYZER = "folded"
_LONGEST_WORD = 40


class TextIndex:
    """Finds items by text.

    `put` and `search` may be called while another thread is in `flush`; `flush` by one thread at a time.
    """

    def __init__(self) -> None:
        schema = tantivy.SchemaBuilder()
        schema.add_unsigned_field("number", indexed=True, fast=True)
        for field in _FIELDS:
            schema.add_text_field(field, tokenizer_name=_ANALYZER, index_option="freq")
        self._schema = schema.build()
        self._analyzer = (
            tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple())
            .filter(tantivy.Filter.lowercase())
            .filter(tantivy.Filter.ascii_fold())
            .filter(tantivy.Filter.remove_long(_LONGEST_WORD))
            .build()
        )
        self._index = tantivy.Index(self._schema)
        self._index.register_tokenizer(_ANALYZER, self._analyzer)
        self._writer: tantivy.IndexWriter | None = None
        self._ids: list[str] = []
        self._numbers: dict[str, int] = {}
        self._texts: dict[int, int] = {}
        """Number -> checksum of the text that is indexed."""
        self._pending: dict[str, Item | None] = {}
        self._lock = threading.Lock()
        """Of what is pending."""

    def __len__(self) -> int:
        """Return how many items can be found."""
        return len(self._texts)

    @property
    def n_pending(self) -> int:
        """Changes that `flush` has not made yet."""
        return len(self._pending)

    def put(self, rows: Mapping[str, Item | None], complete: bool = False) -> None:
        """Take over entries, None where one is gone, at the next `flush`; `complete`: there are no others."""
        with self._lock:
            if complete:
                self._pending = dict.fromkeys([*self._numbers, *self._pending])
            self._pending.update(rows)

    def flush(self, at_most: int) -> int:
        """Make up to so many changes findable; return how many were made. Takes some 100 us each."""
        with self._lock:
            taken = [self._pending.popitem() for _ in range(min(at_most, len(self._pending)))]
        changed = 0
        for item_id, item in taken:
            changed += self._index_one(item_id, item)
        if changed and self._writer is not None:
            self._writer.commit()
            self._index.reload()
        return len(taken)

    def search(self, text: str, k: int, among: Collection[str] | None = None) -> tuple[list[str], NDArray[np.float32]]:
        """Return ids of the best matches and their relevance (BM25, more is better); at most k, best first.

        A word that is misspelt in one place, from eight characters on in two, still matches, but counts half; so does
        the beginning of a word where it is the last one. `among`: search these items alone, at most `MAX_TERMS`.
        """
        words = self._analyzer.analyze(text)[:MAX_WORDS]
        if not words or not self._texts:
            return [], np.empty(0, np.float32)
        query = tantivy.Query.boolean_query(
            [(tantivy.Occur.Should, self._word(word, word is words[-1])) for word in words]
        )
        if among is not None:
            numbers = [number for item_id in among if (number := self._numbers.get(item_id)) is not None]
            allowed = tantivy.Query.const_score_query(
                tantivy.Query.term_set_query(self._schema, "number", numbers[:MAX_TERMS]), 0.0
            )
            query = tantivy.Query.boolean_query([(tantivy.Occur.Must, query), (tantivy.Occur.Must, allowed)])
        searcher = self._index.searcher()
        hits = searcher.search(query, k, count=False).hits
        numbers = [int(n or 0) for n in searcher.fast_field_values("number", [address for _, address in hits])]
        return [self._ids[n] for n in numbers], np.array([score for score, _ in hits], np.float32)

    def _word(self, word: str, last: bool) -> tantivy.Query:
        """Return the query of one word: in any field, as it is, misspelt, or, the last one, begun."""
        Query = tantivy.Query  # noqa: N806 - a class
        typos = 0 if len(word) < _ONE_TYPO_FROM else 1 if len(word) < _TWO_TYPOS_FROM else 2
        ways = []
        for field, weight in _FIELDS.items():
            ways.append(Query.boost_query(Query.term_query(self._schema, field, word, "freq"), weight))
            if typos:
                misspelt = Query.fuzzy_term_query(self._schema, field, word, typos, transposition_cost_one=True)
                ways.append(Query.boost_query(misspelt, weight * _TYPO_WEIGHT))
            if last and len(word) > 1:
                begun = Query.fuzzy_term_query(self._schema, field, word, 0, prefix=True)
                ways.append(Query.boost_query(begun, weight * _PREFIX_WEIGHT))
        return Query.disjunction_max_query(ways, 0.1)

    def _index_one(self, item_id: str, item: Item | None) -> bool:
        """Return whether the index changes."""
        number = self._numbers.get(item_id)
        known = None if number is None else self._texts.get(number)
        fields = None if item is None else _texts_of(item)
        checksum = None if fields is None else zlib.crc32("\0".join(fields.values()).encode())
        if checksum == known:
            return False
        if self._writer is None:
            self._writer = self._index.writer(heap_size=_HEAP_BYTES, num_threads=1)
        if number is None:
            number = self._numbers[item_id] = len(self._ids)
            self._ids.append(item_id)
        if known is not None:
            # Not by term: that takes a number for a signed one, and finds nothing.
            self._writer.delete_documents_by_query(tantivy.Query.term_query(self._schema, "number", number))
        if fields is None or checksum is None:
            del self._texts[number]
            return True
        document = tantivy.Document()
        document.add_unsigned("number", number)
        for field, text in fields.items():
            if text:
                document.add_text(field, text)
        self._writer.add_document(document)
        self._texts[number] = checksum
        return True


def _texts_of(item: Item) -> dict[str, str]:
    labels: Iterable[str | None] = (*item.genres, *item.tags, item.category, item.creator)
    return {
        "title": item.title,
        "labels": " ".join(label for label in labels if label),
        "description": item.description or "",
    }
