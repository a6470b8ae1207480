"""Filter expressions: what they mean, against plain Python, and how they are refused."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from online_models.catalogue.attributes import Attributes
from online_models.catalogue.expressions import MAX_TERMS, Any_, Comparison, ExpressionError, parse, parse_boosts
from state.records import Item

Meaning = Callable[[Item], bool]

_WORDS = st.sampled_from(["War", "Drama", "and", "x y", "7"])
_YEARS = st.sampled_from(["1999", "2001", "2001-05", "2001-05-20"])
ITEMS = st.builds(
    Item,
    item_id=st.just("i"),
    genres=st.lists(_WORDS, max_size=3),
    creator=st.none() | _WORDS,
    price=st.none() | st.integers(0, 9).map(float),
    release_date=st.none() | _YEARS,
    attributes=st.dictionaries(st.sampled_from(["n", "s"]), st.integers(0, 9) | _WORDS, max_size=2),
)


@st.composite
def _terms(draw: st.DrawFn) -> tuple[str, Meaning]:
    word = draw(_WORDS)
    number = draw(st.integers(0, 9))
    comparator, compare = draw(st.sampled_from(list(_COMPARE.items())))
    return draw(
        st.sampled_from(
            [
                (f"genre:any('{word}',War)", lambda item: bool({word, "War"} & set(item.genres))),
                (f'genre:ALL("{word}", Drama)', lambda item: {word, "Drama"} <= set(item.genres)),
                (f"genre:none('{word}')", lambda item: word not in item.genres),
                (f"creator='{word}'", lambda item: item.creator == word),
                (f"creator != '{word}'", lambda item: item.creator != word),
                (f"price{comparator}{number}", lambda item: item.price is not None and compare(item.price, number)),
                (
                    f"release_date {comparator} 2001-01-01",
                    lambda item: item.release_date is not None and compare(_first_day(item.release_date), 20010101),
                ),
                (
                    f"attributes.n{comparator}{number}",
                    lambda item: (value := _number(item, comparator)) is not None and compare(value, number),
                ),
            ]
        )
    )


_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "=": lambda a, b: a == b,
}


def _first_day(date: str) -> int:
    return int((date + "-01-01")[:10].replace("-", ""))


def _number(item: Item, comparator: str) -> float | None:
    value: Any = item.attributes.get("n")
    return float(value) if isinstance(value, int) or (value == "7" and comparator == "=") else None


def _joined(children: st.SearchStrategy[tuple[str, Meaning]]) -> st.SearchStrategy[tuple[str, Meaning]]:
    def negated(of: tuple[str, Meaning]) -> tuple[str, Meaning]:
        return f"not ({of[0]})", lambda item: not of[1](item)

    def both(one: tuple[str, Meaning], other: tuple[str, Meaning]) -> tuple[str, Meaning]:
        return f"({one[0]}) and ({other[0]})", lambda item: one[1](item) and other[1](item)

    def either(one: tuple[str, Meaning], other: tuple[str, Meaning]) -> tuple[str, Meaning]:
        return f"({one[0]} OR {other[0]})", lambda item: one[1](item) or other[1](item)

    return children.map(negated) | st.builds(both, children, children) | st.builds(either, children, children)


@given(st.lists(ITEMS, min_size=1, max_size=12), st.recursive(_terms(), _joined, max_leaves=6))
def test_a_mask_is_what_plain_python_says(items: list[Item], filtered: tuple[str, Meaning]) -> None:
    """R3"""
    text, meaning = filtered
    attributes = Attributes()
    for slot, item in enumerate(items):
        attributes.replace(slot, items[0] if slot else None, None)  # what was there before leaves nothing
        attributes.replace(slot, None, item)
        if slot:
            attributes.replace(0, None, items[0])
    mask = attributes.mask(parse(text), len(items) + 2)
    assert mask[: len(items)].tolist() == [meaning(item) for item in items]


def test_a_mask_is_kept_until_the_catalogue_changes() -> None:
    attributes = Attributes()
    attributes.replace(0, None, Item(item_id="a", genres=["War"]))
    expression = parse("genre=War")
    mask = attributes.mask(expression, 2)
    assert attributes.mask(parse("genre=War"), 2) is mask
    attributes.replace(1, None, Item(item_id="b", genres=["War"]))
    assert attributes.mask(expression, 2).all()
    attributes.replace(0, Item(item_id="a", genres=["War"]), None)
    np.testing.assert_array_equal(attributes.mask(expression, 2), [False, True])


def test_not_binds_tighter_than_and_and_that_than_or() -> None:
    """R3"""
    assert _bare("not a=1 and b=2 or c=3") == _bare("((not a=1) and b=2) or c=3")


def _bare(text: str) -> str:
    return "".join(part for part in repr(parse(text)).split("position=") for part in part.lstrip("0123456789"))


@pytest.mark.parametrize(
    ("text", "position", "allowed"),
    [
        ("price<=", 7, "a name or a value"),
        ("price 3", 6, "= != < <= > >="),
        ("genre:some(x)", 6, "any, all, none"),
        ("price=1)", 7, "the end"),
        ("genre=War and colour=red", 14, "genre"),
        ("price:any(1)", 0, "<="),
        ("not genre<3", 4, ":any()"),
        ("price<cheap", 0, "a number"),
        ("release_date>soon", 0, "YYYY"),
    ],
)
def test_what_is_wrong_is_told_with_its_position(text: str, position: int, allowed: str) -> None:
    """R3"""
    with pytest.raises(ExpressionError) as refused:
        Attributes().check(parse(text))
    assert refused.value.position == position
    assert allowed in refused.value.allowed


def test_an_expression_has_bounds() -> None:
    with pytest.raises(ExpressionError):
        parse("price=1 or " * MAX_TERMS + "price=2")
    with pytest.raises(ExpressionError):
        parse("(" * 5000)


def test_boosts_are_factors_with_conditions() -> None:
    """R9"""
    two, half = parse_boosts('2 if genre:any(Drama,War) or title="if, and", 0.5 IF price>20')
    assert (two.factor, half.factor) == (2.0, 0.5)
    assert isinstance(two.condition, Any_)
    assert isinstance(two.condition.parts[1], Comparison)
    assert two.condition.parts[1].value == "if, and"
    assert isinstance(half.condition, Comparison)
    assert half.condition.value == "20"


@pytest.mark.parametrize("text", ["", "2", "2 if", "if genre=War", "2 if a=b 3 if a=b", "x if a=b", "2e9 if a=b"])
def test_boosts_that_mean_nothing_are_refused(text: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse_boosts(text)
    assert caught.value.allowed
