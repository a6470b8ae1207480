"""Where data of a user is kept, and when it is gone after the user was erased (R27): what answers and reports say."""

from state.topics import EVENTS, REJECTED

PLACES = {
    "lists": "now",
    "rules": "now, in all their versions",
    "experiments' overrides": "now, in all their versions",
    "profile, sessions, feedback": "when the flow `features` has read the erasure, within seconds",
    "models": "when the flow `learn` has read the erasure, within seconds",
    "interrupted backfills": "when the flow `learn` has read the erasure: all that was kept on its machine",
    "training examples": "none are made any more when the flow `attribution` has read the erasure, within seconds",
    "experiments": "when the flow `experiments` has read the erasure, within seconds",
    "lake": "when the flow `lake` has no other rows to write, after some two minutes",
    "Kafka": f"by retention, within {EVENTS.retention.days} days; a replay meets the erasure after what it erases",
    "dead letters": f"by retention, within {REJECTED.retention.days} days",
}
