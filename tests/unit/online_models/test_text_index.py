"""Search by text."""

from collections.abc import Sequence

import pytest

from online_models.catalogue.text_index import TextIndex
from state.records import Item

ITEMS = [
    Item(item_id="thing", title="The Thing", genres=["Horror"], description="A research team in Antarctica"),
    Item(item_id="alien", title="Alien", genres=["Horror", "SciFi"], creator="Ridley Scott"),
    Item(item_id="runner", title="Blade Runner", genres=["SciFi"], creator="Ridley Scott", tags=["neo-noir"]),
    Item(item_id="amelie", title="Le fabuleux destin d'Amélie Poulain", genres=["Comedy"]),
    Item(item_id="story", title="Drama story 10", genres=["Drama"]),
    Item(item_id="story2", title="Drama story 11", genres=["Drama"]),
]


def an_index(items: Sequence[Item] = ITEMS) -> TextIndex:
    index = TextIndex()
    index.put({item.item_id: item for item in items}, complete=True)
    assert index.flush(1000) == len(items)
    return index


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("blade runner", "runner"),
        ("balde runer", "runner"),
        ("AMELIE", "amelie"),
        ("fabulex", "amelie"),
        ("antartica", "thing"),
        ("ridley alien", "alien"),
        ("neo noir", "runner"),
        ("drama stroy 10", "story"),
        ("drama story 11", "story2"),
        ("blad", "runner"),
    ],
)
def test_the_item_that_is_meant_comes_first(text: str, first: str) -> None:
    """R2"""
    ids, found = an_index().search(text, 10)
    assert ids[0] == first
    assert list(found) == sorted(found, reverse=True)


@pytest.mark.parametrize("text", ["xyzzy", "", "?!", "al", "zz"])
def test_nothing_is_found_by_what_is_nowhere(text: str) -> None:
    """R2: short words are not guessed at, but begin others."""
    ids, found = an_index().search(text, 10)
    assert len(ids) == len(found) == (1 if text == "al" else 0)


def test_a_match_in_the_title_counts_more_than_one_in_the_description() -> None:
    """R2"""
    index = an_index([Item(item_id="a", description="a war"), Item(item_id="b", title="a war")])
    assert index.search("war", 2)[0] == ["b", "a"]


def test_changes_and_removals_are_followed_and_a_reload_indexes_what_is_new_only() -> None:
    """R2"""
    index = an_index()
    index.put({"alien": None, "thing": Item(item_id="thing", title="Das Ding")})
    assert index.search("thing", 5)[0] == ["thing"]
    index.flush(1000)
    assert index.search("alien", 5)[0] == []
    assert (index.search("thing", 5)[0], index.search("ding", 5)[0]) == ([], ["thing"])
    index.put({item.item_id: item for item in ITEMS[1:]}, complete=True)
    assert index.flush(3) == 3
    assert index.n_pending == 3
    index.flush(1000)
    assert (index.search("ding", 5)[0], index.search("alien", 5)[0], len(index)) == ([], ["alien"], 5)


def test_a_search_among_some_items_finds_all_that_match() -> None:
    """R3"""
    index = an_index([Item(item_id=f"m{n}", title=f"common word {n}") for n in range(300)])
    assert set(index.search("common", 5, among=["m7", "m250", "unknown"])[0]) == {"m7", "m250"}
    assert index.search("common", 5, among=[])[0] == []
