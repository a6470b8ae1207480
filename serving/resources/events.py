"""`POST /v1/events`: what users did, on its way into Kafka."""

import asyncio
import time

import falcon.asgi
import msgspec

from online_models.users.outcomes import is_feedback
from serving import telemetry
from serving.contract.answers import BatchAnswer, Rejected
from serving.contract.bodies import MIB, one_or_many, read_body, send
from serving.contract.problems import ProblemError
from serving.contract.queries import NoQuery, parse_query
from serving.kafka.event_log import Delivery, Outbox, QueueFullError
from serving.memory.users import Users, clean
from state.records import Event
from state.topics import EVENTS, Topic
from state.validation import ERASE, InvalidInputError, parse_event

BODY_LIMIT = MIB
BATCH_LIMIT = 5_000
WAIT_S = 1.0
_SLICE = 250
"""Events validated before other requests have their turn."""


class Events:
    """Takes events, one or many; each is judged by itself."""

    def __init__(self, outbox: Outbox, users: Users) -> None:
        self._outbox = outbox
        self._users = users

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        parse_query(NoQuery, req.params)
        body = await read_body(req, BODY_LIMIT)
        raw_events = one_or_many(body, "events", BATCH_LIMIT)
        now_ms = int(time.time() * 1000)
        if raw_events is None:
            event = _posted(body, now_ms)
            send(resp, await self._take([event], [(event.user_id, body)], [0], []), 202)
            return
        events: list[Event] = []
        messages: list[tuple[str, bytes | None]] = []
        positions: list[int] = []
        rejected: list[Rejected] = []
        for index, raw in enumerate(raw_events):
            if index % _SLICE == _SLICE - 1:
                await asyncio.sleep(0)
            try:
                event = _posted(raw, now_ms)
            except InvalidInputError as error:
                rejected.append(Rejected(index, str(error)))
                continue
            events.append(event)
            messages.append((event.user_id, bytes(raw)))
            positions.append(index)
        send(resp, await self._take(events, messages, positions, rejected), 202)

    async def _take(
        self,
        events: list[Event],
        messages: list[tuple[str, bytes | None]],
        positions: list[int],
        rejected: list[Rejected],
    ) -> BatchAnswer:
        """Send the events on. Feedback among them is part of its user's next list, wherever it was posted."""
        feedback = [clean(event) for event in events if is_feedback(event.type)]
        # The overlay first: an event that the flow has applied before it is in the overlay would never leave it.
        trouble = await self._users.add_feedback(*feedback) if feedback else None
        answer = batch_answer(await deliver(self._outbox, EVENTS, messages), positions, rejected)
        return answer if trouble is None else msgspec.structs.replace(answer, degraded={"store": trouble})


def _posted(raw: bytes | msgspec.Raw, now_ms: int) -> Event:
    event = parse_event(raw, now_ms)
    if event.type == ERASE:
        raise InvalidInputError("type", "users are erased by DELETE /v1/users/{user_id}")
    return event


async def deliver(outbox: Outbox, topic: Topic, messages: list[tuple[str, bytes | None]]) -> Delivery:
    """Hand messages to Kafka. Raise `ProblemError` 429 when it does not keep up."""
    try:
        return await outbox.deliver(topic, messages, WAIT_S)
    except QueueFullError as error:
        raise ProblemError(
            429, "Kafka does not take events as fast as they come; send the same events again later", retry_after_s=2
        ) from error


def batch_answer(delivery: Delivery, positions: list[int], rejected: list[Rejected]) -> BatchAnswer:
    """Count what was delivered; `positions` are the indices in the request of the messages delivered."""
    telemetry.MESSAGES.labels("acknowledged").inc(delivery.n_acked)
    telemetry.MESSAGES.labels("pending").inc(delivery.n_pending)
    telemetry.MESSAGES.labels("rejected").inc(len(rejected) + len(delivery.failed))
    failed = [Rejected(positions[n], f"not taken by Kafka: {why}") for n, why in delivery.failed.items()]
    return BatchAnswer(
        accepted=delivery.n_messages - len(failed),
        rejected=sorted(rejected + failed, key=lambda r: r.index),
        pending=delivery.n_pending,
    )
