"""Rules in force: the document, read once, as masks over the items of a replica."""

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from online_models.arrays import Slots
from online_models.catalogue.attributes import Attributes
from online_models.catalogue.expressions import Expression, ExpressionError, parse
from state.rules import Boost, Cap, Pin, Promotion, Rules, named
from state.validation import InvalidInputError

Mask = NDArray[np.bool_]
_MAX_KEPT = 256


class Items(Protocol):
    """What is asked of a replica."""

    attributes: Attributes

    @property
    def n_slots(self) -> int: ...

    def slots(self, item_ids: Sequence[str], /) -> Slots: ...

    def matching(self, expression: Expression, /) -> Mask: ...


class ActiveRules:
    """One version of the rules document.

    Raises
    ------
    InvalidInputError
        For a filter that cannot be understood, a name that two rules have, and rules that contradict themselves.
    """

    def __init__(self, rules: Rules | None = None, version: int = 0) -> None:
        self.document = rules or Rules()
        self.version = version
        """0 while nobody has written any."""
        self._filters: dict[str, Expression] = {}
        self._users: dict[str, frozenset[str]] = {}
        names: set[str] = set()
        for path, rule in named(self.document):
            if rule.name in names:
                raise InvalidInputError(f"{path}.name", f"{rule.name!r} is the name of an earlier rule, too")
            names.add(rule.name)
            if users := getattr(rule, "users", None):
                self._users[rule.name] = frozenset(users)
            for field in ("filter", "deny"):
                if (text := getattr(rule, field, None)) is not None:
                    self._filters[rule.name] = _parsed(f"{path}.{field}", text)
        _refuse_contradictions(self.document)
        self._kept_for: tuple[Items, int, int] | None = None
        self._kept: dict[object, tuple[Mask, Slots]] = {}

    def check(self, attributes: Attributes) -> None:
        """Raise `InvalidInputError` for a filter that asks for an attribute that no item has, or makes no sense."""
        for path, rule in named(self.document):
            if (expression := self._filters.get(rule.name)) is not None:
                try:
                    attributes.check(expression)
                except ExpressionError as error:
                    field = "deny" if path.startswith("policies") else "filter"
                    allowed = f"; expected one of {', '.join(error.allowed)}" if error.allowed else ""
                    raise InvalidInputError(f"{path}.{field}", f"{error}{allowed}") from error

    def is_for(self, name: str, user_id: str | None) -> bool:
        """Return whether a rule holds for the user; one that names no users holds for all."""
        users = self._users.get(name)
        return users is None or user_id in users

    def pins(self, surface: str, user_id: str | None) -> list[Pin]:
        """Return the pins of a list; of two with one place the first holds."""
        found: dict[int, Pin] = {}
        for pin in self.document.pins:
            if surface in pin.surfaces and self.is_for(pin.name, user_id):
                found.setdefault(pin.position, pin)
        return list(found.values())

    def promotions(self, surface: str) -> list[Promotion]:
        return [promotion for promotion in self.document.promotions if surface in promotion.surfaces]

    def boosts(self, surface: str) -> list[Boost]:
        return [boost for boost in self.document.boosts if not boost.surfaces or surface in boost.surfaces]

    def caps(self, surface: str) -> list[Cap]:
        return [cap for cap in self.document.caps if surface in cap.surfaces]

    def mask(self, name: str, items: Items) -> Mask:
        """Return where the filter of a rule holds, over all slots; not to be written to."""
        return items.matching(self._filters[name])

    def withheld(
        self, items: Items, surface: str, user_id: str | None, region: str | None
    ) -> tuple[Mask, Slots] | None:
        """Return what blocks and policies keep out of a list: a mask over all slots, and the slots; None for nothing.

        Not to be written to.
        """
        document = self.document
        if not document.blocks and not document.policies:
            return None
        blocks = tuple(k for k, rule in enumerate(document.blocks) if not rule.surfaces or surface in rule.surfaces)
        policies = tuple(
            k
            for k, rule in enumerate(document.policies)
            if self.is_for(rule.name, user_id) and (not rule.regions or region is None or region in rule.regions)
        )
        if not blocks and not policies:
            return None
        return self._keep(items, (blocks, policies), lambda: self._withheld(items, blocks, policies))

    def reason(self, items: Items, slot: int) -> list[str]:
        """Return the names of all blocks and policies that hold for an item."""
        found = [rule.name for rule in self.document.blocks if self._blocked(items, rule.name, rule.items)[slot]]
        return found + [rule.name for rule in self.document.policies if self.mask(rule.name, items)[slot]]

    def _withheld(self, items: Items, blocks: Sequence[int], policies: Sequence[int]) -> Mask:
        masks = [self.mask(self.document.policies[k].name, items) for k in policies]
        for k in blocks:
            block = self.document.blocks[k]
            masks.append(self._blocked(items, block.name, block.items))
        return reduce(np.logical_or, masks, np.zeros(items.n_slots, np.bool_))

    def _blocked(self, items: Items, name: str, item_ids: Sequence[str]) -> Mask:
        mask = self.mask(name, items).copy() if name in self._filters else np.zeros(items.n_slots, np.bool_)
        mask[items.slots(item_ids)] = True
        return mask

    def _keep(self, items: Items, key: object, make: Callable[[], Mask]) -> tuple[Mask, Slots]:
        """Return what was made for the items as they are, made anew when they have changed."""
        kept_for = (items, items.n_slots, items.attributes.version)
        if self._kept_for is None or self._kept_for[0] is not items or self._kept_for[1:] != kept_for[1:]:
            self._kept_for = kept_for
            self._kept.clear()
        found = self._kept.get(key)
        if found is None:
            mask = make()
            if len(self._kept) >= _MAX_KEPT:
                self._kept.clear()
            found = self._kept[key] = (mask, np.flatnonzero(mask).astype(np.int32))
        return found


def _parsed(path: str, text: str) -> Expression:
    try:
        return parse(text)
    except ExpressionError as error:
        allowed = f"; expected {', '.join(error.allowed)}" if error.allowed else ""
        raise InvalidInputError(path, f"{error}{allowed}") from error


def _refuse_contradictions(rules: Rules) -> None:
    for k, block in enumerate(rules.blocks):
        if not block.items and block.filter is None:
            raise InvalidInputError(f"blocks[{k}]", "expected items or a filter")
    blocked = {item: block.name for block in rules.blocks if not block.surfaces for item in block.items}
    taken: dict[tuple[str, int], str] = {}
    for k, pin in enumerate(rules.pins):
        if pin.item in blocked:
            raise InvalidInputError(f"pins[{k}].item", f"{pin.item!r} is blocked by {blocked[pin.item]!r}")
        for surface in pin.surfaces:
            other = taken.setdefault((surface, pin.position), pin.name)
            if other != pin.name and not pin.users:
                raise InvalidInputError(f"pins[{k}].position", f"{other!r} has this place on {surface}")
    shares: dict[str, float] = {}
    for k, promotion in enumerate(rules.promotions):
        for surface in promotion.surfaces:
            shares[surface] = shares.get(surface, 0.0) + promotion.share
            if shares[surface] > 1.0 + 1e-9:
                raise InvalidInputError(
                    f"promotions[{k}].share", f"shares on {surface} are {shares[surface]:.2f} together"
                )


NO_RULES = ActiveRules()
"""What holds while nobody has written any rules."""
