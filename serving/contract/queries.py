"""Query parameters of the list surfaces: one struct each, which validates them and is published as OpenAPI."""

import functools
from collections.abc import Mapping
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from online_models.catalogue.expressions import MAX_CHARACTERS
from serving.contract.problems import ProblemError
from state.records import Identifier, ShortText
from state.validation import InvalidInputError, check_identifier, field_and_reason

MAX_IDENTIFIER = 128
MAX_ROTATION_S = 7 * 24 * 3600
ROTATION_S = 3600
"""`rotation_time` where none is given."""
Date = Annotated[
    str,
    Meta(pattern=r"^\d{4}(-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]))?)?$", examples=["1990", "1990-06", "1990-06-15"]),
]
Q = TypeVar("Q", bound=Struct)


class NoQuery(Struct, forbid_unknown_fields=True, frozen=True):
    """A call without parameters."""


class ListQuery(Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """What every list surface understands."""

    limit: Annotated[int, Meta(ge=1, le=100, description="items wanted")] = 20
    page: (
        Annotated[str, Meta(min_length=1, max_length=8000, description="`next` of the answer to go on from")] | None
    ) = None
    genre: Annotated[list[ShortText], Meta(max_length=64, description="only items of one of these genres")] = []
    category: Annotated[list[ShortText], Meta(max_length=64, description="only items of one of these categories")] = []
    creator: Annotated[list[ShortText], Meta(max_length=64, description="only items of one of these creators")] = []
    tag: Annotated[list[ShortText], Meta(max_length=64, description="only items with one of these tags")] = []
    age_rating: Annotated[list[ShortText], Meta(max_length=64, description="only items rated so")] = []
    price_min: Annotated[float, Meta(ge=0, description="lowest price, inclusive")] | None = None
    price_max: Annotated[float, Meta(ge=0, description="highest price, inclusive")] | None = None
    released_after: (
        Annotated[Date, Meta(description="released on this date, or in this year or month, or later")] | None
    ) = None
    released_before: Annotated[Date, Meta(description="released before this date")] | None = None
    filter: (
        Annotated[
            str,
            Meta(
                min_length=1,
                max_length=MAX_CHARACTERS,
                description="an expression, such as `genre:any(Drama,War) and price<=20 and not creator=X`",
            ),
        ]
        | None
    ) = None
    booster: (
        Annotated[
            str,
            Meta(
                min_length=1,
                max_length=MAX_CHARACTERS,
                description="multiplies scores, such as `2 if genre:any(Drama,War), 0.5 if price>20`",
            ),
        ]
        | None
    ) = None
    min_relevance: Annotated[
        float, Meta(ge=0, le=1, description="only items with at least this share of the best candidate's score")
    ] = 0.0
    rotation: Annotated[
        float, Meta(ge=0, le=1, description="share of its score that an item loses by having been shown just now")
    ] = 0.0
    rotation_time: (
        Annotated[int, Meta(ge=1, le=MAX_ROTATION_S, description="seconds after which it has its whole score again")]
        | None
    ) = None
    fields: Annotated[
        list[
            Literal[
                "title",
                "genres",
                "category",
                "price",
                "tags",
                "description",
                "creator",
                "release_date",
                "age_rating",
                "attributes",
            ]
        ],
        Meta(max_length=10, description="what is told of each item; by default title, genres and release_date"),
    ] = []
    exclude: Annotated[list[Identifier], Meta(max_length=1000, description="item ids to leave out")] = []
    seen: Annotated[
        Literal["hide", "show", "only"], Meta(description="what becomes of items that the user has consumed")
    ] = "hide"
    diversity: Annotated[
        float, Meta(ge=0, le=1, description="0: the order by score; 1: each item as unlike those above it as can be")
    ] = 0.0
    exploration: Annotated[
        float, Meta(ge=0, le=1, description="share of the places, but the first, for items of little exposure")
    ] = 0.0
    explore_by: Annotated[
        Literal["thompson", "uniform"],
        Meta(description="how an item to try out is chosen: by what is known of it, or evenly"),
    ] = "thompson"
    region: (
        Annotated[str, Meta(min_length=1, max_length=32, description="where the user is: which content policies hold")]
        | None
    ) = None
    device: Annotated[str, Meta(max_length=64, description="logged with the impression")] | None = None
    session_id: Annotated[Identifier, Meta(description="the history of a user who has none; logged")] | None = None
    explain: Annotated[bool, Meta(description="tell what each stage kept and dropped")] = False


class RecommendationQuery(ListQuery, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Lists of one user."""

    surface: Literal["home", "because", "popular", "trending"] = "home"
    item: Annotated[Identifier, Meta(description="for `because`; by default what the user took last")] | None = None
    window: (
        Annotated[Literal["5m", "1h", "1d"], Meta(description="for `trending`: over which activity is counted")] | None
    ) = None


class SurfaceQuery(ListQuery, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Lists that need no user, and respect one when they are told."""

    user_id: Annotated[Identifier, Meta(description="whose hidden and consumed items are left out")] | None = None


class TrendingQuery(SurfaceQuery, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Trending items."""

    window: Annotated[Literal["5m", "1h", "1d"], Meta(description="over which activity is counted")] = "1h"


class SearchQuery(SurfaceQuery, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Items by text."""

    q: Annotated[
        str,
        Meta(min_length=1, max_length=256, description="words of title, labels or description; typing errors count"),
    ]
    seen: Annotated[
        Literal["hide", "show", "only"], Meta(description="what becomes of items that the user has consumed")
    ] = "show"


class CatalogueQuery(Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Going through the catalogue."""

    limit: Annotated[int, Meta(ge=1, le=1000, description="items of one answer")] = 100
    page: (
        Annotated[str, Meta(min_length=1, max_length=1000, description="`next` of the answer to go on from")] | None
    ) = None
    filter: (
        Annotated[str, Meta(min_length=1, max_length=MAX_CHARACTERS, description="only items that it holds for")] | None
    ) = None


def parse_query(kind: type[Q], params: Mapping[str, str | list[str]]) -> Q:
    """Convert and check a query string. Raise `ProblemError` that names the parameter and what is allowed.

    A parameter that takes several values is repeated, or separates them by commas.
    """
    lists = _list_parameters(kind)
    values: dict[str, str | list[str]] = {}
    for name, given in params.items():
        if name in lists:
            parts = [given] if isinstance(given, str) else given
            values[name] = [value for part in parts for value in part.split(",") if value]
        elif isinstance(given, str):
            values[name] = given
        else:
            raise ProblemError(400, f"{name}: given {len(given)} times", field=name, allowed=["once"])
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        field, reason = field_and_reason(str(error))
        name, _, element = field.partition("[")
        allowed = _allowed(kind, name, of_list=name in lists and not element)
        if "regex" in reason:
            reason = f"{values[name]!r} does not look like {', '.join(allowed)}"
        raise ProblemError(400, f"{name}: {reason}", field=name, allowed=allowed) from error


def path_identifier(name: str, value: str) -> str:
    """Check an id that is part of the path. Raise `InvalidInputError`."""
    if len(value) > MAX_IDENTIFIER:
        raise InvalidInputError(name, f"longer than {MAX_IDENTIFIER} characters")
    check_identifier(name, value)
    return value


@functools.cache
def _list_parameters(kind: type[Struct]) -> frozenset[str]:
    info = msgspec.inspect.type_info(kind)
    assert isinstance(info, msgspec.inspect.StructType)
    return frozenset(f.encode_name for f in info.fields if isinstance(_bare(f.type), msgspec.inspect.ListType))


def _bare(declared: msgspec.inspect.Type) -> msgspec.inspect.Type:
    """Return the type without its description."""
    return declared.type if isinstance(declared, msgspec.inspect.Metadata) else declared


def _allowed(kind: type[Struct], name: str, of_list: bool) -> list[str]:
    """Return what a parameter may be; the names of all parameters for one that does not exist."""
    properties = msgspec.json.schema(kind)["$defs"][kind.__name__]["properties"]
    if name not in properties:
        return sorted(properties)
    declared = properties[name]
    declared = next((choice for choice in declared.get("anyOf", ()) if choice.get("type") != "null"), declared)
    if of_list:
        return [f"up to {declared['maxItems']} values"]
    declared = declared.get("items", declared)
    for listed in ("enum", "examples"):
        if listed in declared:
            return [str(value) for value in declared[listed]]
    if declared["type"] == "boolean":
        return ["true", "false"]
    low, high, of_what = "minimum", "maximum", ""
    if declared["type"] == "string":
        low, high, of_what = "minLength", "maxLength", " characters"
    least, most = declared.get(low, 0), declared.get(high)
    return [f"{least}{of_what} or more" if most is None else f"{least}..{most}{of_what}"]
