"""Lines of `freshet evaluate --stdio`: strict ones at once, odd ones by what they can only mean."""

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Literal

import msgspec

from online_models.evaluation.protocols import Candidates
from state.records import Item

LENGTH = 20
"""Items of a list whose question does not say."""
LONGEST = 1_000_000
POSITIVE_SHARE = 0.7
"""Share of the highest rating so far from which a rating is positive, where nothing else says so."""
NOBODY = "\0nobody"
"""Asked for when a question names no user: a user without events."""
_MAX_NUMBER = 2**63
"""From here on an id can be answered as text only."""
FURTHEST = 1e11
"""Seconds: a higher `t` counts milliseconds, micro- or nanoseconds."""

_QUESTION = re.compile(rb'"op"\s*:\s*"\s*recommend\s*"', re.IGNORECASE)
_DATE = re.compile(r"\d{4}(-\d{2}(-\d{2})?)?", re.ASCII)


class Observe(msgspec.Struct, tag_field="op", tag="observe", frozen=True):
    """An event. Not answered."""

    user: str | int
    item: str | int
    t: float
    """Epoch seconds."""
    positive: Literal[0, 1] | bool | None = None
    """When not given, `rating` says it, and without that it is positive."""
    rating: float | None = None


class Describe(msgspec.Struct, tag_field="op", tag="item", frozen=True):
    """Catalogue fields of an item, those of the public item record; others are ignored. Not answered."""

    item: str | int
    title: str = ""
    genres: list[str] = []
    category: str | None = None
    creator: str | None = None
    tags: list[str] = []
    price: float | None = None
    release_date: str | None = None


class Recommend(msgspec.Struct, tag_field="op", tag="recommend", frozen=True):
    """Answered by `{"items": [...]}`, best first."""

    user: str | int
    t: float
    n: int = LENGTH
    candidates: Candidates = "unseen"


class Event(msgspec.Struct, frozen=True):
    """What the engine is shown."""

    user: str
    item: str
    positive: bool
    rating: float
    t: float


class Question(msgspec.Struct, frozen=True):
    """What the engine is asked."""

    user: str
    n: int
    t: float
    candidates: Candidates


class Unanswerable(msgspec.Struct, frozen=True):
    """A question that cannot be read: answered by an empty list, so that nobody waits."""


Command = Event | Item | Question | Unanswerable | None


class LineReader:
    """Turns lines into commands; what is missing or odd is made up for, and said through `remark`.

    An event without a positive flag is judged by its rating against the highest one so far. A time that is missing or
    is no number is that of the line before; a log without any times gets a second per event.
    """

    def __init__(self, remark: Callable[[str], None]) -> None:
        self._remark = remark
        self._decode = msgspec.json.Decoder(Observe | Describe | Recommend).decode
        self._t = 0.0
        self._has_times = False
        self._highest = -math.inf
        self._numbers: set[str] = set()
        """Items whose id came as a number."""

    def as_given(self, items: list[str]) -> list[str | int]:
        """Return ids of items as they came: as numbers or as texts."""
        return [int(item) if item in self._numbers else item for item in items]

    def read(self, line: bytes) -> Command:
        """Return what a line says, None if that is nothing for the engine."""
        line = line.removeprefix(b"\xef\xbb\xbf").strip()
        if not line:
            return None
        try:
            command = self._decode(line)
        except msgspec.MsgspecError as error:
            self._remark(str(error))
            return self._read_odd(line)
        match command:
            case Observe():
                positive = None if command.positive is None else bool(command.positive)
                self._note(command.item)
                return self._event(str(command.user), str(command.item), command.t, positive, command.rating)
            case Recommend():
                return self._question(str(command.user), command.n, command.t, command.candidates)
        self._note(command.item)
        return self._described(msgspec.structs.asdict(command))

    def _note(self, item: object) -> None:
        """Remember an item whose id is a whole number."""
        if (
            isinstance(item, int | float)
            and not isinstance(item, bool)
            and abs(item) < _MAX_NUMBER
            and item == int(item)
        ):
            self._numbers.add(str(int(item)))

    def _read_odd(self, line: bytes) -> Command:
        try:
            fields = json.loads(line.decode("utf-8", "replace"))
        except (ValueError, RecursionError):
            return Unanswerable() if _QUESTION.search(line) else None
        if not isinstance(fields, dict):
            return None
        op = str(fields.get("op", "")).strip().lower()
        user, item = id_of(fields.get("user")), id_of(fields.get("item"))
        self._note(fields.get("item"))
        if op == "recommend":
            n = number_of(fields.get("n"))
            return self._question(
                NOBODY if user is None else user,
                LENGTH if n is None else int(n),
                number_of(fields.get("t")),
                "all" if fields.get("candidates") == "all" else "unseen",
            )
        if op == "observe" and user is not None and item is not None:
            positive, rating = number_of(fields.get("positive")), number_of(fields.get("rating"))
            return self._event(
                user, item, number_of(fields.get("t")), None if positive is None else positive > 0, rating
            )
        if op == "item" and item is not None:
            return self._described(fields | {"item": item})
        return None

    def _event(self, user: str, item: str, t: float | None, positive: bool | None, rating: float | None) -> Event:
        if rating is not None:
            self._highest = max(self._highest, rating)
            if positive is None:
                positive = rating > 0 and rating >= POSITIVE_SHARE * self._highest
        positive = positive is None or positive
        return Event(user, item, positive, float(positive) if rating is None else rating, self._time(t, 1.0))

    def _question(self, user: str, n: int, t: float | None, candidates: Candidates) -> Question:
        return Question(user, min(max(n, 0), LONGEST), self._time(t, 0.0), candidates)

    def _time(self, t: float | None, step: float) -> float:
        if t is not None and abs(t) > FURTHEST:
            scale = next((scale for scale in (1e3, 1e6, 1e9) if abs(t) / scale <= FURTHEST), None)
            self._remark(f"t: expected seconds, got {t:g}")
            t = None if scale is None else t / scale
        if t is not None:
            self._t, self._has_times = t, True
        elif not self._has_times:
            self._t += step
        return self._t

    def _described(self, fields: Mapping[str, object]) -> Item:
        price = number_of(fields.get("price"))
        date = fields.get("release_date")
        date = str(int(date)) if isinstance(date, int | float) and math.isfinite(date) else date
        found = _DATE.match(date) if isinstance(date, str) else None
        return Item(
            item_id=str(fields["item"]),
            title=text_of(fields.get("title")) or "",
            genres=labels_of(fields.get("genres")),
            category=text_of(fields.get("category")),
            creator=text_of(fields.get("creator")),
            tags=labels_of(fields.get("tags")),
            price=price if price is not None and price >= 0 else None,
            release_date=found[0] if found else None,
        )


def id_of(value: object) -> str | None:
    """Return an id as text, 7.0 as 7; None for what is no id."""
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else str(value)
    if isinstance(value, str | int):
        return str(value).encode("utf-8", "replace").decode()
    return None


def number_of(value: object) -> float | None:
    """Return a finite number, also one in a text; None for all else."""
    if isinstance(value, str):
        value = {"true": 1, "false": 0}.get(value.strip().lower(), value)
    if not isinstance(value, str | int | float):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def text_of(value: object) -> str | None:
    """Return a label as text; None for what is none."""
    return id_of(value) or None


def labels_of(value: object) -> list[str]:
    """Return labels, also those of one text that separates them by `|`."""
    if isinstance(value, str):
        value = value.split("|")
    found = (text_of(label) for label in value) if isinstance(value, list) else ()
    return [label for label in found if label is not None]
