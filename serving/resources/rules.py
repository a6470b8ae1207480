"""`/v1/admin/rules`: what people decide about lists: try, put in force, look back, go back."""

import falcon.asgi
import msgspec

from online_models.reranking.rules import ActiveRules
from serving.contract.bodies import read_body, send
from serving.contract.documents import VersionQuery
from serving.contract.queries import NoQuery, RecommendationQuery, parse_query
from serving.contract.rules import BODY_LIMIT, ListChange, NewRules, RulesAnswer, Trial, TrialAnswer
from serving.memory.mirror import Mirror
from serving.pipelines.lists import Lists
from serving.resources.documents import Documents, caller
from state.control import RULES, ControlDocument
from state.rules import KINDS, Rules
from state.validation import InvalidInputError, decode

_new_decoder = msgspec.json.Decoder(NewRules)
_trial_decoder = msgspec.json.Decoder(Trial)


class Ruling:
    """What rules come to with the catalogue as it is."""

    def __init__(self, documents: Documents[Rules], mirror: Mirror, lists: Lists) -> None:
        self.documents = documents
        self.lists = lists
        self._mirror = mirror

    @property
    def in_force(self) -> ActiveRules:
        """Return the rules of this process."""
        active: ActiveRules = self.documents.held.active
        return active

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


class CurrentRules:
    """The rules in force."""

    def __init__(self, ruling: Ruling) -> None:
        self._ruling = ruling

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        query = parse_query(VersionQuery, req.params)
        documents = self._ruling.documents
        if query.version is None:
            send(resp, answer_of(await documents.in_force()))
        else:
            send(resp, answer_of(await documents.version(query.version, "version")))

    async def on_put(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        parse_query(NoQuery, req.params)
        wanted = decode(_new_decoder, await read_body(req, BODY_LIMIT), BODY_LIMIT)
        self._ruling.understood(wanted.rules)
        written = await self._ruling.documents.write(wanted.rules, caller(req), wanted.note, wanted.version)
        send(resp, answer_of(*written))


class DryRun:
    """Whose lists would change."""

    def __init__(self, ruling: Ruling) -> None:
        self._ruling = ruling

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        parse_query(NoQuery, req.params)
        trial = decode(_trial_decoder, await read_body(req, BODY_LIMIT), BODY_LIMIT)
        rules = self._ruling.understood(trial.rules)
        lists, in_force = self._ruling.lists, self._ruling.in_force
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
                version=in_force.version,
                changes=differences(in_force.document, trial.rules),
                n_users=len(users),
                n_changed=len(changed),
                n_withheld=self._ruling.n_withheld(rules, trial.surface, trial.region),
                lists=changed,
            ),
        )


def answer_of(document: ControlDocument | None, pending: int = 0) -> RulesAnswer:
    """Return what is told of a version; None is what holds before the first one."""
    if document is None:
        return RulesAnswer(version=0, author="", ts=None, note="", restores=None, rules=RULES.nothing)
    return RulesAnswer(
        version=document.version,
        author=document.author,
        ts=document.ts,
        note=document.note,
        restores=document.restores,
        rules=RULES.parse(document.body),
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
