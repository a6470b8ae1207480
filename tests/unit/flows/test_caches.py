from flows.common.caches import LruCache, Newest


def test_what_has_not_changed_for_longest_goes_first() -> None:
    cache: LruCache[str] = LruCache(len, capacity=8)
    for new, changed in ("ab", "ab"), ("c", "ca"), ("d", "d"):
        cache.update(dict.fromkeys(new, "xx"))
        cache.trim(changed)
    assert [key for key in "abcd" if key in cache] == ["a", "c", "d"]


def test_grown_value_is_weighed_again() -> None:
    cache: LruCache[list[int]] = LruCache(len, capacity=16)
    cache["a"], cache["b"] = [1] * 6, [1] * 2
    cache.trim("ab")
    assert len(cache) == 2
    cache["b"].extend(range(5))
    cache.trim("b")
    assert list(cache) == ["b"]


def test_there_is_room_for_as_much_as_came_last_time() -> None:
    """Memory stays what it is between two flushes, too."""
    cache: LruCache[str] = LruCache(len, capacity=10)
    most = []
    for n in range(20):
        new = [f"{n}-{k}" for k in range(3)]
        cache.update(dict.fromkeys(new, "x"))
        most.append(len(cache))
        cache.trim(new)
    assert max(most) == most[-1] == 10


def test_what_fits_stays_when_nothing_else_comes() -> None:
    cache: LruCache[str] = LruCache(len, capacity=10)
    loaded = []
    for _ in range(8):
        missing = set("abcdefghi").difference(cache)
        loaded.append(len(missing))
        cache.update(dict.fromkeys(missing, "x"))
        cache.trim("abcdefghi")
    assert loaded[0] == 9
    assert loaded[-1] == 0


def test_of_too_many_values_those_that_came_first_go() -> None:
    newest: Newest[str, int] = Newest(2)
    for n, key in enumerate(["a", "b", "a", "c"]):
        newest.remember(key, n)

    assert dict(newest) == {"b": 1, "c": 3}, "a value that is replaced stays where it was"
