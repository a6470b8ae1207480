"""The rules document: what people decide about lists, as data."""

from typing import Annotated, Any, Literal, TypeVar, get_args

import msgspec
from msgspec import Meta, Struct

from state.records import Identifier

Surface = Annotated[str, Meta(min_length=1, max_length=64)]
RuleName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Filter = Annotated[str, Meta(min_length=1, max_length=2000)]
Places = Annotated[int, Meta(ge=1, le=100)]
CapAttribute = Literal["genre", "category", "creator"]
CAP_ATTRIBUTES: tuple[str, ...] = get_args(CapAttribute)

MAX_RULES = 200
"""Of one kind."""
MAX_ORDERED = 30
"""Caps, and promotions: of these it matters which are the more important."""
MAX_BYTES = 1024 * 1024


class Block(Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True, frozen=True):
    """Items that are in no list: by id, or those that a filter holds for."""

    name: RuleName
    items: Annotated[list[Identifier], Meta(max_length=10_000)] = []
    filter: Filter | None = None
    surfaces: tuple[Surface, ...] = ()
    """Where; everywhere when empty."""


class Policy(Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True, frozen=True):
    """What some people may not be shown, whatever the reason: law, licences, age."""

    name: RuleName
    deny: Filter
    """Items that this filter holds for are withheld."""
    regions: Annotated[list[Annotated[str, Meta(min_length=1, max_length=32)]], Meta(max_length=300)] = []
    """For requests from these regions, and those that do not say where they are from; for all when empty."""
    users: Annotated[list[Identifier], Meta(max_length=10_000)] = []
    """For these users; for all when empty."""


class Boost(Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True, frozen=True):
    """Multiplies the scores of the items that a filter holds for."""

    name: RuleName
    filter: Filter
    factor: Annotated[float, Meta(gt=0, le=1000)]
    surfaces: tuple[Surface, ...] = ()


class Pin(Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True, frozen=True):
    """An item that has a certain place, unless it may not be shown to the user."""

    name: RuleName
    item: Identifier
    position: Annotated[int, Meta(ge=0, le=99)]
    """From 0."""
    surfaces: tuple[Surface, ...] = ("home",)
    users: Annotated[list[Identifier], Meta(max_length=10_000)] = []
    """For these users; for all when empty."""


class Promotion(Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True, frozen=True):
    """A share of the first places for items that a filter holds for, the best ones, spread evenly."""

    name: RuleName
    filter: Filter
    share: Annotated[float, Meta(gt=0, le=1)]
    among: Places = 20
    surfaces: tuple[Surface, ...] = ("home",)


class Cap(Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True, frozen=True):
    """At most so many items with one genre, category or creator among the first places."""

    name: RuleName
    attribute: CapAttribute
    at_most: Places
    among: Places = 10
    every: bool = False
    """Of every so many places, instead of the first ones only."""
    surfaces: tuple[Surface, ...] = ("home", "session")


DEFAULT_CAP = Cap(name="genres", attribute="genre", at_most=3, among=10)


class Rules(Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True, frozen=True):
    """Everything that lists must respect. Each rule has a name of its own, which explanations and audits use."""

    blocks: Annotated[list[Block], Meta(max_length=MAX_RULES)] = []
    policies: Annotated[list[Policy], Meta(max_length=MAX_RULES)] = []
    boosts: Annotated[list[Boost], Meta(max_length=MAX_RULES)] = []
    pins: Annotated[list[Pin], Meta(max_length=MAX_RULES)] = []
    promotions: Annotated[list[Promotion], Meta(max_length=MAX_ORDERED)] = []
    caps: Annotated[tuple[Cap, ...], Meta(max_length=MAX_ORDERED)] = (DEFAULT_CAP,)
    """The first ones are the more important ones: when they cannot all be kept, the last one gives way first."""
    near_duplicates: Annotated[float, Meta(ge=0.5, le=1)] | None = 0.995
    """Items whose vectors have a cosine of at least this are shown together only where nothing else is left; None:
    that is no matter."""


N = TypeVar("N", Policy, Pin)

KINDS = ("blocks", "policies", "boosts", "pins", "promotions", "caps")


def named(rules: Rules) -> list[tuple[str, Any]]:
    """Return (path, rule) of each rule, as in `boosts[2]`."""
    return [(f"{kind}[{k}]", rule) for kind in KINDS for k, rule in enumerate(getattr(rules, kind))]


def without_user(rules: Rules, user_id: str) -> Rules:
    """Return the rules without a user's name; one for this user alone is left out: it would be for all then."""
    return msgspec.structs.replace(
        rules, policies=not_naming(rules.policies, user_id), pins=not_naming(rules.pins, user_id)
    )


def not_naming(named: list[N], user_id: str) -> list[N]:
    """Return policies or pins without a user's name."""
    return [
        msgspec.structs.replace(rule, users=[user for user in rule.users if user != user_id])
        for rule in named
        if set(rule.users) != {user_id}
    ]
