"""The fold of a user's events into a profile, and of a session's into a session profile.

The flow `features` and serving (which folds pending feedback onto the stored profile) use the same function. What a
profile holds does not depend on the order in which events came, up to rounding in `affinity` and to what the bounds
have dropped (R24).
"""

from collections.abc import Sequence
from sys import intern

import msgspec
from msgspec import Raw

from online_models.users import activity
from online_models.users.outcomes import INTERACTIONS, is_positive, rating_share
from state.records import CleanEvent, RecentItem, SessionProfile, UserProfile
from state.validation import FEEDBACK_TYPES, NUMBER

MAX_RECENT = 100
MAX_SESSION_RECENT = 50
MAX_SEEN = 2_000
MAX_FEEDBACK = 5_000
MAX_GENRES = 64
AFFINITY_HALF_LIFE_MS = 14 * 24 * 3600 * 1000

_SLACK = 1.1  # what is dropped is dropped in bulk, when this much over the bound
_WEIGHTS = {"click": 1.0, "view": 1.0, "watch": 1.0, "purchase": 4.0}
_ONBOARDING_WEIGHT = 3.0
_FEEDBACK_WEIGHTS = {"like": 3.0, "save": 2.0, "dislike": -3.0, "hide": -2.0}
_RATING_WEIGHT = 6.0  # per share of the scale above or below the middle
_NEVER = -1
_decode_step = msgspec.msgpack.Decoder(RecentItem).decode
_ONBOARDING = ""
"""Key of `UserProfile.feedback_ts` for answers that are about no item."""


def step_of(event: CleanEvent) -> RecentItem | None:
    """Return the event as a step of its user's and session's history, None where it is none."""
    if event.item_id is None or event.type not in INTERACTIONS:
        return None
    return _step(event, event.item_id)


def apply_event(profile: UserProfile, event: CleanEvent, genres: Sequence[str], step: RecentItem | None = None) -> None:
    """Fold one event in place; once per event, in any order.

    `genres` are those of the event's item, or of the items of an onboarding answer; empty when unknown. `step` is
    `step_of(event)`, for those who have it already.
    """
    ts = event.ts
    if ts < profile.first_ts or profile.first_ts == 0:
        profile.first_ts = ts
    if ts > profile.last_ts:
        profile.last_ts = ts
    event_type = event.type
    activity.add(profile.activity, event_type, ts, profile.last_ts)
    item_id = event.item_id
    if event_type == "onboarding":
        _onboard(profile, event, genres)
    if item_id is None:
        return
    if event_type in INTERACTIONS:
        _remember(profile.recent, step or _step(event, item_id), MAX_RECENT)
        _see(profile.seen, intern(item_id), ts)
    if event_type in FEEDBACK_TYPES or event_type == "undo":
        _apply_feedback(profile, event, item_id, genres)
    elif event_type in _WEIGHTS:
        _add_affinity(profile, genres, _WEIGHTS[event_type], ts)


def contains(profile: UserProfile, event: CleanEvent) -> bool:
    """Whether this feedback, or newer of the same kind on the item, is part of the profile already."""
    times = profile.feedback_ts.get(_ONBOARDING if event.type == "onboarding" else event.item_id or "")
    return times is not None and times.get(_kind(event), _NEVER) >= event.ts


def apply_session_event(session: SessionProfile, event: CleanEvent, step: RecentItem | None) -> None:
    """Fold one event of the session in place; once per event, in any order. `step` is `step_of(event)`."""
    ts = event.ts
    session.first_ts = ts if session.first_ts == 0 else min(session.first_ts, ts)
    session.last_ts = max(session.last_ts, ts)
    activity.add(session.activity, event.type, ts, session.last_ts)
    if step is not None:
        _remember(session.recent, step, MAX_SESSION_RECENT)


def hidden(profile: UserProfile) -> set[str]:
    """Return the items that are never to be shown again."""
    return _with_feedback(profile, "hide")


def liked(profile: UserProfile) -> set[str]:
    """Return the items with a standing like."""
    return _with_feedback(profile, "like")


def disliked(profile: UserProfile) -> set[str]:
    """Return the items with a standing dislike."""
    return _with_feedback(profile, "dislike")


def newest_disliked(profile: UserProfile) -> list[str]:
    """Return `disliked`, newest first."""
    times = profile.feedback_ts
    return sorted(disliked(profile), key=lambda item_id: (-times[item_id].get("dislike", _NEVER), item_id))


def saved(profile: UserProfile) -> set[str]:
    """Return the items with a standing save."""
    return _with_feedback(profile, "save")


def sessions(profile: UserProfile) -> set[str]:
    """Return the sessions of the recent steps."""
    steps = [_step_at(profile.recent, k) for k in range(len(profile.recent))]
    return {step.session_id for step in steps if step.session_id is not None}


def seen(profile: UserProfile) -> set[str]:
    """Return the items that the user has consumed."""
    return set(profile.seen)


def affinity_at(profile: UserProfile, now_ms: int) -> dict[str, float]:
    """Return genre -> affinity, decayed to `now_ms` (stream time)."""
    factor = _decay(max(0, now_ms - profile.affinity_ts))
    return {genre: weight * factor for genre, weight in profile.affinity.items()}


def _with_feedback(profile: UserProfile, kind: str) -> set[str]:
    return {item_id for item_id, kinds in profile.feedback.items() if kind in kinds}


def _step(event: CleanEvent, item_id: str) -> RecentItem:
    value = None if isinstance(event.value, str) else event.value
    session_id = None if event.session_id is None else intern(event.session_id)
    positive = event.type == "onboarding" or is_positive(event.type, event.value, event.context)
    return RecentItem(intern(item_id), event.ts, intern(event.type), value, session_id, positive)


def _step_at(recent: list[RecentItem], k: int) -> RecentItem:
    """Return a step, decoded if it is one of a `ProfileToFold` that nobody has looked at yet."""
    step: RecentItem | Raw = recent[k]
    if isinstance(step, Raw):
        step = recent[k] = _decode_step(step)
    return step


def _order(step: RecentItem) -> tuple[int, str, str, float, str]:
    return step.ts, step.item_id, step.type, step.value or 0.0, step.session_id or ""


def _remember(recent: list[RecentItem], step: RecentItem, at_most: int) -> None:
    if not recent or _step_at(recent, -1).ts < step.ts:  # nearly always
        recent.append(step)
    else:
        at, order = len(recent), _order(step)
        while at and _order(_step_at(recent, at - 1)) > order:
            at -= 1
        recent.insert(at, step)
    if len(recent) > at_most:
        del recent[0]


def _see(times: dict[str, int], item_id: str, ts: int) -> None:
    if ts > times.get(item_id, _NEVER):
        times[item_id] = ts
        if len(times) > MAX_SEEN * _SLACK:
            for _, oldest in sorted((time, item) for item, time in times.items())[:-MAX_SEEN]:
                del times[oldest]


def _apply_feedback(profile: UserProfile, event: CleanEvent, item_id: str, genres: Sequence[str]) -> None:
    times = profile.feedback_ts.get(item_id)
    if times is None:
        _apply_first_feedback(profile, event, item_id, genres)
    else:
        before = _evidence(profile, item_id, times)
        kind = _kind(event)
        if kind == "rating" and isinstance(event.value, NUMBER):
            _rate(profile, item_id, event, event.value, times)
        times[kind] = max(times.get(kind, _NEVER), event.ts)
        _settle(profile, item_id, times)
        after = _evidence(profile, item_id, times)
        if before != after:
            for ts, weight in after:
                _add_affinity(profile, genres, weight, ts)
            for ts, weight in before:
                _add_affinity(profile, genres, -weight, ts)
    if len(profile.feedback_ts) > MAX_FEEDBACK * _SLACK:
        _forget_feedback(profile)


def _apply_first_feedback(profile: UserProfile, event: CleanEvent, item_id: str, genres: Sequence[str]) -> None:
    """What most feedback is: there is nothing that it could take back, or that was said later."""
    kind, ts = _kind(event), event.ts
    profile.feedback_ts[item_id] = {kind: ts}
    if kind in _FEEDBACK_WEIGHTS:
        profile.feedback[item_id] = [kind]
        _add_affinity(profile, genres, _FEEDBACK_WEIGHTS[kind], ts)
    elif kind == "rating" and isinstance(event.value, NUMBER):
        share = profile.ratings[item_id] = rating_share(event.value, event.context)
        _add_affinity(profile, genres, _RATING_WEIGHT * (share - 0.5), ts)


def _settle(profile: UserProfile, item_id: str, times: dict[str, int]) -> None:
    """Let stand what nothing newer has taken back."""
    standing = [kind for kind in _FEEDBACK_WEIGHTS if kind in times and _stands(times, kind)]
    if standing:
        profile.feedback[item_id] = standing
    else:
        profile.feedback.pop(item_id, None)
    if item_id in profile.ratings and not _stands(times, "rating"):
        del profile.ratings[item_id]


def _kind(event: CleanEvent) -> str:
    """Return the event's key in `UserProfile.feedback_ts`."""
    return f"undo {event.value}" if event.type == "undo" and event.value is not None else event.type


def _rate(profile: UserProfile, item_id: str, event: CleanEvent, value: float, times: dict[str, int]) -> None:
    share = rating_share(value, event.context)
    newest = times.get("rating", _NEVER)
    if event.ts > newest or (event.ts == newest and share > profile.ratings.get(item_id, 0.0)):
        profile.ratings[item_id] = share


def _stands(times: dict[str, int], kind: str) -> bool:
    """Whether the newest feedback of this kind is newer than what took it back; at the same time, it is taken back."""
    said_at = times.get(kind, _NEVER)
    if said_at <= max(times.get("undo", _NEVER), times.get(f"undo {kind}", _NEVER)):
        return False
    if kind == "like":
        return said_at > times.get("dislike", _NEVER)
    return kind != "dislike" or said_at >= times.get("like", _NEVER)


def _evidence(profile: UserProfile, item_id: str, times: dict[str, int]) -> list[tuple[int, float]]:
    """Return (time, affinity weight) of the item's standing feedback."""
    evidence = [(times[kind], _FEEDBACK_WEIGHTS[kind]) for kind in profile.feedback.get(item_id, ())]
    share = profile.ratings.get(item_id)
    if share is not None:
        evidence.append((times["rating"], _RATING_WEIGHT * (share - 0.5)))
    return evidence


def _forget_feedback(profile: UserProfile) -> None:
    """Drop what was taken back first, then the oldest; hides last."""

    def worth(item_id: str) -> tuple[bool, bool, int, str]:
        kinds = profile.feedback.get(item_id, ())
        times = profile.feedback_ts[item_id]
        return "hide" in kinds, bool(kinds) or item_id in profile.ratings, max(times.values()), item_id

    for item_id in sorted(profile.feedback_ts, key=worth)[:-MAX_FEEDBACK]:
        del profile.feedback_ts[item_id]
        profile.feedback.pop(item_id, None)
        profile.ratings.pop(item_id, None)


def _onboard(profile: UserProfile, event: CleanEvent, genres: Sequence[str]) -> None:
    times = profile.feedback_ts.setdefault(_ONBOARDING, {})
    times["onboarding"] = max(times.get("onboarding", _NEVER), event.ts)
    answers = event.context or {}
    for genre in sorted({*genres, *_strings(answers.get("genres"))}):
        _add_affinity(profile, (genre,), _ONBOARDING_WEIGHT, event.ts)
    for item_id in _strings(answers.get("items")):
        _remember(profile.recent, _step(event, item_id), MAX_RECENT)


def onboarding_items(event: CleanEvent) -> list[str]:
    """Return the items that an onboarding answer names."""
    return _strings((event.context or {}).get("items")) if event.type == "onboarding" else []


def _strings(labels: object) -> list[str]:
    return [label for label in labels if isinstance(label, str)] if isinstance(labels, list) else []


def _add_affinity(profile: UserProfile, genres: Sequence[str], weight: float, ts: int) -> None:
    """Spread evidence of time `ts` over the genres, with an exponential decay of half-life `AFFINITY_HALF_LIFE_MS`.

    Weights are as of the last multiple of the half-life: newer evidence weighs more there, and nothing else changes.
    Cormode, Shkapenyuk, Srivastava, Xu (2009), Forward decay.
    """
    if not genres:
        return
    affinity = profile.affinity
    as_of = ts - ts % AFFINITY_HALF_LIFE_MS
    if as_of > profile.affinity_ts:
        factor = _decay(as_of - profile.affinity_ts)
        affinity = profile.affinity = {genre: decayed * factor for genre, decayed in affinity.items()}
        profile.affinity_ts = as_of
    share = weight / len(genres) * _decay(profile.affinity_ts - ts)
    for genre in genres:
        affinity[genre] = affinity.get(genre, 0.0) + share
    if len(affinity) > MAX_GENRES * _SLACK:
        for genre in sorted(affinity, key=lambda genre: abs(affinity[genre]))[:-MAX_GENRES]:
            del affinity[genre]


def _decay(age_ms: int) -> float:
    return float(0.5 ** (age_ms / AFFINITY_HALF_LIFE_MS))
