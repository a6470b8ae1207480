"""What filters ask of items: an index of their labels, columns of their numbers and dates, and masks over all slots."""

import re
from collections import OrderedDict
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from online_models.arrays import Slots, as_slots, grown
from online_models.catalogue.expressions import All, Comparison, Expression, ExpressionError, Labels, Not, terms_of
from state.records import Item

Mask = NDArray[np.bool_]

LABELS = ("genre", "category", "creator", "tag", "age_rating")
NUMBERS = ("price",)
DATES = ("release_date",)
OWN = "attributes."
"""Before the name of an item's own attribute."""
_MASKS = 64
_DATE = re.compile(r"(\d{4})(?:-(0[1-9]|1[0-2])(?:-(0[1-9]|[12]\d|3[01]))?)?")


class Attributes:
    """Follows the catalogue. A date given by year or month begins with the first day of it."""

    def __init__(self) -> None:
        self._labels: dict[str, dict[str, set[int]]] = {name: {} for name in LABELS}
        self._numbers: dict[str, NDArray[np.float64]] = {name: np.full(0, np.nan) for name in (*NUMBERS, *DATES)}
        self.version = 0
        """Changes with the catalogue."""
        self._masks: OrderedDict[Expression, Mask] = OrderedDict()
        self._slots: dict[tuple[str, str], Slots] = {}
        """Those of `_labels` that were asked for, as arrays."""

    def replace(self, slot: int, before: Item | None, after: Item | None) -> None:
        """Follow one change of the catalogue."""
        self._masks.clear()
        self.version += 1
        if before is not None:
            for name, label in _labels(before):
                self._labels[name][label].discard(slot)
                self._slots.pop((name, label), None)
            for name, _ in _numbers(before):
                self._numbers[name][slot] = np.nan
        if after is not None:
            for name, label in _labels(after):
                self._labels.setdefault(name, {}).setdefault(label, set()).add(slot)
                self._slots.pop((name, label), None)
            for name, number in _numbers(after):
                column = grown(self._numbers.get(name, np.full(0, np.nan)), slot + 1, np.nan)
                column[slot] = number
                self._numbers[name] = column

    def check(self, expression: Expression) -> None:
        """Raise `ExpressionError` for attributes that no item has, and comparisons that mean nothing."""
        for term in terms_of(expression):
            name = term.attribute
            if name not in self._labels and name not in self._numbers:
                raise ExpressionError(
                    f"{name!r} at position {term.position} is no attribute", term.position, self.names()
                )
            if isinstance(term, Comparison):
                _check_comparison(term)
            elif name in NUMBERS or name in DATES:
                raise ExpressionError(f"{name!r} is compared, it has no labels", term.position, _COMPARATORS)

    def names(self) -> list[str]:
        """Return all attributes that a filter may name."""
        return sorted(self._labels.keys() | self._numbers.keys())

    def mask(self, expression: Expression, n_slots: int) -> Mask:
        """Return True where the expression holds; kept until the catalogue changes. Not to be written to."""
        mask = self._masks.get(expression)
        if mask is None or len(mask) != n_slots:
            mask = self._masks[expression] = self._evaluated(expression, n_slots)
            if len(self._masks) > _MASKS:
                self._masks.popitem(last=False)
        self._masks.move_to_end(expression)
        return mask

    def _evaluated(self, expression: Expression, n_slots: int) -> Mask:
        if isinstance(expression, Labels):
            masks = [self._labelled(expression.attribute, value, n_slots) for value in expression.values]
            if expression.quantifier == "all":
                return np.asarray(np.logical_and.reduce(masks))
            some = np.asarray(np.logical_or.reduce(masks))
            return some if expression.quantifier == "any" else ~some
        if isinstance(expression, Comparison):
            return self._compared(expression, n_slots)
        if isinstance(expression, Not):
            return ~self._evaluated(expression.of, n_slots)
        parts = [self._evaluated(part, n_slots) for part in expression.parts]
        joined = np.logical_and if isinstance(expression, All) else np.logical_or
        return np.asarray(joined.reduce(parts))

    def _labelled(self, name: str, label: str, n_slots: int) -> Mask:
        slots = self._slots.get((name, label))
        if slots is None:
            known = self._labels.get(name, {}).get(label)
            if not known:
                return np.zeros(n_slots, np.bool_)
            slots = self._slots[name, label] = as_slots(known)
        mask = np.zeros(n_slots, np.bool_)
        mask[slots] = True
        return mask

    def _compared(self, term: Comparison, n_slots: int) -> Mask:
        if term.comparator == "!=":
            return ~self._compared(Comparison(term.attribute, "=", term.value), n_slots)
        mask = np.zeros(n_slots, np.bool_)
        if term.comparator == "=":
            mask |= self._labelled(term.attribute, term.value, n_slots)
        column = self._numbers.get(term.attribute)
        span = None if term.attribute in LABELS else _span(term)
        if column is None or span is None:
            return mask
        lowest, highest = span
        known = column[:n_slots]
        within = {
            "=": (known >= lowest) & (known <= highest),
            "<": known < lowest,
            "<=": known <= highest,
            ">": known > highest,
            ">=": known >= lowest,
        }[term.comparator]
        mask[: len(within)] |= within
        return mask


_COMPARATORS = ["=", "!=", "<", "<=", ">", ">="]


def _check_comparison(term: Comparison) -> None:
    name, ordered = term.attribute, term.comparator not in ("=", "!=")
    if name in LABELS:
        if ordered:
            raise ExpressionError(f"{name!r} is not ordered", term.position, ["=", "!=", ":any()", ":all()", ":none()"])
    elif name in DATES:
        if _days(term.value) is None:
            raise ExpressionError(f"{term.value!r} is no date", term.position, ["YYYY-MM-DD", "YYYY-MM", "YYYY"])
    elif (name in NUMBERS or ordered) and _span(term) is None:
        raise ExpressionError(f"{term.value!r} is no number", term.position, ["a number"])


def _labels(item: Item) -> Iterator[tuple[str, str]]:
    for genre in item.genres:
        yield "genre", genre
    for tag in item.tags:
        yield "tag", tag
    for name in ("category", "creator", "age_rating"):
        if (label := getattr(item, name)) is not None:
            yield name, label
    for name, value in item.attributes.items():
        if isinstance(value, bool):
            yield OWN + name, "true" if value else "false"
        elif isinstance(value, str):
            yield OWN + name, value
        elif isinstance(value, list):
            for label in value:
                yield OWN + name, label


def _numbers(item: Item) -> Iterator[tuple[str, float]]:
    if item.price is not None:
        yield "price", item.price
    if item.release_date is not None and (days := _days(item.release_date)) is not None:
        yield "release_date", days[0]
    for name, value in item.attributes.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            yield OWN + name, float(value)
        elif isinstance(value, str) and "-" in value and (days := _days(value)) is not None:
            yield OWN + name, days[0]


def _span(term: Comparison) -> tuple[float, float] | None:
    """Return the lowest and the highest number that a literal means: a year is all its days."""
    if term.attribute in DATES or "-" in term.value[1:]:
        days = _days(term.value)
        if days is not None:
            return days
    number = _number(term.value)
    return None if number is None else (number, number)


def _days(text: str) -> tuple[float, float] | None:
    """Return the first and the last day of a date, as yyyymmdd; None when it is none."""
    found = _DATE.fullmatch(text)
    if found is None:
        return None
    year, month, day = found.groups()
    first = f"{year}{month or '01'}{day or '01'}"
    return float(first), float(f"{year}{month or '12'}{day or '31'}")


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if np.isfinite(number) else None
