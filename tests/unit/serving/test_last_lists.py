"""What is remembered of a user's list is of the same items, whatever becomes of their slots (R10)."""

import time

import numpy as np

from online_models.replica import Replica
from serving.memory.last_lists import LastList, LastLists
from state.entries import CATALOGUE
from state.records import Item


def replica_of(*item_ids: str) -> Replica:
    replica = Replica()
    replica.apply({CATALOGUE: {name: Item(item_id=name) for name in item_ids}})
    return replica


def remembered(replica: Replica, *item_ids: str) -> LastLists:
    lists, n = LastLists(), len(item_ids)
    slots, scores = replica.slots(item_ids), np.arange(n, 0.0, -1.0)
    made_at = time.monotonic()
    lists.put("u", "home", replica, LastList(slots, np.ones(n, np.uint32), scores, ("popular",), ("x", "1"), made_at))
    return lists


def test_no_other_item_gets_the_slot_of_one_that_is_gone() -> None:
    """R10"""
    replica = replica_of("a", "b", "c")
    lists = remembered(replica, "a", "b", "c")
    replica.apply({CATALOGUE: {"b": None}})
    replica.apply({CATALOGUE: {"d": Item(item_id="d")}})

    found = lists.get("u", "home", replica)

    assert found is not None
    assert replica.item_ids(found.slots) == ["a", "b", "c"], "filters leave out what is not served any more"


def test_after_all_was_loaded_again_it_names_the_same_items_by_their_new_slots() -> None:
    """R10"""
    lists = remembered(replica_of("a", "b", "c"), "a", "b", "c")
    loaded_again = replica_of("c", "d", "a")

    found = lists.get("u", "home", loaded_again)

    assert found is not None
    assert loaded_again.item_ids(found.slots) == ["a", "c"]
    assert found.scores.tolist() == [3.0, 1.0]
