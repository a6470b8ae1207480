"""Which files are put together (R26)."""

from flows.lake.files import TARGET_BYTES, LakeFile, to_compact

NOW = 1_790_000_000_000
OLD = NOW - 7_200_000


def files(
    n: int, date: str = "2026-01-02", event_type: str = "click", n_bytes: int = 1000, at: int = OLD
) -> list[LakeFile]:
    return [LakeFile(f"{date}-{k}", n_bytes, 1, at, {"date": date, "type": event_type}) for k in range(n)]


def found(*lists: list[LakeFile]) -> list[dict[str, str]]:
    every = [file for group in lists for file in group]
    return [dict(p) for p in to_compact(every, ("date", "type"), "2026-01-02", NOW)]


def test_many_small_files_are_put_together_also_today() -> None:
    assert found(files(24)) == [{"date": "2026-01-02", "type": "click"}]
    assert found(files(23)) == []
    assert found(files(12), files(12, event_type="view")) == []


def test_a_closed_date_becomes_one_file_once_nothing_comes_any_more() -> None:
    assert found(files(2, "2026-01-01")) == [{"date": "2026-01-01", "type": "click"}]
    assert found(files(1, "2026-01-01")) == []
    assert found(files(2, "2026-01-01", at=NOW - 1000)) == []


def test_large_files_are_left_alone() -> None:
    assert found(files(50, n_bytes=TARGET_BYTES), files(1)) == []


def test_the_worst_come_first() -> None:
    assert [p["date"] for p in found(files(3, "2026-01-01"), files(30))] == ["2026-01-02", "2026-01-01"]


def test_a_table_without_partitions() -> None:
    items = [LakeFile(str(k), 10, 1, NOW, {}) for k in range(24)]
    assert to_compact(items, (), "2026-01-02", NOW) == [()]
    assert to_compact(items[:3], (), "2026-01-02", NOW) == []
    assert to_compact(items[:3], (), all_of_it=True) == [()]
