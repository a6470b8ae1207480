"""What the parameters of a list request come to: one expression for the filter and its shorthands, boosts, defaults."""

from collections.abc import Mapping
from functools import cache
from math import isfinite
from typing import Any, TypeVar

from msgspec.structs import fields, replace

from online_models.catalogue.expressions import (
    All,
    Boost,
    Comparison,
    Expression,
    ExpressionError,
    Labels,
    parse,
    parse_boosts,
)
from serving.contract.problems import ProblemError
from serving.contract.queries import ListQuery

L = TypeVar("L", bound=ListQuery)


def wanted(query: ListQuery) -> Expression | None:
    """Return it, None when everything is wanted. Raise `ProblemError` for what nobody can mean."""
    parts: list[Expression] = [
        Labels(name, "any", tuple(labels))
        for name, labels in (
            ("genre", query.genre),
            ("category", query.category),
            ("creator", query.creator),
            ("tag", query.tag),
            ("age_rating", query.age_rating),
        )
        if labels
    ]
    if query.price_min is not None:
        parts.append(Comparison("price", ">=", str(query.price_min)))
    if query.price_max is not None:
        parts.append(Comparison("price", "<=", str(query.price_max)))
    if query.released_after is not None:
        parts.append(Comparison("release_date", ">=", query.released_after))
    if query.released_before is not None:
        parts.append(Comparison("release_date", "<", query.released_before))
    if query.filter is not None:
        try:
            parts.append(parse(query.filter))
        except ExpressionError as error:
            raise not_understood(error) from error
    if not parts:
        return None
    _refuse_contradictions(query)
    return parts[0] if len(parts) == 1 else All(tuple(parts))


def boosts(query: ListQuery) -> tuple[Boost, ...]:
    """Return by what scores are multiplied. Raise `ProblemError` for what nobody can mean."""
    if query.booster is None:
        return ()
    try:
        return parse_boosts(query.booster)
    except ExpressionError as error:
        raise not_understood(error, "booster") from error


def check_user(query: ListQuery, has_user: bool, has_history: bool) -> None:
    """Raise `ProblemError` for parameters that need what the request does not have.

    `has_user`: somebody of whom is remembered what was shown; `has_history`: somebody of whom is known what was taken.
    """
    if query.seen == "only" and not has_history:
        raise ProblemError(400, "seen: `only` needs a user", field="seen", allowed=["hide", "show"])
    if query.rotation and not has_user:
        raise ProblemError(400, "rotation: needs a user, who was shown something", field="rotation", allowed=["0"])
    if query.rotation_time is not None and not query.rotation:
        raise ProblemError(
            400, "rotation_time: means nothing without rotation", field="rotation_time", allowed=["rotation above 0"]
        )


def filled(query: L, parameters: Mapping[str, Any]) -> L:
    """Return the query with these values of parameters that it leaves at their defaults."""
    if not parameters:
        return query
    defaults = _defaults(type(query))
    given = {name: value for name, value in parameters.items() if getattr(query, name) == defaults[name]}
    return replace(query, **given) if given else query


@cache
def _defaults(kind: type[ListQuery]) -> Mapping[str, Any]:
    return {field.name: field.default for field in fields(kind)}


def not_understood(error: ExpressionError, parameter: str = "filter") -> ProblemError:
    """Return the problem of an expression."""
    return ProblemError(400, f"{parameter}: {error}", field=parameter, allowed=error.allowed or None)


def _refuse_contradictions(query: ListQuery) -> None:
    low, high = query.price_min, query.price_max
    for name, price in (("price_min", low), ("price_max", high)):
        if price is not None and not isfinite(price):
            raise ProblemError(400, f"{name}: {price} is no price", field=name, allowed=["a finite number"])
    if low is not None and high is not None and low > high:
        raise ProblemError(
            400, f"price_min: {low} is above price_max, which is {high}", field="price_min", allowed=[f"0..{high}"]
        )
    first, end = query.released_after, query.released_before
    if first is not None and end is not None and first >= end:
        raise ProblemError(
            400,
            f"released_after: {first} is not before released_before, which is {end}",
            field="released_after",
            allowed=[f"before {end}"],
        )
