"""Digests of state: equal where the log is, whatever the order and the moment."""

from ops.operating.digest import Digest
from ops.operating.rebuild_command import compared
from state.records import Activity, UserProfile


def digest(*rows: tuple[str, object]) -> Digest:
    found = Digest()
    for name, value in rows:
        found.add(name, value)
    return found


def test_the_order_of_rows_and_of_fields_does_not_matter() -> None:
    one, other = UserProfile(seen={"a": 1, "b": 2}), UserProfile(seen={"b": 2, "a": 1})
    panes = Activity(panes={30: {"click": 1}, 61: {"view": 2}})
    assert digest(("u1", one), ("u2", panes)) == digest(("u2", panes), ("u1", other))


def test_another_value_name_or_row_is_another_digest() -> None:
    row = ("u1", UserProfile(last_ts=1))
    assert len({str(digest(*rows)) for rows in ([row], [row, row], [("u2", row[1])], [("u1", UserProfile())], [])}) == 5


def test_what_differs_is_told_by_kind() -> None:
    was = {"profiles": digest(("u1", 1)), "sessions": digest()}
    built = {"profiles": digest(("u1", 2)), "sessions": digest()}
    assert [(kind.kind, kind.is_equal) for kind in compared(was, built)] == [("profiles", False), ("sessions", True)]
