"""From results to numbers (R28)."""

from state.metric_readings import Readings
from state.metrics import BY_NAME

MINUTE = 60_000
WINDOW = (MINUTE, 600_000, "surface=home")


def test_partitions_and_families_are_put_together() -> None:
    found = Readings()
    found.add("slates", WINDOW, 0, {"items": 60, "slates": 3}, final=False)
    found.add("slates", WINDOW, 1, {"items": 40, "slates": 2}, final=True)
    found.add("outcomes", WINDOW, 1, {"click": 5}, final=True)
    reading = found.read(BY_NAME["ctr"], WINDOW)
    assert reading is not None
    assert (reading.value, reading.final) == (0.05, False)
    assert found.changed() == [WINDOW]
    assert found.changed() == []


def test_a_newer_result_replaces_the_one_of_its_partition() -> None:
    found = Readings()
    for items in (20, 40, 60):
        found.add("slates", WINDOW, 0, {"items": items}, final=items == 60)
    found.add("slates", WINDOW, 0, {"items": 40}, final=False)  # told again after a crash, before the final one is
    reading = found.read(BY_NAME["impressions"], WINDOW)
    assert reading is not None
    assert (reading.value, reading.final) == (60, True)


def test_what_has_no_sums_has_no_value() -> None:
    found = Readings()
    found.add("events", (MINUTE, 0, ""), 0, {"click": 1}, final=True)
    assert found.read(BY_NAME["ctr"], (MINUTE, 0, "")) is None
    assert found.read(BY_NAME["slates"], (MINUTE, 0, "")) is None
    assert found.read(BY_NAME["slates"], (MINUTE, MINUTE, "")) is None


def test_a_series_is_in_order_of_time() -> None:
    found = Readings()
    for minute in (3, 1, 2):
        found.add("events", (MINUTE, minute * MINUTE, ""), 0, {"click": minute}, final=True)
        found.add("events", (5 * MINUTE, 0, ""), 0, {"click": 6}, final=True)
    assert [reading.value for reading in found.series(BY_NAME["events"], MINUTE, "")] == [1, 2, 3]
    assert found.cuts(MINUTE) == [""]
    found.forget([(MINUTE, MINUTE, "")])
    assert [reading.value for reading in found.series(BY_NAME["events"], MINUTE, "")] == [2, 3]
