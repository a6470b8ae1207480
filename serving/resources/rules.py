"""`/v1/admin/rules`: what people decide about lists: try, put in force, look back, go back."""

import time
from collections.abc import Mapping

import falcon.asgi
import msgspec

from online_models.rules import ActiveRules
from serving.contract.bodies import read_body, send
from serving.contract.problems import ProblemError
from serving.contract.queries import NoQuery, RecommendationQuery, parse_query
from serving.contract.rules import (
    BODY_LIMIT,
    HistoryAnswer,
    HistoryEntry,
    HistoryQuery,
    ListChange,
    NewRules,
    RulesAnswer,
    RulesQuery,
    Trial,
    TrialAnswer,
    WantedRollback,
)
from serving.kafka.event_log import Outbox
from serving.memory.breaker import Breaker
from serving.memory.control import Control
from serving.memory.mirror import Mirror
from serving.pipelines.lists import Lists
from serving.resources.events import deliver
from state.control import RULES, ControlDocument, parse_rules, rules_body, version_field
from state.entries import CONTROL, CONTROL_HISTORY
from state.rules import KINDS, Rules
from state.store import AsyncStore, StoreUnavailableError
from state.topics import CONTROL as CONTROL_TOPIC
from state.validation import InvalidInputError, decode

_new_decoder = msgspec.json.Decoder(NewRules)
_trial_decoder = msgspec.json.Decoder(Trial)
_rollback_decoder = msgspec.json.Decoder(WantedRollback)
_encode = msgspec.msgpack.Encoder().encode
_NOBODY = "no key was asked for"


class Ruling:
    """Reads and writes versions of the rules."""

    def __init__(
        self, control: Control, store: AsyncStore, breaker: Breaker, outbox: Outbox, mirror: Mirror, lists: Lists
    ) -> None:
        self.control = control
        self.lists = lists
        self._store = store
        self._breaker = breaker
        self._outbox = outbox
        self._mirror = mirror

    def understood(self, rules: Rules) -> ActiveRules:
        """Return the rules as they would hold. Raise `InvalidInputError` that names the field of the body."""
        try:
            active = ActiveRules(rules)
            active.check(self._mirror.current.attributes)
        except InvalidInputError as error:
            raise InvalidInputError(f"rules.{error.field}", error.reason) from error
        return active

    def n_withheld(self, rules: ActiveRules, surface: str, region: str | None) -> int:
        withheld = rules.withheld(self._mirror.current, surface, None, region)
        return 0 if withheld is None else len(withheld[1])

    async def in_force(self) -> tuple[ControlDocument | None, int | None]:
        """Return the newest document and the version that Redis holds, None where it holds none."""
        stored = (await self._read(CONTROL.name, [RULES])).get(RULES)
        known = self.control.document
        newest = stored if known is None or (stored is not None and stored.version >= known.version) else known
        return newest, None if stored is None else stored.version

    async def versions(self, numbers: range | list[int]) -> dict[int, ControlDocument]:
        """Return those of the versions that the history holds."""
        found = await self._read(CONTROL_HISTORY.name, [version_field(RULES, n) for n in numbers])
        return {document.version: document for document in found.values()}

    async def write(
        self, rules: Rules, author: str, note: str, expected: int | None, restores: int | None = None
    ) -> RulesAnswer:
        """Put rules in force. Raise `ProblemError` 409 when not the expected version is in force, 503 without Redis."""
        newest, stored = await self.in_force()
        version = 0 if newest is None else newest.version
        if expected is not None and expected != version:
            raise ProblemError(409, f"version: {expected} is not in force, but {version}", field="version")
        now_ms = int(time.time() * 1000)
        document = ControlDocument(RULES, version + 1, rules_body(rules), author, now_ms, note, restores)
        if not await self._guarded_replace(document, stored):
            raise ProblemError(409, "another version was put in force in this moment", field="version")
        self.control.take(document)
        message = (version_field(RULES, document.version), _encode(document))
        delivery = await deliver(self._outbox, CONTROL_TOPIC, [message])
        return answer_of(document, delivery.n_pending + len(delivery.failed))

    async def _guarded_replace(self, document: ControlDocument, stored: int | None) -> bool:
        try:
            return await self._breaker.call(lambda: self._store.replace_document(document, stored))
        except StoreUnavailableError as error:
            raise unavailable(error) from error

    async def _read(self, table: str, fields: list[str]) -> Mapping[str, ControlDocument]:
        of = CONTROL if table == CONTROL.name else CONTROL_HISTORY
        try:
            return await self._breaker.call(lambda: self._store.get_rows(of, fields))
        except StoreUnavailableError as error:
            raise unavailable(error) from error


def unavailable(error: StoreUnavailableError) -> ProblemError:
    """Return the problem of rules that cannot be read or written now; those in force go on to hold."""
    return ProblemError(503, f"rules cannot be changed or looked up now: {error}", retry_after_s=1)


class CurrentRules:
    """The rules in force."""

    def __init__(self, ruling: Ruling) -> None:
        self._ruling = ruling

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        query = parse_query(RulesQuery, req.params)
        if query.version is None:
            send(resp, answer_of((await self._ruling.in_force())[0]))
            return
        send(resp, answer_of(await _version(self._ruling, query.version, "version")))

    async def on_put(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        parse_query(NoQuery, req.params)
        wanted = decode(_new_decoder, await read_body(req, BODY_LIMIT), BODY_LIMIT)
        self._ruling.understood(wanted.rules)
        send(resp, await self._ruling.write(wanted.rules, _caller(req), wanted.note, wanted.version))


class DryRun:
    """Whose lists would change."""

    def __init__(self, ruling: Ruling) -> None:
        self._ruling = ruling

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        parse_query(NoQuery, req.params)
        trial = decode(_trial_decoder, await read_body(req, BODY_LIMIT), BODY_LIMIT)
        rules = self._ruling.understood(trial.rules)
        lists, control = self._ruling.lists, self._ruling.control
        query = RecommendationQuery(limit=trial.limit, region=trial.region, surface=trial.surface)
        users = list(dict.fromkeys([*trial.users, *lists.recent_users(trial.sample)]))
        changed = []
        for user_id in users:
            before, after, relaxed = await lists.compare(trial.surface, query, user_id, rules)
            if before != after:
                changed.append(
                    ListChange(
                        user_id=user_id,
                        before=before,
                        after=after,
                        gone=[item for item in before if item not in after],
                        new=[item for item in after if item not in before],
                        relaxed=relaxed,
                    )
                )
        send(
            resp,
            TrialAnswer(
                version=control.rules.version,
                changes=differences(control.rules.document, trial.rules),
                n_users=len(users),
                n_changed=len(changed),
                n_withheld=self._ruling.n_withheld(rules, trial.surface, trial.region),
                lists=changed,
            ),
        )


class History:
    """Who changed what, and when."""

    def __init__(self, ruling: Ruling) -> None:
        self._ruling = ruling

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        query = parse_query(HistoryQuery, req.params)
        newest = (await self._ruling.in_force())[0]
        last = 0 if newest is None else newest.version
        wanted = range(last, max(last - query.limit, 0), -1)
        found = await self._ruling.versions([*wanted, wanted[-1] - 1] if wanted else [])
        entries = []
        for version in wanted:
            if (document := found.get(version)) is not None:
                earlier = found.get(version - 1)
                before = Rules() if earlier is None else parse_rules(earlier.body)
                answer = answer_of(document)
                entries.append(
                    HistoryEntry(
                        version=version,
                        author=answer.author,
                        ts=answer.ts,
                        note=answer.note,
                        restores=answer.restores,
                        changes=differences(before, answer.rules),
                    )
                )
        send(resp, HistoryAnswer(versions=entries))


class Rollback:
    """Back to an earlier version, in one call."""

    def __init__(self, ruling: Ruling) -> None:
        self._ruling = ruling

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        parse_query(NoQuery, req.params)
        body = await read_body(req, BODY_LIMIT)
        wanted = decode(_rollback_decoder, body or b"{}", BODY_LIMIT)
        newest = (await self._ruling.in_force())[0]
        if newest is None:
            raise ProblemError(409, "no rules were ever put in force", field="to")
        to = newest.version - 1 if wanted.to is None else wanted.to
        document = await _version(self._ruling, to, "to")
        rules = Rules() if document is None else parse_rules(document.body)
        send(resp, await self._ruling.write(rules, _caller(req), wanted.note, newest.version, restores=to))


async def _version(ruling: Ruling, version: int, field: str) -> ControlDocument | None:
    """Return a version, None for number 0. Raise `ProblemError` 404."""
    if version == 0:
        return None
    found = (await ruling.versions([version])).get(version)
    if found is None:
        raise ProblemError(404, f"{field}: there is no version {version}", field=field)
    return found


def answer_of(document: ControlDocument | None, pending: int = 0) -> RulesAnswer:
    """Return what is told of a version; None is what holds before the first one."""
    if document is None:
        return RulesAnswer(version=0, author="", ts=None, note="", restores=None, rules=Rules())
    return RulesAnswer(
        version=document.version,
        author=document.author,
        ts=document.ts,
        note=document.note,
        restores=document.restores,
        rules=parse_rules(document.body),
        pending=pending,
    )


def differences(before: Rules, after: Rules) -> list[str]:
    """Say which rules are new (`+`), gone (`-`) and changed (`~`)."""
    found = []
    for kind in KINDS:
        old = {rule.name: rule for rule in getattr(before, kind)}
        new = {rule.name: rule for rule in getattr(after, kind)}
        found += [f"+ {kind} {name}" for name in new if name not in old]
        found += [f"- {kind} {name}" for name in old if name not in new]
        found += [f"~ {kind} {name}" for name in new if name in old and old[name] != new[name]]
        if list(old) != list(new) and set(old) == set(new):
            found.append(f"~ {kind}: their order")
    if before.near_duplicates != after.near_duplicates:
        found.append(f"~ near_duplicates {before.near_duplicates} -> {after.near_duplicates}")
    return found


def _caller(req: falcon.asgi.Request) -> str:
    return str(getattr(req.context, "caller", _NOBODY))
