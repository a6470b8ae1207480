"""The engine as a black box: JSON lines in, JSON lines out, one answer per `recommend`."""

from typing import BinaryIO, Literal

import msgspec

from online_models.engine.engine import Engine
from state.records import Item


class Observe(msgspec.Struct, tag_field="op", tag="observe", frozen=True):
    """An event. Not answered."""

    user: str | int
    item: str | int
    t: float
    """Epoch seconds."""
    positive: Literal[0, 1] | bool = 1
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

    def as_item(self) -> Item:
        return Item(
            item_id=str(self.item),
            title=self.title,
            genres=self.genres,
            category=self.category,
            creator=self.creator,
            tags=self.tags,
            price=self.price,
            release_date=self.release_date,
        )


class Recommend(msgspec.Struct, tag_field="op", tag="recommend", frozen=True):
    """Answered by `{"items": [...]}`, best first."""

    user: str | int
    t: float
    n: int = 20
    candidates: Literal["unseen", "all"] = "unseen"


Command = Observe | Describe | Recommend


class StdioError(ValueError):
    """A line is not a command: its number, what was expected and what was found."""


def serve(lines: BinaryIO, answers: BinaryIO, seed: int = 0) -> None:
    """Answer until the input ends.

    Raises
    ------
    StdioError
        For the first line that is not a command.
    """
    engine = Engine(seed)
    decode = msgspec.json.Decoder(Command).decode
    encode = msgspec.json.Encoder().encode
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            command = decode(line)
        except msgspec.MsgspecError as error:
            raise StdioError(f"line {number}: {error}") from None
        match command:
            case Observe():
                rating = float(command.positive) if command.rating is None else command.rating
                engine.observe(str(command.user), str(command.item), bool(command.positive), rating, command.t)
            case Recommend():
                items = engine.recommend(str(command.user), command.n, command.t, command.candidates)
                answers.write(encode({"items": items}) + b"\n")
                answers.flush()
            case Describe():
                engine.describe(command.as_item())
