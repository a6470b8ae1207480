"""`/v1/items`: the catalogue, on its way into Kafka and as it is."""

import asyncio

import falcon.asgi
import msgspec
import numpy as np

from online_models.catalogue.expressions import ExpressionError, parse
from online_models.users import activity
from serving.contract import cursors
from serving.contract.answers import CataloguePage, ItemAnswer, Rejected
from serving.contract.bodies import MIB, one_or_many, read_body, send
from serving.contract.openapi import ItemIds
from serving.contract.problems import ProblemError
from serving.contract.queries import CatalogueQuery, NoQuery, parse_query, path_identifier
from serving.contract.wanted import not_understood
from serving.kafka.event_log import Outbox
from serving.memory.mirror import Mirror
from serving.memory.users import Users
from serving.resources.events import batch_answer, deliver
from state.entries import CATALOGUE, ITEM_ACTIVITY, activity_field
from state.records import Activity, Item
from state.store import AsyncStore, StoreUnavailableError
from state.topics import ITEMS
from state.validation import MAX_ITEM_BYTES, InvalidInputError, decode, parse_item

BODY_LIMIT = 16 * MIB
BATCH_LIMIT = 50_000
_SLICE = 250
_patch_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ids_decoder = msgspec.json.Decoder(ItemIds)
_encode = msgspec.json.Encoder().encode


class Items:
    """Takes items, one or many; each is judged by itself."""

    def __init__(self, outbox: Outbox, mirror: Mirror, entries: "Entries") -> None:
        self._outbox = outbox
        self._mirror = mirror
        self._entries = entries

    async def on_put(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        parse_query(NoQuery, req.params)
        body = await read_body(req, BODY_LIMIT)
        raw_items = one_or_many(body, "items", BATCH_LIMIT)
        single = raw_items is None
        items: list[Item] = []
        messages: list[tuple[str, bytes | None]] = []
        positions: list[int] = []
        rejected: list[Rejected] = []
        for index, raw in enumerate([msgspec.Raw(body)] if raw_items is None else raw_items):
            if index % _SLICE == _SLICE - 1:
                await asyncio.sleep(0)
            try:
                item = parse_item(raw)
            except InvalidInputError as error:
                if single:
                    raise
                rejected.append(Rejected(index, str(error)))
                continue
            items.append(item)
            messages.append((item.item_id, bytes(raw)))
            positions.append(index)
        delivery = await deliver(self._outbox, ITEMS, messages)
        for item in items:
            self._mirror.wrote(item.item_id, item)
        send(resp, batch_answer(delivery, positions, rejected), 202)

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        query = parse_query(CatalogueQuery, req.params)
        after = "" if query.page is None else cursors.decode_place(query.page)
        wanted = None
        if query.filter is not None:
            try:
                wanted = parse(query.filter)
                self._mirror.current.attributes.check(wanted)
            except ExpressionError as error:
                raise not_understood(error) from error
        found = self._mirror.items_after(after, query.limit + 1, wanted)
        more = len(found) > query.limit
        found = found[: query.limit]
        send(resp, CataloguePage(items=found, next=cursors.encode_place(found[-1].item_id) if more else None))

    async def on_patch(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Replace the given fields of many items, each named by its `item_id`; each is judged by itself."""
        parse_query(NoQuery, req.params)
        raw_items = one_or_many(await read_body(req, BODY_LIMIT), "items", BATCH_LIMIT)
        if raw_items is None:
            raise InvalidInputError("items", "a list of items is needed; one item is changed at its own address")
        rejected: dict[int, str] = {}
        patches: dict[int, tuple[str, dict[str, msgspec.Raw]]] = {}
        for index, raw in enumerate(raw_items):
            try:
                patch = decode(_patch_decoder, raw, MAX_ITEM_BYTES)
                patches[index] = (_id_of(patch), patch)
            except InvalidInputError as error:
                rejected[index] = str(error)
        known = await self._entries.get([item_id for item_id, _ in patches.values()])
        changed: dict[int, tuple[str, Item | None]] = {}
        for index, (item_id, patch) in patches.items():
            if index % _SLICE == _SLICE - 1:
                await asyncio.sleep(0)
            item = known.get(item_id)
            try:
                if item is None:
                    raise InvalidInputError("item_id", f"item {item_id!r} is not in the catalogue")
                item = known[item_id] = patched(item, patch)  # an item that is there twice has both changes
                changed[index] = (item_id, item)
            except InvalidInputError as error:
                rejected[index] = str(error)
        await self._write(resp, changed, rejected)

    async def on_delete(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Delete many items, named by their ids."""
        parse_query(NoQuery, req.params)
        item_ids = decode(_ids_decoder, await read_body(req, BODY_LIMIT), BODY_LIMIT).items
        if len(item_ids) > BATCH_LIMIT:
            raise ProblemError(413, f"items: {len(item_ids)} elements, at most {BATCH_LIMIT} at once", field="items")
        known = await self._entries.get(item_ids)
        rejected = {n: f"item_id: item {i!r} is not in the catalogue" for n, i in enumerate(item_ids) if i not in known}
        await self._write(resp, {n: (i, None) for n, i in enumerate(item_ids) if n not in rejected}, rejected)

    async def _write(
        self, resp: falcon.asgi.Response, changed: dict[int, tuple[str, Item | None]], rejected: dict[int, str]
    ) -> None:
        """Send on what changed, by its index in the request; this worker's lists respect it at once."""
        for item_id, item in changed.values():
            self._mirror.wrote(item_id, item)
        messages = [(item_id, None if item is None else _encode(item)) for item_id, item in changed.values()]
        delivery = await deliver(self._outbox, ITEMS, messages)
        refused = [Rejected(index, why) for index, why in rejected.items()]
        send(resp, batch_answer(delivery, list(changed), refused), 202)


class Entries:
    """Catalogue entries as this process knows them, else as they are stored."""

    def __init__(self, mirror: Mirror, store: AsyncStore, users: Users) -> None:
        self._mirror = mirror
        self._store = store
        self._breaker = users.breaker

    async def get(self, item_ids: list[str]) -> dict[str, Item]:
        """Return those that there are. Raise `ProblemError` when some may be stored that cannot be read."""
        known = {item_id: self._mirror.item(item_id) for item_id in item_ids}
        missing = [i for i, item in known.items() if item is None and i not in self._mirror.withheld]
        if missing:
            try:
                known |= await self._breaker.call(lambda: self._store.get_rows(CATALOGUE, missing))
            except StoreUnavailableError as error:
                raise ProblemError(
                    404, f"items: {len(missing)} are not known here, such as {missing[0]!r}, and {error}", field="items"
                ) from error
        return {item_id: item for item_id, item in known.items() if item is not None}


def _id_of(patch: dict[str, msgspec.Raw]) -> str:
    if "item_id" not in patch:
        raise InvalidInputError("item_id", "is needed to know which item is meant")
    try:
        return msgspec.json.decode(patch["item_id"], type=str)
    except msgspec.ValidationError as error:
        raise InvalidInputError("item_id", str(error)) from error


def patched(item: Item, patch: dict[str, msgspec.Raw]) -> Item:
    """Return the item with the given fields replaced (RFC 7396: null takes a field's value away).

    Raise `InvalidInputError` for what is no item then, or another one.
    """
    fields: dict[str, msgspec.Raw] = _patch_decoder.decode(_encode(item)) | patch
    changed = parse_item(_encode({name: value for name, value in fields.items() if bytes(value) != b"null"}))
    if changed.item_id != item.item_id:
        raise InvalidInputError("item_id", f"is {changed.item_id!r} in the body and {item.item_id!r} in the path")
    return changed


class OneItem:
    """One catalogue entry."""

    def __init__(self, outbox: Outbox, mirror: Mirror, store: AsyncStore, users: Users, n_partitions: int) -> None:
        self._outbox = outbox
        self._mirror = mirror
        self._store = store
        self._breaker = users.breaker
        self._n_partitions = n_partitions

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, item_id: str) -> None:
        parse_query(NoQuery, req.params)
        path_identifier("item_id", item_id)
        item = self._mirror.item(item_id)
        degraded = None
        try:
            stored, total, now_ms = await self._breaker.call(lambda: self._read(item_id))
            item = item or stored
        except StoreUnavailableError as error:
            slot = self._mirror.current.slot(item_id)
            total = Activity() if slot is None else self._mirror.current.activity(slot)
            now_ms = self._mirror.now_ms
            degraded = {"store": f"counts are from memory: {error}"}
        if item is None and not total.counts:
            raise ProblemError(404, f"item {item_id!r} is not known", field="item_id")
        known = {} if item is None else msgspec.structs.asdict(item)
        send(
            resp,
            ItemAnswer(
                **known | {"item_id": item_id},
                counts=total.counts,
                windows=activity.windows(total, now_ms),
                servable=self._servable(item_id, item),
                degraded=degraded,
            ),
        )

    def _servable(self, item_id: str, item: Item | None) -> bool:
        """Tell whether lists may have the item and filters know it: the learner may meet it before its entry comes."""
        replica = self._mirror.current
        slot = replica.slot(item_id)
        if slot is None or item_id in self._mirror.withheld or (item is not None and replica.item(slot) is None):
            return False
        return bool(replica.servable(np.array([slot]))[0])

    async def on_patch(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, item_id: str) -> None:
        """Replace the given fields (RFC 7396: null takes a field's value away)."""
        parse_query(NoQuery, req.params)
        path_identifier("item_id", item_id)
        patch = decode(_patch_decoder, await read_body(req, BODY_LIMIT), BODY_LIMIT)
        await self._write(resp, item_id, patched(await self._known(item_id), patch))

    async def on_delete(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, item_id: str) -> None:
        parse_query(NoQuery, req.params)
        await self._known(path_identifier("item_id", item_id))
        await self._write(resp, item_id, None)

    async def _known(self, item_id: str) -> Item:
        item = self._mirror.item(item_id)
        if item is None:
            try:
                item, _, _ = await self._breaker.call(lambda: self._read(item_id))
            except StoreUnavailableError as error:
                raise ProblemError(404, f"item {item_id!r} is not known here, and {error}", field="item_id") from error
        if item is None:
            raise ProblemError(404, f"item {item_id!r} is not in the catalogue", field="item_id")
        return item

    async def _write(self, resp: falcon.asgi.Response, item_id: str, item: Item | None) -> None:
        """Send the new entry, or an empty value that deletes it; it is gone from this worker's lists at once."""
        self._mirror.wrote(item_id, item)
        delivery = await deliver(self._outbox, ITEMS, [(item_id, None if item is None else _encode(item))])
        send(resp, batch_answer(delivery, [0], []), 202)

    async def _read(self, item_id: str) -> tuple[Item | None, Activity, int]:
        """Return the entry, the activity over all partitions, and stream time."""
        parts = [activity_field(partition, item_id) for partition in range(self._n_partitions)]
        stored, counted, marks = await asyncio.gather(
            self._store.get_rows(CATALOGUE, [item_id]),
            self._store.get_rows(ITEM_ACTIVITY, parts),
            self._store.watermarks("features"),
        )
        now_ms = max((mark.stream_ts for mark in marks.values()), default=self._mirror.now_ms)
        return stored.get(item_id), activity.merge(counted.values()), now_ms
