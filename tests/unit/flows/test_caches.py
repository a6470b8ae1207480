from flows.common.caches import LruCache, Newest


def test_what_has_not_changed_for_longest_goes_first() -> None:
    cache: LruCache[str] = LruCache(len, capacity=6)
    for key in "abc":
        cache[key] = "xx"
    cache.trim("abc")
    cache["d"] = "xx"
    cache.trim("ad")
    assert [key for key in "abcd" if key in cache] == ["a", "c", "d"]


def test_grown_value_is_weighed_again() -> None:
    cache: LruCache[list[int]] = LruCache(len, capacity=5)
    cache["a"], cache["b"] = [1], [1]
    cache.trim("ab")
    cache["b"].extend(range(4))
    cache.trim("b")
    assert "a" not in cache
    assert len(cache) == 1


def test_of_too_many_values_those_that_came_first_go() -> None:
    newest: Newest[str, int] = Newest(2)
    for n, key in enumerate(["a", "b", "a", "c"]):
        newest.remember(key, n)

    assert dict(newest) == {"b": 1, "c": 3}, "a value that is replaced stays where it was"
