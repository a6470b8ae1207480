"""`freshet experiments`: what the lake says of the arms is what was put into it (R21)."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

from flows.experiments.arms import ArmState
from flows.lake.store import StoredTable, Stretch
from flows.lake.tables import TABLES
from online_models.experiments.arm_days import by_day, figures_by_day, figures_of_arms
from online_models.experiments.assignment import draw
from online_models.experiments.effects import compare_estimates, estimate_sums
from online_models.experiments.metrics import BY_NAME
from ops.cli import app
from ops.stack.children import free_ports
from state.entries import EXPERIMENT_ARMS, EXPERIMENT_DAYS
from state.experiments import Arm, Experiment
from state.memory_store import MemoryStore
from state.records import CleanEvent, Example, Impression
from tests.unit.flows.lake_input import START, batch

N_USERS, N_LISTS, N_ITEMS = 1200, 4, 5
DAY = 86_400_000
EXPERIMENT = Experiment(name="ranking", salt="s", arms=[Arm(name="old"), Arm(name="new")])


@pytest.fixture(scope="module")
def log() -> dict[str, list[object]]:
    """Users of the new arm click twice as often and buy; users of the old one come back and watch."""
    rng = np.random.default_rng(0)
    impressions: list[object] = []
    examples: list[object] = []
    events: list[object] = []
    for user, at in ((f"u{n}", n) for n in range(N_USERS)):
        arm = draw(EXPERIMENT, user)
        rate = 0.3 if arm == "new" else 0.15
        events += [CleanEvent(f"b{user}-{k}", "click", user, "i0", START - (k + 1) * DAY) for k in range(at % 3)]
        events.append(
            CleanEvent(f"p{user}", "purchase" if arm == "new" else "watch", user, "i0", START + at + 1, value=9.6)
        )
        events.append(CleanEvent(f"d{user}", "view", user, "i0", START + (DAY if arm == "old" else 2)))
        if arm == "old" and at % 5 == 0:
            events.append(CleanEvent(f"w{user}", "watch", user, "i1", START + 2 * DAY, value=0.4 + at))
        for k in range(N_LISTS):
            request, items = f"{user}-{k}", [f"i{n if arm == 'old' else 10 * at + n}" for n in range(N_ITEMS)]
            experiments = {"ranking": arm} if user != "u0" else {"ranking": ("old", "new")[k % 2]}
            common: dict[str, Any] = {
                "request_id": request,
                "user_id": user,
                "ts": START + k // 3 * DAY,
                "surface": "home",
            }
            common["items"] = items
            labels = (rng.random(N_ITEMS) < rate).astype(int).tolist()
            impressions.append(
                Impression(
                    **common,
                    scores=[0.0] * N_ITEMS,
                    sources=[["popular"]] * N_ITEMS,
                    propensities=[1.0] * N_ITEMS,
                    features=b"",
                    feature_set="f",
                    model="m",
                    model_version="1",
                    experiments=experiments,
                    degraded={"store": "away"} if k == 0 else None,
                    latency_ms=(8.0 if arm == "new" else 4.0) + rng.random() if k else None,
                    novelty=10 + rng.random(),
                    diversity=0.5 + rng.random() / 4 if at % 7 else None,
                )
            )
            examples.append(
                Example(
                    **common,
                    example_id=request,
                    labels=labels,
                    propensities=[1.0] * N_ITEMS,
                    features=b"",
                    outcomes=["click" if label else None for label in labels],
                    feature_set="f",
                    model_version="1",
                    experiments=experiments,
                )
            )
    return {"events": events, "impressions": impressions, "examples": examples}


@pytest.fixture(scope="module")
def root(log: dict[str, list[object]], tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = str(tmp_path_factory.mktemp("lake"))
    for table in TABLES:
        if table.name in log:
            stored = StoredTable(folder, table, "c")
            stored.append([table.rows(batch(log[table.name], table.topic.name)).rows], {0: Stretch(0, 1)})
    return folder


def run(root: str, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[int, str]:
    monkeypatch.setenv("FRESHET_LAKE", root)
    monkeypatch.setenv("FRESHET_PORT", str(free_ports(1)[0]))
    result = CliRunner().invoke(app, ["experiments", *arguments])
    return result.exit_code, result.output


def test_arms_are_compared_by_every_metric(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """R21: with the true values inside the intervals, and those who changed sides left out."""
    code, output = run(root, monkeypatch, "analyze", "ranking", "--control", "old", "--json")
    assert code == 0, output
    report = json.loads(output)
    sides = [draw(EXPERIMENT, f"u{n}") for n in range(1, N_USERS)]
    assert report["users"] == {arm: sides.count(arm) for arm in ("new", "old")}
    assert (report["switched_users"], report["mismatch"]) == (1, False)
    lines = {line["metric"]: line for line in report["lines"]}
    assert lines["ctr"]["low"] < 0.15 < lines["ctr"]["high"]
    assert lines["ctr"]["low"] > 0
    assert lines["ctr"]["corrected_p_value"] < 1e-6
    assert lines["positives_per_user"]["difference"] == pytest.approx(20 * lines["ctr"]["difference"], rel=0.02)
    assert (lines["conversion"]["control"], lines["conversion"]["treatment"]) == (0, 1)
    more = sum(n for n in range(1, N_USERS) if n % 5 == 0 and sides[n - 1] == "old")
    watched = lines["watch_s_per_user"]
    assert (watched["control"], watched["treatment"]) == (pytest.approx(10 + more / sides.count("old")), 0)
    assert (lines["retention"]["control"], lines["retention"]["treatment"]) == (1, 0)
    assert lines["degraded"]["treatment"] == 0.25
    measured = {name: (lines[name]["control"], lines[name]["treatment"]) for name in ("latency_ms", "novelty")}
    assert measured == {
        "latency_ms": pytest.approx((4.5, 8.5), abs=0.1),
        "novelty": pytest.approx((10.5, 10.5), abs=0.1),
    }
    assert lines["latency_ms"]["low"] < 4 < lines["latency_ms"]["high"]
    assert lines["diversity"]["control"] == pytest.approx(0.625, abs=0.01)


def test_each_day_of_an_arm_is_told(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """R21: engagement, retention, diversity, novelty, coverage, latency and degradation, by arm and day."""
    code, output = run(root, monkeypatch, "analyze", "ranking", "--control", "old", "--json")
    assert code == 0, output
    report = json.loads(output)
    n, days = report["users"], {(day["arm"], day["date"]): day for day in report["days"]}
    both = [(arm, date) for date in ("2026-09-21", "2026-09-22") for arm in ("new", "old")]
    assert list(days) == [*both, ("old", "2026-09-23")]
    first, second = days["new", "2026-09-21"], days["old", "2026-09-22"]
    assert (first["users"], first["lists"], first["retention"]) == (n["new"], 3 * n["new"], None)
    assert first["degraded"] == pytest.approx(1 / 3)
    assert (first["conversion"], days["new", "2026-09-22"]["conversion"]) == (1, 0)
    assert (second["users"], second["lists"], second["retention"]) == (n["old"], n["old"], 1)
    assert (second["items_shown"], report["arms"]["old"]["items_shown"]) == (N_ITEMS, N_ITEMS)
    n_shown = N_ITEMS * (n["new"] + 1)  # with the one who switched
    assert report["arms"]["new"]["items_shown"] == pytest.approx(n_shown, rel=0.1)
    assert report["arms"]["new"]["latency_p95_ms"] == pytest.approx(8.95, rel=0.02)
    last = days["old", "2026-09-23"]
    assert (last["lists"], last["ctr"], last["latency_ms"], last["latency_p95_ms"]) == (0, None, None, None)
    assert last["retention"] == pytest.approx(last["active"] / n["old"])
    assert last["watch_s_per_user"] > 0


def test_the_stream_and_the_lake_say_the_same(
    log: dict[str, list[object]], root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R21: users, each arm's days to the last digit, values and, where the past narrows nothing, intervals."""
    code, output = run(root, monkeypatch, "analyze", "ranking", "--control", "old", "--json")
    assert code == 0, output
    report = json.loads(output)
    store = MemoryStore()
    arms = ArmState(store, "experiments", [0], timedelta(minutes=30))
    for topic in ("events", "examples", "impressions"):  # events wait until lists have come
        arms.apply(batch(log[topic], {"events": "clean"}.get(topic, topic)))
    arms.flush()
    sums = {row.arm: row.sums for _, row in store.scan_rows(EXPERIMENT_ARMS)}
    assert {arm: sums[arm]["users"] for arm in report["users"]} == report["users"]
    assert sums[""]["users"] == report["switched_users"]
    days = by_day(row for _, row in store.scan_rows(EXPERIMENT_DAYS))
    assert figures_by_day(days) == report["days"]
    assert figures_of_arms(days) == report["arms"]
    assert {line["metric"] for line in report["lines"]} == set(BY_NAME)
    for line in report["lines"]:
        metric = BY_NAME[line["metric"]]
        control, treatment = estimate_sums(sums["old"], metric), estimate_sums(sums["new"], metric)
        assert (control.value, treatment.value) == pytest.approx((line["control"], line["treatment"]), rel=1e-12)
        if line["variance_kept"] == 1.0:
            effect = compare_estimates(control, treatment)
            known = effect.low != -np.inf
            assert (line["low"] is not None) == known
            assert not known or (effect.low, effect.high) == pytest.approx((line["low"], line["high"]), rel=1e-9)


def test_control_and_weights_are_as_planned(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """R21: what the API knows of the experiment; the users of a stopped arm say nothing of the split."""
    arms = [{"name": "old", "weight": 9.0}, {"name": "new"}]
    document: dict[str, object] = {"name": "ranking", "arms": arms}

    def answer(method: str, url: str, **_: object) -> httpx.Response:
        assert url.endswith("/v1/admin/experiments/ranking")
        return httpx.Response(200, json={"experiment": document})

    monkeypatch.setattr(httpx, "request", answer)
    code, output = run(root, monkeypatch, "analyze", "ranking", "--json")
    assert code == 3
    assert json.loads(output)["control"] == "old"
    document["stopped_arms"] = {"new": "worse"}
    code, output = run(root, monkeypatch, "analyze", "ranking", "--json")
    assert code == 0, output


def test_a_report_is_drawn_and_warns_of_a_broken_split(
    root: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """R21: what was planned as 9 to 1 came as 1 to 1."""
    page, picture = tmp_path / "report.html", tmp_path / "report.png"
    files = ["--html", str(page), "--plot", str(picture)]
    code, output = run(root, monkeypatch, "analyze", "ranking", "--share", "old=9", "--share", "new=1", *files)
    assert code == 3
    assert "Sample ratio mismatch" in output
    assert "Sample ratio mismatch" in page.read_text()
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["analyze", "nothing"], 1, "is in no list yet"),
        (["analyze", "ranking", "--control", "neither"], 1, "has the arms new, old"),
        (["analyze", "Bad Name"], 2, "lower case"),
        (["analyze", "ranking", "--share", "old"], 2, "ARM=WEIGHT"),
        (["plan", "--rate", "0.1", "--lift", "0"], 2, "not 0"),
    ],
)
def test_what_cannot_be_answered_says_why(
    arguments: list[str], code: int, said: str, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, output = run(root, monkeypatch, *arguments)
    assert found == code, output
    assert said in " ".join(output.replace("│", " ").split())


def test_a_plan_grows_with_the_square_of_what_is_to_be_found(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    users = []
    for lift in ("0.1", "0.05"):
        code, output = run(root, monkeypatch, "plan", "--rate", "0.1", "--lift", lift, "--users-per-day", "1000")
        assert code == 0
        users.append(int(output.split()[0].replace(",", "")))
    assert users[1] == pytest.approx(4 * users[0], rel=0.01)
