"""R25: permuted, duplicated, late and repeated inputs give the same examples."""

from collections import Counter
from collections.abc import Sequence
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from flows.attribution.attributing import Attribution
from flows.attribution.snapshot import Snapshot
from state.records import CleanEvent, Example, Impression
from state.topics import CLEAN, IMPRESSIONS
from tests.unit.flows.attribution_input import MINUTE, RULES, SETTLE, T0, Partition, S, event, slate

Record = Impression | CleanEvent

N_SLATES = 4
ITEMS = "abcd"

times = st.integers(0, 45 * MINUTE) | st.integers(0, 20).map(lambda seconds: seconds * S)


@st.composite
def histories(draw: st.DrawFn, ts: st.SearchStrategy[int] = times) -> list[Record]:
    """Slates and outcomes of two users, some with a wrong request id or none."""
    records: list[Record] = []
    for i in range(draw(st.integers(1, N_SLATES))):
        items = draw(st.lists(st.sampled_from(ITEMS), min_size=1, max_size=3, unique=True))
        records.append(slate(f"r{i}", draw(st.sampled_from("uv")), T0 + draw(ts), items))
    return records + [
        event(
            draw(st.sampled_from(ITEMS)),
            T0 + draw(ts),
            kind=draw(st.sampled_from(["click", "like", "hide", "view", "search"])),
            user_id=draw(st.sampled_from("uv")),
            request_id=draw(st.none() | st.sampled_from([f"r{j}" for j in range(N_SLATES + 1)])),
            event_id=f"e{i}",
        )
        for i in range(draw(st.integers(0, 8)))
    ]


def in_order(records: Sequence[Record]) -> list[Example]:
    """One reading in order of time, to the end of all windows."""
    partition = Partition.of()
    return partition.read(*sorted(records, key=lambda record: record.ts)) + partition.idle(120 * MINUTE)


@settings(max_examples=300, deadline=None)
@given(records=histories(), random=st.randoms(use_true_random=False))
def test_disorder_within_the_settling_time_changes_nothing(records: list[Record], random: Random) -> None:
    arrivals = [(record.ts + random.randrange(SETTLE), record) for record in records]
    arrivals += [(at + random.randrange(60 * S), record) for at, record in arrivals if random.random() < 0.3]
    arrivals.sort(key=lambda arrival: arrival[0])
    partition = Partition.of()
    examples = []
    for _, record in arrivals:
        partition.logic.apply(partition.batch([record]), partition.now)
        if random.random() < 0.5:
            examples += partition.logic.advance(partition.now)
    examples += partition.idle(120 * MINUTE)
    assert examples == in_order(records)


@settings(max_examples=300, deadline=None)
@given(records=histories(st.integers(0, 25 * S)), random=st.randoms(use_true_random=False))
def test_any_order_tells_the_same_outcomes_once(records: list[Record], random: Random) -> None:
    """Beyond the settling time the -1 of an example may differ, but not what is told of an item, nor how often."""
    slates = {record.request_id: record for record in records if isinstance(record, Impression)}
    named = [record for record in records if isinstance(record, Impression) or is_explained(record, slates)]
    shuffled = named + random.sample(named, len(named) // 2)
    random.shuffle(shuffled)
    partition = Partition.of()
    examples = []
    for record in shuffled:
        examples += partition.read(record)
    examples += partition.idle(120 * MINUTE)
    assert told(examples) == told(in_order(named))
    assert max(Counter(example.example_id for example in examples).values()) == 1


def is_explained(event: CleanEvent, slates: dict[str, Impression]) -> bool:
    named = slates.get(event.request_id or "")
    return named is not None and named.user_id == event.user_id and event.item_id in named.items


def told(examples: list[Example]) -> Counter[tuple[str | None, str]]:
    """Return how often each item was told positive, by slate."""
    return Counter(
        (example.request_id, item_id)
        for example in examples
        for item_id, label in zip(example.items, example.labels, strict=True)
        if label == 1
    )


@settings(max_examples=300, deadline=None)
@given(records=histories(), random=st.randoms(use_true_random=False))
def test_crash_neither_repeats_nor_loses_an_example(records: list[Record], random: Random) -> None:
    """A crash loses what was done since a snapshot, but not what was written; the rest is read again."""
    ordered = sorted(records, key=lambda record: record.ts)
    n_at_snapshot = random.randint(0, len(ordered))
    n_at_crash = random.randint(n_at_snapshot, len(ordered))
    partition = Partition.of()
    written = partition.read(*ordered[:n_at_snapshot])
    n_written_at_snapshot = random.randint(0, len(written))  # what is read back may begin earlier
    snapshot = partition.logic.snapshot(partition.now).encode()
    position = (partition.n_impressions, partition.n_events)
    at_crash = partition.read(*ordered[n_at_snapshot:n_at_crash])
    if random.random() < 0.5 and n_at_crash < len(ordered):
        at_crash += partition.idle(ordered[n_at_crash].ts - ordered[n_at_crash - 1].ts if n_at_crash else 0)
    written += at_crash[: random.randint(0, len(at_crash))]

    partition.n_impressions, partition.n_events = position
    partition.logic = restored(snapshot, ordered, written[n_written_at_snapshot:])
    written += partition.read(*ordered[n_at_snapshot:])
    written += partition.idle(120 * MINUTE)
    assert Counter(example.example_id for example in written) == Counter(
        example.example_id for example in in_order(records)
    )
    assert sorted(written, key=lambda e: e.example_id) == sorted(in_order(records), key=lambda e: e.example_id)


def restored(snapshot_bytes: bytes, ordered: Sequence[Record], said: list[Example]) -> Attribution:
    log = Partition.of()
    impressions = log.batch([record for record in ordered if isinstance(record, Impression)])
    snapshot = Snapshot.decode(snapshot_bytes)
    stretch = slice(snapshot.first_impression, snapshot.next_impression)
    logic = Attribution(RULES)
    logic.said(said, since=0, ends={IMPRESSIONS.name: len(impressions.offsets), CLEAN.name: len(ordered)})
    logic.restore(snapshot, zip(impressions.offsets[stretch], impressions.values[stretch], strict=True))
    return logic
