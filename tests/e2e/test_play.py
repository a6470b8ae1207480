"""`freshet play` as a process: no Kafka, no Redis, one address."""

import subprocess
import sys
import time
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from ops.stack.children import wait_until
from tests.e2e.browser import playing

_PATIENCE = timedelta(seconds=60)


def ids(client: httpx.Client, user: str, **params: Any) -> list[str]:
    answer = client.get(f"/v1/users/{user}/recommendations", params=params)
    assert answer.status_code == 200, answer.text
    return [item["item_id"] for item in answer.json()["items"]]


def test_the_whole_loop_runs_in_one_process_and_stops_when_asked(tmp_path: Path) -> None:
    """R5, R29: no brokers and no store are there, and nothing is left behind."""
    with playing(tmp_path, "--events", "2000") as (process, address), httpx.Client(base_url=address, timeout=30) as api:
        before = ids(api, "anna")
        event = {"event_id": uuid.uuid4().hex, "type": "click", "user_id": "anna", "item_id": before[0]}
        answer = api.post("/v1/events", json={"events": [event | {"ts": int(time.time() * 1000)}]})
        assert answer.json() == {"accepted": 1, "rejected": [], "pending": 0}
        assert wait_until(lambda: before[0] not in ids(api, "anna"), _PATIENCE)
        assert api.post("/v1/users/anna/feedback", json={"item_id": before[1], "type": "hide"}).status_code == 202
        assert before[1] not in ids(api, "anna", limit=100)
        assert api.put("/v1/items", json={"item_id": "new", "title": "New", "genres": ["Opera"]}).status_code == 202
        assert wait_until(lambda: ids(api, "anna", genre="Opera") == ["new"], _PATIENCE)
        assert api.get("/", headers={"accept": "text/html"}).status_code == 200
        assert api.get("/v1/users/anna/recommendations").json()["degraded"] is None
        again = subprocess.run(
            [sys.executable, "-m", "ops", "play", "--port", address.rpartition(":")[2]],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert again.returncode == 1
        assert "is taken" in again.stderr
        assert process.stop(timedelta(seconds=60)) == 0
        told = process.log.read_text()
        assert f"{address}/" in told
        assert "nothing was kept" in told
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("kind", ["film ratings", "clicks without titles"])
def test_a_data_set_is_played(tmp_path: Path, kind: str) -> None:
    """R29: of a log only its newest events, moved so that it ends now."""
    data = tmp_path / "data"
    data.mkdir()
    if kind == "film ratings":
        (data / "movies.dat").write_text("".join(f"{n}::Film {n} (19{n:02})::Drama|War\n" for n in range(10, 40)))
        (data / "ratings.dat").write_text("".join(f"{n % 7}::{10 + n % 30}::8::{10**9 + n}\n" for n in range(300)))
    else:
        (data / "log.csv").write_text(
            "user,item,timestamp\n" + "".join(f"{n % 7},i{n % 30},{10**9 + n}\n" for n in range(300))
        )
    with (
        playing(tmp_path, "--data", str(data), "--events", "200") as (_, address),
        httpx.Client(base_url=address, timeout=30) as api,
    ):
        listed = api.get("/v1/popular", params={"limit": 5}).json()["items"]
        assert len(listed) == 5
        if kind == "film ratings":
            assert listed[0]["title"].startswith("Film ")
            assert listed[0]["release_date"].startswith("19")
        users = [api.get(f"/v1/users/{n}").json() for n in range(7)]
    assert sum(sum(user["counts"].values()) for user in users) == 200
    assert all(user["last_ts"] > time.time() * 1000 - 600_000 for user in users)
