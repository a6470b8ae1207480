"""`freshet bench endless` counts what is held; memory itself is not tested here (R14)."""

from ops.bench.endless import measure


def test_far_more_items_and_users_than_may_be_held_come_and_go() -> None:
    """R14: 500 items and 800 users pass through a learner that holds 200 of each."""
    done: list[tuple[int, int]] = []
    figures = {figure.name: figure for figure in measure(10_000, 200, 200, lambda *at: done.append(at)).figures}
    assert figures["items held"].value <= 200
    assert figures["users held"].value <= 200
    assert figures["items forgotten"].value > 200
    assert done[-1] == (20, 20)
