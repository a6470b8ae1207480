"""`/v1/admin/experiments`: the life of experiments, from the plan to the stop."""

import time
from collections.abc import Callable
from functools import partial

import falcon.asgi
import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from online_models.experiments import plans
from online_models.experiments.active import check_rules
from online_models.experiments.arm_days import MAX_DAYS, OneDay, by_day, figures_by_day, figures_of_arms
from online_models.experiments.arm_sums import DAY_MS, USERS, Sums, merged
from online_models.experiments.assignment import LayerFullError
from online_models.reranking.rules import ActiveRules
from serving.contract.bodies import read_body, send
from serving.contract.documents import VersionQuery
from serving.contract.experiments import (
    BODY_LIMIT,
    ExperimentAnswer,
    ExperimentsAnswer,
    NewExperiment,
    WantedRamp,
    WantedStart,
    WantedStop,
)
from serving.contract.problems import ProblemError
from serving.contract.queries import NoQuery, parse_query
from serving.memory.mirror import Mirror
from serving.memory.models import Models
from serving.resources.documents import Documents, caller
from state.artifacts import ONLINE, ArtifactError
from state.control import EXPERIMENTS, ControlDocument
from state.entries import EXPERIMENT_ARMS, EXPERIMENT_DAYS, arm_day_field, arm_field
from state.experiments import Experiment, Experiments
from state.registry import RegistryError, UnknownModelError
from state.store import StoreUnavailableError
from state.validation import InvalidInputError, decode

_SWITCHED = ""
"""The arm of those who were seen in several."""
_ATTEMPTS = 5
"""Of a change, when others change other experiments in the same moment."""
_new_decoder = msgspec.json.Decoder(NewExperiment)
_start_decoder = msgspec.json.Decoder(WantedStart)
_ramp_decoder = msgspec.json.Decoder(WantedRamp)
_stop_decoder = msgspec.json.Decoder(WantedStop)

Step = Callable[[Experiments], Experiments]


class Planning:
    """Changes single experiments of the one document."""

    def __init__(
        self,
        documents: Documents[Experiments],
        rules: Callable[[], ActiveRules],
        mirror: Mirror,
        models: Models,
        n_partitions: int,
    ) -> None:
        self.documents = documents
        self._rules = rules
        self._mirror = mirror
        self._models = models
        self._n_partitions = n_partitions

    async def take(self, step: Step, name: str, author: str, note: str) -> ExperimentAnswer:
        """Put what a step makes of the document in force. Raise `ProblemError` 404, 409 or 503."""
        for _ in range(_ATTEMPTS):
            newest = await self.documents.in_force()
            after = self._after(step, self.documents.body_of(newest))
            try:
                written = await self.documents.write(after, author, note, 0 if newest is None else newest.version)
            except ProblemError as problem:
                if problem.field != "version":
                    raise
                continue
            return one_of(name, *written)
        raise ProblemError(409, "others change experiments all the time; try again", retry_after_s=1)

    async def sums(self, experiment: Experiment) -> tuple[dict[str, Sums], int | None]:
        """Return arm -> its sums over all partitions, `_SWITCHED` among them, and when the first list was (epoch ms).

        Raise `ProblemError` 503.
        """
        arms = [_SWITCHED, *(arm.name for arm in experiment.arms)]
        wanted = {arm: [arm_field(p, experiment.name, arm) for p in range(self._n_partitions)] for arm in arms}
        rows = await self.documents.read(EXPERIMENT_ARMS, [field for fields in wanted.values() for field in fields])
        found = {arm: [rows[field].sums for field in fields if field in rows] for arm, fields in wanted.items()}
        first_ts = min((row.first_ts for row in rows.values()), default=None)
        return {arm: merged(several) for arm, several in found.items() if several}, first_ts

    async def days(self, experiment: Experiment, first_ts: int) -> list[OneDay]:
        """Return the arms by day since then (epoch ms), the last `MAX_DAYS`. Raise `ProblemError` 503."""
        today = int(time.time() * 1000) // DAY_MS
        fields = [
            arm_day_field(partition, experiment.name, arm.name, day)
            for day in range(max(first_ts // DAY_MS, today - MAX_DAYS), today + 1)
            for arm in experiment.arms
            for partition in range(self._n_partitions)
        ]
        return by_day((await self.documents.read(EXPERIMENT_DAYS, fields)).values())

    def check_rules(self, plan: NewExperiment) -> None:
        """Raise `InvalidInputError`, naming the field, for arms whose rules cannot hold with the catalogue as it is."""
        check_rules(plan, self._rules(), self._mirror.current.attributes)

    async def check_models(self, plan: NewExperiment) -> None:
        """Put what arms rank by where all processes find it. Raise `InvalidInputError` for what cannot be used."""
        for k, arm in enumerate(plan.arms):
            if arm.parameters.model in (UNSET, ONLINE):
                continue
            try:
                await self._models.publish(str(arm.parameters.model))
            except (UnknownModelError, ArtifactError) as error:
                raise InvalidInputError(f"arms[{k}].parameters.model", str(error)) from error
            except (RegistryError, StoreUnavailableError) as error:
                raise ProblemError(503, str(error), retry_after_s=1) from error

    def _after(self, step: Step, before: Experiments) -> Experiments:
        try:
            return step(before)
        except plans.UnknownExperimentError as error:
            raise ProblemError(404, str(error), field="name") from error
        except plans.NotPossibleError as error:
            raise ProblemError(409, str(error)) from error
        except LayerFullError as error:
            raise ProblemError(409, f"share: {error}", field="share") from error


class AllExperiments:
    """All of them, and one more."""

    def __init__(self, planning: Planning) -> None:
        self._planning = planning

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        query = parse_query(VersionQuery, req.params)
        documents = self._planning.documents
        if query.version is None:
            send(resp, answer_of(await documents.in_force()))
        else:
            send(resp, answer_of(await documents.version(query.version, "version")))

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        parse_query(NoQuery, req.params)
        plan = decode(_new_decoder, await read_body(req, BODY_LIMIT), BODY_LIMIT)
        self._planning.check_rules(plan)
        await self._planning.check_models(plan)
        answer = await self._planning.take(partial(plans.created, plan=plan), plan.name, caller(req), plan.note)
        send(resp, answer, 201)


class OneExperiment:
    """How one stands."""

    def __init__(self, planning: Planning) -> None:
        self._planning = planning

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, name: str) -> None:
        parse_query(NoQuery, req.params)
        answer = one_of(name, await self._planning.documents.in_force())
        sums, first_ts = await self._planning.sums(answer.experiment)
        switched = sums.pop(_SWITCHED, {}).get(USERS, 0)
        days = [] if first_ts is None else await self._planning.days(answer.experiment, first_ts)
        told = {"arms": figures_of_arms(days), "days": figures_by_day(days)}
        send(resp, replace(answer, sums=sums, switched_users=switched, **told))


class Start:
    """Users are assigned from now on, or from `start_ms`."""

    def __init__(self, planning: Planning) -> None:
        self._planning = planning

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, name: str) -> None:
        parse_query(NoQuery, req.params)
        wanted = decode(_start_decoder, await read_body(req, BODY_LIMIT) or b"{}", BODY_LIMIT)
        now_ms = int(time.time() * 1000)
        step = partial(plans.started, name=name, now_ms=now_ms)
        send(resp, await self._planning.take(step, name, caller(req), wanted.note or f"start {name}"))


class Ramp:
    """More users, or fewer."""

    def __init__(self, planning: Planning) -> None:
        self._planning = planning

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, name: str) -> None:
        parse_query(NoQuery, req.params)
        wanted = decode(_ramp_decoder, await read_body(req, BODY_LIMIT), BODY_LIMIT)
        step = partial(plans.ramped, name=name, share=wanted.share)
        send(resp, await self._planning.take(step, name, caller(req), wanted.note or f"ramp {name}"))


class Stop:
    """The end, of an arm or of all."""

    def __init__(self, planning: Planning) -> None:
        self._planning = planning

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, name: str) -> None:
        parse_query(NoQuery, req.params)
        wanted = decode(_stop_decoder, await read_body(req, BODY_LIMIT), BODY_LIMIT)
        now_ms = int(time.time() * 1000)
        step = partial(plans.stopped, name=name, reason=wanted.reason, now_ms=now_ms, arm=wanted.arm)
        send(resp, await self._planning.take(step, name, caller(req), f"stop {name}: {wanted.reason}"))


def answer_of(document: ControlDocument | None, pending: int = 0) -> ExperimentsAnswer:
    """Return what is told of a version; None is what holds before the first one."""
    if document is None:
        return ExperimentsAnswer(version=0, author="", ts=None, note="", restores=None, experiments=[])
    return ExperimentsAnswer(
        version=document.version,
        author=document.author,
        ts=document.ts,
        note=document.note,
        restores=document.restores,
        experiments=EXPERIMENTS.parse(document.body).experiments,
        pending=pending,
    )


def one_of(name: str, document: ControlDocument | None, pending: int = 0) -> ExperimentAnswer:
    """Return what a version says of one experiment. Raise `ProblemError` 404."""
    found = None if document is None else EXPERIMENTS.parse(document.body).get(name)
    if document is None or found is None:
        raise ProblemError(404, f"there is no experiment {name!r}", field="name")
    return ExperimentAnswer(
        version=document.version,
        author=document.author,
        ts=document.ts,
        note=document.note,
        restores=document.restores,
        experiment=found,
        pending=pending,
    )
