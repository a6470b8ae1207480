"""`/v1/items`: the catalogue, on its way into Kafka and as it is."""

import asyncio

import falcon.asgi
import msgspec

from online_models import activity
from serving.contract.answers import ItemAnswer, Rejected
from serving.contract.bodies import MIB, one_or_many, read_body, send
from serving.contract.problems import ProblemError
from serving.contract.queries import NoQuery, parse_query, path_identifier
from serving.kafka.event_log import Outbox
from serving.memory.mirror import Mirror
from serving.memory.users import Users
from serving.resources.events import batch_answer, deliver
from state.entries import CATALOGUE, ITEM_ACTIVITY, activity_field
from state.records import Activity, Item
from state.store import AsyncStore, StoreUnavailableError
from state.topics import ITEMS
from state.validation import InvalidInputError, decode, parse_item

BODY_LIMIT = 16 * MIB
BATCH_LIMIT = 50_000
_SLICE = 250
_patch_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encode = msgspec.json.Encoder().encode


class Items:
    """Takes items, one or many; each is judged by itself."""

    def __init__(self, outbox: Outbox, mirror: Mirror) -> None:
        self._outbox = outbox
        self._mirror = mirror

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
                degraded=degraded,
            ),
        )

    async def on_patch(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, item_id: str) -> None:
        """Replace the given fields (RFC 7396: null takes a field's value away)."""
        parse_query(NoQuery, req.params)
        path_identifier("item_id", item_id)
        patch = decode(_patch_decoder, await read_body(req, BODY_LIMIT), BODY_LIMIT)
        item = await self._known(item_id)
        fields: dict[str, msgspec.Raw] = _patch_decoder.decode(_encode(item)) | patch
        fields = {name: value for name, value in fields.items() if bytes(value) != b"null"}
        changed = parse_item(_encode(fields))
        if changed.item_id != item_id:
            raise InvalidInputError("item_id", f"is {changed.item_id!r} in the body and {item_id!r} in the path")
        await self._write(resp, item_id, changed)

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
