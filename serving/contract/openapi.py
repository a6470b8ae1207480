"""The OpenAPI document, made from the types that validate requests and encode answers."""

from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import Struct

from serving.contract import answers, documents, experiments, models, queries, rules
from serving.contract.answers import Live, Ready
from serving.contract.feedback import Feedback, Onboarding
from serving.contract.metrics import MetricsAnswer, MetricsQuery
from serving.contract.problems import CONTENT_TYPE, Problem
from serving.contract.scopes import scope_of
from serving.contract.sessions import SessionBody
from state.artifacts import Manifest
from state.models import Shadow
from state.records import Event, Identifier, Item


class EventBatch(Struct):
    """Many events; each is judged by itself."""

    events: list[Event]


class ItemBatch(Struct):
    """Many items; each is judged by itself."""

    items: list[Item]


class ItemIds(Struct, forbid_unknown_fields=True):
    """Many items, by their ids."""

    items: list[Identifier]


@dataclass(frozen=True)
class Operation:
    """One call as published."""

    method: str
    path: str
    summary: str
    answer: type[Struct] | str
    """A struct, or the content type of what is no JSON."""
    query: type[Struct] = queries.NoQuery
    bodies: tuple[type[Struct], ...] = ()
    status: int = 200
    problems: tuple[int, ...] = (400,)


API_VERSION = "1.0.0"
_MAY_BE_LEFT_OUT = {documents.WantedRollback, experiments.WantedStart, models.WantedModel, models.WantedShadow}
"""Bodies that only say what has a default."""
_BATCH = (400, 413, 429)
_ACCESS = (401, 403, 429)
_ITEM = "/v1/items/{item_id}"
_USER = "/v1/users/{user_id}"
_RULES = "/v1/admin/rules"
_EXPERIMENTS = "/v1/admin/experiments"
_MODELS = "/v1/admin/models"
_CHANGES = (400, 404, 409, 413, 503)
OPERATIONS = (
    Operation(
        "post", "/v1/events", "Take events, one or many", answers.BatchAnswer,
        bodies=(EventBatch, Event), status=202, problems=_BATCH,
    ),
    Operation(
        "put", "/v1/items", "Add or replace catalogue items, one or many", answers.BatchAnswer,
        bodies=(ItemBatch, Item), status=202, problems=_BATCH,
    ),
    Operation(
        "get", "/v1/items", "The catalogue, in the order of ids", answers.CataloguePage, queries.CatalogueQuery
    ),
    Operation(
        "patch", "/v1/items", "Change fields of many items; null takes a value away", answers.BatchAnswer,
        bodies=(ItemBatch,), status=202, problems=(404, *_BATCH),
    ),
    Operation(
        "delete", "/v1/items", "Delete many items", answers.BatchAnswer,
        bodies=(ItemIds,), status=202, problems=(404, *_BATCH),
    ),
    Operation("get", _ITEM, "A catalogue entry and its activity", answers.ItemAnswer, problems=(400, 404)),
    Operation(
        "patch", _ITEM, "Change fields; null takes a value away", answers.BatchAnswer,
        bodies=(Item,), status=202, problems=(404, *_BATCH),
    ),
    Operation("delete", _ITEM, "Delete an item", answers.BatchAnswer, status=202, problems=(400, 404, 429)),
    Operation(
        "get", f"{_ITEM}/similar", "More like this item", answers.ListAnswer, queries.SurfaceQuery, problems=(400, 404)
    ),
    Operation("get", _USER, "What is known of a user", answers.UserAnswer),
    Operation(
        "delete", _USER, "Forget a user, everywhere", answers.EraseAnswer, status=202, problems=(400, 429)
    ),
    Operation(
        "get", f"{_USER}/recommendations", "A ranked list for a user", answers.ListAnswer,
        queries.RecommendationQuery, problems=(400, 404),
    ),
    Operation(
        "get", f"{_USER}/recommendations/live",
        "The same as server-sent events: a new list within a second of each change of the user's state",
        "text/event-stream", queries.RecommendationQuery, problems=(400, 404),
    ),
    Operation(
        "post", f"{_USER}/feedback", "Explicit feedback: in the user's very next list", answers.FeedbackAnswer,
        bodies=(Feedback,), status=202, problems=_BATCH,
    ),
    Operation(
        "post", f"{_USER}/onboarding", "What a new user likes: in the next list", answers.FeedbackAnswer,
        bodies=(Onboarding,), status=202, problems=_BATCH,
    ),
    Operation("get", "/v1/popular", "What most people take these days", answers.ListAnswer, queries.SurfaceQuery),
    Operation("get", "/v1/trending", "What is taken most at the moment", answers.ListAnswer, queries.TrendingQuery),
    Operation("get", _RULES, "The rules in force, or of an earlier version", rules.RulesAnswer, documents.VersionQuery,
              problems=(400, 404, 503)),
    Operation("put", _RULES, "Put rules in force, in all processes within two seconds", rules.RulesAnswer,
              bodies=(rules.NewRules,), problems=(400, 409, 413, 503)),
    Operation("post", f"{_RULES}/dry-run", "Whose lists would change, and how", rules.TrialAnswer,
              bodies=(rules.Trial,), problems=(400, 413)),
    Operation("get", f"{_RULES}/history", "Who changed what, newest first", documents.HistoryAnswer,
              documents.HistoryQuery, problems=(400, 503)),
    Operation("post", f"{_RULES}/rollback", "Put an earlier version in force again", rules.RulesAnswer,
              bodies=(documents.WantedRollback,), problems=(400, 404, 409, 413, 503)),
    Operation("get", _EXPERIMENTS, "All experiments, or those of an earlier version", experiments.ExperimentsAnswer,
              documents.VersionQuery, problems=(400, 404, 503)),
    Operation("post", _EXPERIMENTS, "Plan an experiment; nothing changes yet", experiments.ExperimentAnswer,
              bodies=(experiments.NewExperiment,), status=201, problems=(400, 409, 413, 503)),
    Operation("get", f"{_EXPERIMENTS}/{{name}}", "An experiment, and what its arms did", experiments.ExperimentAnswer,
              problems=(400, 404, 503)),
    Operation("post", f"{_EXPERIMENTS}/{{name}}/start", "Assign users, in all processes within two seconds",
              experiments.ExperimentAnswer, bodies=(experiments.WantedStart,), problems=_CHANGES),
    Operation("post", f"{_EXPERIMENTS}/{{name}}/ramp", "Change the share of users; those who stay keep their arms",
              experiments.ExperimentAnswer, bodies=(experiments.WantedRamp,), problems=_CHANGES),
    Operation("post", f"{_EXPERIMENTS}/{{name}}/stop", "Stop an experiment, or one of its arms",
              experiments.ExperimentAnswer, bodies=(experiments.WantedStop,), problems=_CHANGES),
    Operation("get", f"{_EXPERIMENTS}/history", "Who changed what, newest first", documents.HistoryAnswer,
              documents.HistoryQuery, problems=(400, 503)),
    Operation("post", f"{_EXPERIMENTS}/rollback", "Put an earlier version of all experiments in force again",
              experiments.ExperimentsAnswer, bodies=(documents.WantedRollback,), problems=_CHANGES),
    Operation("get", _MODELS, "All models, and what ranks", models.ModelsAnswer, problems=(400, 503)),
    Operation("post", _MODELS, "Register the live ranker as it is now", Manifest,
              bodies=(models.WantedModel,), status=201, problems=_CHANGES),
    Operation("post", f"{_MODELS}/pin", "Register the live ranker, and rank by it as it is now", models.ModelsInForce,
              bodies=(models.WantedModel,), problems=_CHANGES),
    Operation("post", f"{_MODELS}/rollback", "Rank by what ranked before", models.ModelsInForce,
              bodies=(documents.WantedRollback,), problems=_CHANGES),
    Operation("get", f"{_MODELS}/history", "Who promoted what, newest first", documents.HistoryAnswer,
              documents.HistoryQuery, problems=(400, 503)),
    Operation("get", f"{_MODELS}/{{name}}", "What a model is, and where it comes from", Manifest,
              problems=(400, 404, 409, 503)),
    Operation("delete", f"{_MODELS}/{{name}}", "Remove a model that nothing uses", models.DeletedModel,
              problems=(400, 404, 409, 503)),
    Operation("get", f"{_MODELS}/{{name}}/diff", "What another model has other than this one", models.ModelsDifference,
              models.DifferenceQuery, problems=(400, 404, 409, 503)),
    Operation("post", f"{_MODELS}/{{name}}/promote", "Rank by a model, in all processes within two seconds",
              models.ModelsInForce, bodies=(models.WantedModel,), problems=_CHANGES),
    Operation("post", f"{_MODELS}/{{name}}/shadow", "Score a share of what is served once more, beside serving",
              Shadow, bodies=(models.WantedShadow,), problems=_CHANGES),
    Operation("get", "/v1/search", "Items by text, in the user's order", answers.ListAnswer, queries.SearchQuery),
    Operation(
        "post", "/v1/sessions/recommendations", "A list by the events of the request; nothing is stored or logged",
        answers.ListAnswer, queries.ListQuery, bodies=(SessionBody,), problems=(400, 413),
    ),
    Operation(
        "get", "/v1/metrics", "How it goes: engagement, exposure, latency, freshness", MetricsAnswer, MetricsQuery
    ),
    Operation("get", "/v1/admin/requests/{request_id}", "A list as it was shown, from the log", answers.ReplayedList,
              problems=(400, 404, 503)),
    Operation("get", "/health/live", "Does the process answer?", Live, problems=()),
    Operation("get", "/health/ready", "Can it answer lists?", Ready, problems=()),
    Operation("get", "/metrics", "Prometheus metrics", "text/plain", problems=()),
)  # fmt: skip


def document() -> dict[str, Any]:
    """Return the OpenAPI 3.1 document."""
    described: set[type[Struct]] = {Problem}
    for operation in OPERATIONS:
        described.update(operation.bodies)
        if not isinstance(operation.answer, str):
            described.add(operation.answer)
    ordered = sorted(described, key=lambda kind: kind.__name__)
    references, components = msgspec.json.schema_components(ordered, ref_template="#/components/schemas/{name}")
    schemas = dict(zip(ordered, references, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _described(operation, schemas)
    whole = {
        "openapi": "3.1.0",
        "info": {
            "title": "Freshet",
            "version": API_VERSION,
            "description": "A streaming-first recommendation engine: what a user did a moment ago is in the next list.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API key with the scope that the call names. Nothing is asked for where no keys "
                    "are configured, which only a server on the loopback interface allows.",
                }
            },
        },
    }
    # As JSON has it: here defaults are tuples and structs.
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(whole))
    return plain


def _described(operation: Operation, schemas: dict[type[Struct], dict[str, Any]]) -> dict[str, Any]:
    in_path = [part[1:-1] for part in operation.path.split("/") if part.startswith("{")]
    name = "_".join(part.strip("{}") for part in operation.path.split("/") if part)
    described: dict[str, Any] = {
        "operationId": f"{operation.method}_{name}",
        "summary": operation.summary,
        "parameters": [
            {
                "name": parameter,
                "in": "path",
                "required": True,
                "schema": {"type": "string", "minLength": 1, "maxLength": queries.MAX_IDENTIFIER},
            }
            for parameter in in_path
        ]
        + _query_parameters(operation.query),
        "responses": {str(operation.status): {"description": "Done", "content": _content(operation.answer, schemas)}},
    }
    scope = scope_of(operation.method.upper(), operation.path)
    if scope is not None:
        described["security"] = [{"key": [scope]}]
    for status in sorted({*operation.problems, *(() if scope is None else _ACCESS)}):
        described["responses"][str(status)] = {
            "description": "A problem document (RFC 9457)",
            "content": {CONTENT_TYPE: {"schema": schemas[Problem]}},
        }
    if operation.path == "/health/ready":
        described["responses"]["503"] = {"description": "Not yet", "content": _content(operation.answer, schemas)}
    if operation.bodies:
        any_of = [schemas[body] for body in operation.bodies]
        schema = any_of[0] if len(any_of) == 1 else {"anyOf": any_of}
        if operation.method == "patch":
            schema = {"type": "object", "description": "Any of an Item's fields"}
        required = _MAY_BE_LEFT_OUT.isdisjoint(operation.bodies)
        described["requestBody"] = {"required": required, "content": {"application/json": {"schema": schema}}}
    return described


def _content(answer: type[Struct] | str, schemas: dict[type[Struct], dict[str, Any]]) -> dict[str, Any]:
    if isinstance(answer, str):
        return {answer: {"schema": {"type": "string"}}}
    return {"application/json": {"schema": schemas[answer]}}


def _query_parameters(query: type[Struct]) -> list[dict[str, Any]]:
    declared = msgspec.json.schema(query)["$defs"][query.__name__]
    properties = declared["properties"]
    parameters = []
    for name, schema in properties.items():
        parameter = {"name": name, "in": "query", "required": name in declared["required"], "schema": schema}
        if schema.get("type") == "array":
            parameter |= {"style": "form", "explode": True}
        if description := schema.pop("description", None):
            parameter["description"] = description
        parameters.append(parameter)
    return parameters
