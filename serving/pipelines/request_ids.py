"""Ids of list requests: they tell when the list was made and in which partition of `impressions` it is logged."""

import os
import re
from typing import NamedTuple

_ID = re.compile(r"([0-9a-f]{12})([0-9a-f]{4})[0-9a-f]{16}")
NOWHERE = 0xFFFF
"""The partition of a list that is not logged: it was for nobody in particular."""


class Made(NamedTuple):
    """When and where."""

    ts: int
    """Epoch ms."""
    partition: int


def new_request_id(ts: int, partition: int) -> str:
    """Return a new id, 32 hexadecimal digits: 12 of the time in epoch ms, 4 of the partition, 16 at random."""
    return f"{ts:012x}{partition:04x}{os.urandom(8).hex()}"


def made(request_id: str) -> Made | None:
    """Return what an id tells, None for one that was not made here."""
    found = _ID.fullmatch(request_id)
    return None if found is None else Made(int(found[1], 16), int(found[2], 16))
