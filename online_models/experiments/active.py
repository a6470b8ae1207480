"""Experiments in force: one version of the document, read once, and what it does to each request."""

from dataclasses import dataclass, field
from typing import Any, Literal

from msgspec import UNSET, Struct
from msgspec.structs import asdict, replace

from online_models.catalogue.attributes import Attributes
from online_models.experiments.assignment import Circumstances, drawn, is_eligible
from online_models.experiments.plans import check
from online_models.reranking.rules import ActiveRules
from state.experiments import Experiment, Experiments, Plan
from state.validation import InvalidInputError

_MAX_USERS = 50_000
"""Whose arms are remembered."""


@dataclass(frozen=True)
class Choice:
    """What experiments do to one request; the same object for all requests with the same arms."""

    arms: dict[str, str] = field(default_factory=dict)
    """Experiment -> arm, as told and logged; not to be written to."""
    parameters: dict[str, Any] = field(default_factory=dict)
    """Parameter of the request -> value."""
    ranker: Literal["model", "popularity"] = "model"
    model: str | None = None
    """The ranker's version; None: the one that ranks for everybody."""
    without: frozenset[str] = frozenset()
    """Candidate sources that are not asked."""
    rules: dict[str, Any] = field(default_factory=dict)
    """Part of the rules document -> what it is instead."""


UNCHANGED = Choice()


class ActiveExperiments:
    """One version of the document.

    Raises
    ------
    InvalidInputError
        For what cannot be in force together.
    """

    def __init__(self, document: Experiments | None = None, version: int = 0) -> None:
        self.document = document or Experiments()
        self.version = version
        """0 while nobody has written any."""
        check(self.document)
        self._running = tuple(found for found in self.document.experiments if found.status == "running")
        self._drawn: dict[str, tuple[tuple[Experiment, str], ...]] = {}
        self._choices: dict[tuple[tuple[str, str], ...], Choice] = {}
        self._ruled: dict[int, ActiveRules] = {}
        self._ruled_from: ActiveRules | None = None

    def choose(self, user_id: str | None, at: Circumstances) -> Choice:
        """Return what holds for a request of this user."""
        if not self._running or user_id is None:
            return UNCHANGED
        own = self._drawn.get(user_id)
        if own is None:
            if len(self._drawn) >= _MAX_USERS:
                self._drawn.clear()
            own = self._drawn[user_id] = tuple(drawn(self._running, user_id))
        if not own:
            return UNCHANGED
        arms = tuple((experiment.name, arm) for experiment, arm in own if is_eligible(experiment, at))
        choice = self._choices.get(arms)
        if choice is None:
            choice = self._choices[arms] = self._choice(arms)
        return choice

    def models(self) -> set[str]:
        """Return the versions of the ranker that arms ask for."""
        given = (arm.parameters.model for running in self._running for arm in running.arms)
        return {model for model in given if isinstance(model, str)}

    def ruled(self, choice: Choice, rules: ActiveRules) -> ActiveRules:
        """Return the rules as the arms change them. Raise `InvalidInputError` when both cannot hold together."""
        if not choice.rules:
            return rules
        if self._ruled_from is not rules:
            self._ruled_from = rules
            self._ruled.clear()
        found = self._ruled.get(id(choice))  # choices live as long as this object
        if found is None:
            found = self._ruled[id(choice)] = with_parts(rules, choice.rules)
        return found

    def _choice(self, arms: tuple[tuple[str, str], ...]) -> Choice:
        parameters: dict[str, Any] = {}
        rules: dict[str, Any] = {}
        for experiment, name in arms:
            known = self.document.get(experiment)
            assert known is not None
            given = next(arm.parameters for arm in known.arms if arm.name == name)
            parameters |= _said(given)
            if given.rules is not UNSET:
                rules |= _said(given.rules)
        parameters.pop("rules", None)
        ranker, model = parameters.pop("ranker", "model"), parameters.pop("model", None)
        without = frozenset(parameters.pop("without", ()))
        return Choice(dict(arms), parameters, ranker, model, without, rules)


def with_parts(rules: ActiveRules, changed: dict[str, Any]) -> ActiveRules:
    """Return rules with some parts replaced. Raise `InvalidInputError` when they contradict the others."""
    return ActiveRules(replace(rules.document, **changed), rules.version)


def check_rules(plan: Plan, rules: ActiveRules, attributes: Attributes) -> None:
    """Raise `InvalidInputError`, naming the field, for arms whose rules cannot hold beside those in force."""
    for k, arm in enumerate(plan.arms):
        if arm.parameters.rules is not UNSET:
            try:
                with_parts(rules, _said(arm.parameters.rules)).check(attributes)
            except InvalidInputError as error:
                raise InvalidInputError(f"arms[{k}].parameters.rules.{error.field}", error.reason) from error


def _said(of: Struct) -> dict[str, Any]:
    return {name: value for name, value in asdict(of).items() if value is not UNSET}
