import numpy as np

from online_models.sources import default_sources, union
from online_models.user_view import UserView
from state.entries import CATALOGUE
from state.store import Changes
from tests.unit.online_models.synthetic import GENRES, System, catalogue, tastes


def test_lists_follow_taste_after_25_events_a_user() -> None:
    """R1, R14: the share of the own genre in the top 10 is far above chance, also when unseen items only are served."""
    system = System()
    changes = Changes()
    for item in catalogue():
        system.learner.learn_item(item.item_id, item)
        changes.upsert(CATALOGUE, item.item_id, item)
    system.store.commit(changes)
    system.learn(tastes())
    replica = system.replica()
    shares = []
    for number in range(40):
        profile = system.profiles[f"u{number}"]
        context = replica.context(UserView.of(profile, system.now_ms))
        retrieved = {source.name: source.retrieve(context, 200) for source in default_sources(replica)}
        slots = union(replica.columns, retrieved, 500, replica.slots(profile.seen)).slots
        best = slots[np.argsort(-replica.score(replica.features(context, slots)))[:10]]
        genres = [GENRES[int(replica.item_id(slot)[1:]) % 8] for slot in best.tolist()]
        shares.append(genres.count(GENRES[number % 8]) / 10)
    assert np.mean(shares) > 0.5
    assert min(shares) >= 0.2
