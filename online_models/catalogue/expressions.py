"""Filter expressions over what the catalogue says of items: `genre:any(Drama,War) and price<=20 and not creator=X`."""

from functools import lru_cache
from math import nan
from typing import Any, Literal

import lark
from msgspec import Struct

MAX_CHARACTERS = 2000
MAX_TERMS = 64
MAX_FACTOR = 1000.0

_GRAMMAR = r"""
?start: either
boosts: boost ("," boost)*
boost: WORD "if"i either
?either: both ("or"i both)*
?both: single ("and"i single)*
?single: "not"i single -> negation
    | "(" either ")"
    | name ":" QUANTIFIER "(" value ("," value)* ")" -> labels
    | name COMPARISON value -> comparison
name: WORD | STRING
value: WORD | STRING
QUANTIFIER.2: "any"i | "all"i | "none"i
COMPARISON: "<=" | ">=" | "!=" | "=" | "<" | ">"
WORD: /[^\s():,<>=!"']+/i
STRING: /"[^"]*"|'[^']*'/
%ignore /\s+/
"""

_SPOKEN = {
    "WORD": "a name or a value",
    "STRING": '"a quoted value"',
    "QUANTIFIER": "any, all, none",
    "COMPARISON": "= != < <= > >=",
    "COLON": ":any(...)",
    "LPAR": "(",
    "RPAR": ")",
    "COMMA": ",",
    "$END": "the end",
}

Comparator = Literal["=", "!=", "<", "<=", ">", ">="]


class ExpressionError(ValueError):
    """An expression that cannot be understood, or asks for what no item has."""

    def __init__(self, reason: str, position: int, allowed: list[str]) -> None:
        super().__init__(reason)
        self.position = position
        """Of the first character that is wrong, from 0."""
        self.allowed = allowed


class Labels(Struct, frozen=True, tag=True):
    """The item has any, all or none of the labels."""

    attribute: str
    quantifier: Literal["any", "all", "none"]
    values: tuple[str, ...]
    position: int = 0


class Comparison(Struct, frozen=True, tag=True):
    """The attribute is known and compares so. `!=` is the opposite of `=`: also true where it is unknown."""

    attribute: str
    comparator: Comparator
    value: str
    position: int = 0


class Not(Struct, frozen=True, tag=True):
    """The opposite."""

    of: "Expression"


class All(Struct, frozen=True, tag=True):
    """Every part holds."""

    parts: tuple["Expression", ...]


class Any_(Struct, frozen=True, tag=True):  # noqa: N801 - `Any` is typing's
    """One part at least holds."""

    parts: tuple["Expression", ...]


Expression = Labels | Comparison | Not | All | Any_


class Boost(Struct, frozen=True):
    """Scores of the items that the condition holds for are multiplied."""

    factor: float
    condition: Expression


class _Builder(lark.Transformer[lark.Token, Any]):
    """Makes the expression while it is parsed."""

    def name(self, children: list[lark.Token]) -> lark.Token:
        return _unquoted(children[0])

    value = name

    def labels(self, children: list[lark.Token]) -> Labels:
        name, quantifier, *values = children
        return Labels(str(name), quantifier.lower(), tuple(map(str, values)), name.start_pos or 0)  # type: ignore[arg-type]

    def comparison(self, children: list[lark.Token]) -> Comparison:
        name, comparator, value = children
        return Comparison(str(name), str(comparator), str(value), name.start_pos or 0)  # type: ignore[arg-type]

    def boosts(self, children: list[Boost]) -> tuple[Boost, ...]:
        return tuple(children)

    def boost(self, children: list[Any]) -> Boost:
        factor, condition = children
        return Boost(_factor(factor), condition)

    def negation(self, children: list[Expression]) -> Expression:
        (of,) = children
        return of.of if isinstance(of, Not) else Not(of)

    def both(self, children: list[Expression]) -> All:
        return All(tuple(children))

    def either(self, children: list[Expression]) -> Any_:
        return Any_(tuple(children))


def _unquoted(token: lark.Token) -> lark.Token:
    return token.update(value=token[1:-1]) if token.type == "STRING" else token


def _factor(token: lark.Token) -> float:
    try:
        factor = float(token)
    except ValueError:
        factor = nan
    if not 0.0 <= factor <= MAX_FACTOR:
        raise ExpressionError(
            f"{str(token)!r} at position {token.start_pos} is no factor", token.start_pos or 0, [f"0..{MAX_FACTOR:g}"]
        )
    return factor


_parser = lark.Lark(
    _GRAMMAR, parser="lalr", start=["start", "boosts"], transformer=_Builder(), maybe_placeholders=False
)


@lru_cache(maxsize=256)
def parse(text: str) -> Expression:
    """Return the expression. Raise `ExpressionError`."""
    expression: Expression = _parsed(text, "start")
    _check_number(list(terms_of(expression)))
    return expression


@lru_cache(maxsize=256)
def parse_boosts(text: str) -> tuple[Boost, ...]:
    """Return what `2 if genre:any(Drama,War), 0.5 if price>20` says. Raise `ExpressionError`."""
    boosts: tuple[Boost, ...] = _parsed(text, "boosts")
    _check_number([term for boost in boosts for term in terms_of(boost.condition)])
    return boosts


def _check_number(terms: list[Labels | Comparison]) -> None:
    if len(terms) > MAX_TERMS:
        raise ExpressionError(f"{len(terms)} conditions, at most {MAX_TERMS} are taken", terms[MAX_TERMS].position, [])


def _parsed(text: str, start: str) -> Any:
    if len(text) > MAX_CHARACTERS:
        raise ExpressionError(f"longer than {MAX_CHARACTERS} characters", MAX_CHARACTERS, [])
    try:
        return _parser.parse(text, start=start)
    except lark.UnexpectedInput as error:
        position = len(text) if error.pos_in_stream is None or error.pos_in_stream < 0 else error.pos_in_stream
        accepted = getattr(error, "accepts", None) or getattr(error, "expected", None) or error.allowed  # type: ignore[attr-defined]
        if isinstance(error, lark.UnexpectedToken) and error.token.type == "$END":
            position = len(text)
        raise ExpressionError(
            f"not understood at position {position}: {_excerpt(text, position)}", position, _spoken(accepted)
        ) from error
    except lark.exceptions.VisitError as error:
        raise error.orig_exc from error


def terms_of(expression: Expression) -> list[Labels | Comparison]:
    """Return the conditions in order."""
    terms: list[Labels | Comparison] = []
    left = [expression]
    while left:
        part = left.pop()
        if isinstance(part, Labels | Comparison):
            terms.append(part)
        elif isinstance(part, Not):
            left.append(part.of)
        else:
            left.extend(reversed(part.parts))
    return terms


def _excerpt(text: str, position: int) -> str:
    return repr(text[position : position + 20]) if position < len(text) else "something is missing at the end"


def _spoken(names: Any) -> list[str]:
    return sorted({_SPOKEN.get(name, name.lower()) for name in names or ()})
