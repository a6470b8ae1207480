"""Short numbers for item ids."""

import numpy as np

from online_models.fingerprints import SIZE, Fingerprints, pack_ids


def test_items_are_found_again_by_their_fingerprints_at_other_slots() -> None:
    """R4"""
    ids = [f"item-{n}" for n in range(5000)]
    here, there = Fingerprints(), Fingerprints()
    for slot, item_id in enumerate(ids):
        here.put(slot, item_id)
        there.put(len(ids) - 1 - slot, item_id)
    slots = np.array([3, 4999, 0, 77], np.int32)
    packed = here.pack(slots)
    assert len(packed) == SIZE * len(slots)
    assert packed == pack_ids(ids[slot] for slot in slots)
    assert sorted(there.find(packed).tolist()) == sorted(len(ids) - 1 - slots)
    assert not len(Fingerprints().find(packed))
    assert not len(here.find(b""))
