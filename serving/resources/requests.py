"""`/v1/admin/requests/{request_id}`: what was shown, from the log."""

import asyncio
import time

import falcon.asgi

from serving.contract.answers import ListedItem, ModelVersion, ReplayedList
from serving.contract.bodies import send
from serving.contract.problems import ProblemError
from serving.contract.queries import NoQuery, parse_query, path_identifier
from serving.kafka.impressions import LoggedLists, NotAnsweringError
from serving.memory.mirror import Mirror
from serving.pipelines.request_ids import NOWHERE, made
from state.records import Impression, Item
from state.topics import IMPRESSIONS

_UNSCORED = "none"
"""The model of a list that nothing has scored."""
_AT_ONCE = 2


class Replay:
    """Rebuilds answered lists."""

    def __init__(self, logged: LoggedLists, mirror: Mirror) -> None:
        self._logged = logged
        self._mirror = mirror
        self._places = asyncio.Semaphore(_AT_ONCE)

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, request_id: str) -> None:
        parse_query(NoQuery, req.params)
        path_identifier("request_id", request_id)
        when = made(request_id)
        if when is None:
            raise ProblemError(404, "request_id: no list has such an id", field="request_id")
        if when.partition == NOWHERE:
            raise ProblemError(404, "request_id: the list was for nobody in particular: it is not logged")
        if time.time() * 1000 - when.ts > IMPRESSIONS.retention.total_seconds() * 1000:
            raise ProblemError(404, f"request_id: lists are kept for {IMPRESSIONS.retention.days} days")
        try:
            async with self._places:
                found = await asyncio.to_thread(self._logged.find, request_id, when.ts, when.partition)
        except NotAnsweringError as error:
            raise ProblemError(503, f"the log cannot be read now: {error}", retry_after_s=1) from error
        if found is None:
            raise ProblemError(404, "request_id: no such list is logged (yet)", field="request_id")
        send(resp, replayed(found, self._mirror))


def replayed(logged: Impression, mirror: Mirror) -> ReplayedList:
    """Return the list as it was shown."""
    items = []
    for position, item_id in enumerate(logged.items):
        item = mirror.item(item_id) or Item(item_id=item_id)
        items.append(
            ListedItem(
                item_id,
                None if logged.model == _UNSCORED else logged.scores[position],
                logged.sources[position],
                logged.reasons[position] if position < len(logged.reasons) else "",
                position,
                item.title,
                item.genres,
                item.release_date,
            )
        )
    return ReplayedList(
        request_id=logged.request_id,
        user_id=logged.user_id,
        surface=logged.surface,
        ts=logged.ts,
        items=items,
        propensities=logged.propensities,
        model=ModelVersion(logged.model, logged.model_version),
        rules_version=logged.rules_version,
        relaxed=logged.relaxed,
        experiments=logged.experiments,
        degraded=logged.degraded,
        session_id=logged.session_id,
        device=logged.device,
    )
