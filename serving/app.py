"""The application: parts made once, routes, and their life."""

import gc
import logging
from importlib import resources
from typing import Any

import falcon.asgi
import msgspec

from online_models.experiments.plans import differences
from online_models.warm_up import warm_up
from serving import telemetry
from serving.access import keys as access
from serving.access.guard import Guard, page_policy
from serving.access.rates import Rates, rates_path
from serving.contract import openapi, problems
from serving.kafka.event_log import EventLog
from serving.memory.control import Control
from serving.memory.last_answers import LastAnswers
from serving.memory.last_lists import LastLists
from serving.memory.live_users import CLOSING, LiveUsers
from serving.memory.mirror import Mirror
from serving.memory.models import Models
from serving.memory.rotation import Rotation
from serving.memory.users import Users
from serving.pipelines.impressions import ImpressionLog
from serving.pipelines.lists import Lists
from serving.pipelines.pipeline import Afterwards
from serving.resources import (
    dashboard,
    events,
    experiments,
    items,
    lists,
    live,
    models,
    operation,
    pages,
    requests,
    rules,
    users,
)
from serving.resources.documents import Documents, History, Rollback
from serving.surfaces import declare
from serving.surfaces.parts import Parts
from state.logs import formatter
from state.redis_store import AsyncRedisStore
from state.registry import Registry
from state.settings import Settings
from state.store import AsyncStore

App = falcon.asgi.App[falcon.asgi.Request, falcon.asgi.Response]

_GC_THRESHOLDS = (20_000, 20, 20)
"""A list makes some thousand objects, hardly any of which outlive it: looking through them rarely finds as much."""


class Lifespan:
    """Falcon middleware: starts and stops what runs beside requests."""

    def __init__(
        self,
        mirror: Mirror,
        control: Control,
        ranking: Models,
        store: AsyncStore,
        known: Users,
        log: EventLog,
        live: LiveUsers,
    ) -> None:
        self._mirror = mirror
        self._control = control
        self._models = ranking
        self._store = store
        self._users = known
        self._event_log = log
        self._live = live

    async def process_startup(self, scope: dict[str, Any], event: object) -> None:
        scope.get("state", {})[CLOSING] = self._live.close  # what never ends by itself: servers wait for it
        await self._control.start()  # first: there is no list yet that could have what is blocked
        await self._models.start()
        await self._mirror.start()
        self._live.start()

    async def process_shutdown(self, scope: object, event: object) -> None:
        await self._live.aclose()
        await self._mirror.aclose()
        await self._models.aclose()
        await self._control.aclose()
        await self._users.breaker.aclose()
        self._event_log.close()
        await self._store.aclose()


def create_app(settings: Settings, store: AsyncStore, log: EventLog) -> App:
    """Return the ASGI application over a store and Kafka."""
    mirror = Mirror(settings, store)
    control = Control(settings, store)
    registry = Registry(settings.models_root)
    ranking = Models(
        settings,
        store,
        registry,
        lambda: control.models.active.ranker,
        lambda: control.experiments.active.models(),
    )
    control.models.on_change = control.experiments.on_change = ranking.wake
    known = Users(store, mirror.genres)

    def troubles() -> dict[str, str]:
        return operation.troubles_of(mirror, log) | control.degraded | ranking.degraded

    app: App = falcon.asgi.App()
    app.add_middleware(telemetry.RequestTimer())
    impressions: Afterwards = ImpressionLog(log.impressions)
    if settings.traces is not None:
        from serving.tracing import traced  # not loaded unless it is used

        requests_traced, impressions = traced(settings, impressions)
        app.add_middleware(requests_traced)
    remembered, answered = LastLists(), LastAnswers()

    def forget(user_id: str) -> None:
        remembered.forget(user_id)
        answered.forget(user_id)

    known.on_erase = forget
    surfaces = declare(
        Parts(
            users=known,
            withheld=lambda: mirror.withheld,
            text=mirror.text,
            lists=remembered,
            answers=answered,
            rotation=Rotation(store, known.breaker),
            impressions=impressions,
            observe=telemetry.observe_stage,
        )
    )
    watching = LiveUsers(store)
    known.on_local = watching.changed
    answering = Lists(
        mirror,
        surfaces,
        troubles,
        lambda: control.rules.active,
        lambda: control.experiments.active,
        ranking,
        settings.partitions,
        settings.request_budget_ms,
    )
    ruled = Documents(control.rules, store, known.breaker, log.events)
    ruling = rules.Ruling(ruled, mirror, answering)
    tried = Documents(control.experiments, store, known.breaker, log.events)
    planning = experiments.Planning(tried, lambda: control.rules.active, mirror, ranking, settings.partitions)
    promoting = models.Promoting(
        Documents(control.models, store, known.breaker, log.events),
        Documents(control.shadow, store, known.breaker, log.events),
        ranking,
        registry,
        store,
        mirror,
        lambda: control.experiments.active.models(),
    )
    times = users.Times()
    html, files, version = pages.load()
    docs = resources.files("serving.contract").joinpath("docs.html").read_bytes()
    if settings.cors_origins:
        origins = "*" if "*" in settings.cors_origins else settings.cors_origins
        app.add_middleware(falcon.CORSMiddleware(allow_origins=origins, expose_headers=["retry-after"]))
    app.add_middleware(guard(settings))
    app.add_middleware(Lifespan(mirror, control, ranking, store, known, log, watching))
    problems.install(app)
    for route, resource in {
        "/": pages.Page(html[pages.STOREFRONT]),
        "/dashboard": pages.Page(html[pages.DASHBOARD]),
        pages.ASSETS + "/{version}/{name}": pages.Assets(files, version),
        "/v1/events": events.Events(log.events, known),
        "/v1/items": items.Items(log.events, mirror, items.Entries(mirror, store, known)),
        "/v1/items/{item_id}": items.OneItem(log.events, mirror, store, known, settings.partitions),
        "/v1/items/{item_id}/similar": lists.Similar(answering),
        "/v1/users/{user_id}": users.OneUser(known, mirror, log.events, times, (ruled, tried)),
        "/v1/users/{user_id}/recommendations": users.Recommendations(answering),
        "/v1/users/{user_id}/recommendations/live": live.LiveRecommendations(answering, known, watching),
        "/v1/users/{user_id}/feedback": users.UserFeedback(known, log.events, times),
        "/v1/users/{user_id}/onboarding": users.UserOnboarding(known, log.events, times),
        "/v1/sessions/recommendations": lists.Session(answering, known),
        "/v1/search": lists.Search(answering),
        "/v1/popular": lists.Popular(answering),
        "/v1/trending": lists.Trending(answering),
        "/v1/metrics": dashboard.MetricsOverTime(settings, store, mirror, lambda: promoting.serving),
        "/v1/admin/rules": rules.CurrentRules(ruling),
        "/v1/admin/rules/dry-run": rules.DryRun(ruling),
        "/v1/admin/rules/history": History(ruled, rules.differences),
        "/v1/admin/rules/rollback": Rollback(ruled, rules.answer_of),
        "/v1/admin/experiments": experiments.AllExperiments(planning),
        "/v1/admin/experiments/history": History(tried, differences),
        "/v1/admin/experiments/rollback": Rollback(tried, experiments.answer_of),
        "/v1/admin/experiments/{name}": experiments.OneExperiment(planning),
        "/v1/admin/experiments/{name}/start": experiments.Start(planning),
        "/v1/admin/experiments/{name}/ramp": experiments.Ramp(planning),
        "/v1/admin/experiments/{name}/stop": experiments.Stop(planning),
        "/v1/admin/models": models.AllModels(promoting),
        "/v1/admin/models/pin": models.Pin(promoting),
        "/v1/admin/models/rollback": models.RollbackModels(promoting),
        "/v1/admin/models/history": History(promoting.documents, models.differences),
        "/v1/admin/models/{name}": models.OneModel(promoting),
        "/v1/admin/models/{name}/diff": models.Difference(promoting),
        "/v1/admin/models/{name}/promote": models.Promote(promoting),
        "/v1/admin/models/{name}/shadow": models.ShadowModel(promoting),
        "/v1/admin/requests/{request_id}": requests.Replay(log.lists, mirror),
        "/health/live": operation.HealthLive(),
        "/health/ready": operation.HealthReady(mirror, troubles),
        "/metrics": operation.Metrics(mirror, log),
        "/openapi.json": operation.Document(msgspec.json.encode(openapi.document()), "application/json"),
        "/docs": operation.Document(docs, falcon.MEDIA_HTML, page_policy(docs)),
    }.items():
        app.add_route(route, resource)
    return app


def guard(settings: Settings) -> Guard:
    """Return what asks for keys. Raise `NotProtectedError` or `KeyFileError` where that cannot be."""
    keys = access.ring(settings)
    rates = None if keys is None else Rates(rates_path(settings))
    return Guard(keys, rates, settings.rate_limit)


def create() -> App:
    """Return the application of this process, configured by the environment: gunicorn's entry point."""
    settings = Settings()
    gc.set_threshold(*_GC_THRESHOLDS)
    handler = logging.StreamHandler()
    handler.setFormatter(formatter(settings, "%(asctime)s %(levelname)s %(name)s[%(process)d] %(message)s"))
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler])
    logging.getLogger("serving").info("kernels are ready after %.1f s", warm_up())
    return create_app(settings, AsyncRedisStore(settings), EventLog(settings))
