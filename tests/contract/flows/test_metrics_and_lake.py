"""Two ways to the same numbers: windows of the stream, and DuckDB over the lake."""

import time
from collections import Counter
from datetime import timedelta

from ops.lake.query import Lake, opened
from ops.stack.children import wait_until
from state.metrics import cut_of
from tests.conftest import MakeSettings, RunProcess
from tests.contract.flows.test_metrics import MINUTE, Found, Metrics, play

N_SLATES = 600
_MINUTE = "epoch_ms(ts) // 60000 * 60000"
_COUNTS = {
    "events": f"select {_MINUTE}, null, type, count(*) from events group by all",
    "slates": f"""select {_MINUTE}, surface, unnest(['slates', 'items', 'degraded']),
        unnest([1, len(items), (degraded is not null)::integer]) from impressions""",
    "outcomes": """select epoch_ms(e.ts) // 60000 * 60000, surface, unnest([e.type, 'watch_ms']),
        unnest([1, coalesce(round(value * 1000)::integer, 0)]) from events e join impressions using (request_id)""",
    "labels": f"""select {_MINUTE}, surface, case label when 1 then 'positives' else 'negatives' end, count(*)
        from labels group by all""",
}
"""Family -> minute, surface or null, name of the sum, and what to add to it."""


def counted(lake: Lake) -> Found:
    """Return the minutes' sums of four families, over all and by surface, as DuckDB counts them."""
    found: Found = {}
    for family, query in _COUNTS.items():
        for start, surface, name, n in lake.ask(query).rows:
            for cut in [""] if surface is None else ["", cut_of(surface=surface)]:
                if n:
                    found.setdefault((family, MINUTE, start, cut), Counter())[name] += n
    return found


def narrow(found: Found) -> Found:
    """The same part of what the stream says; ranks are not counted in SQL here."""
    cuts = {"", cut_of(surface="home"), cut_of(surface="search")}
    return {
        where: Counter({name: n for name, n in sums.items() if n and not name.startswith("rank_")})
        for where, sums in found.items()
        if where[0] in _COUNTS and where[1] == MINUTE and where[3] in cuts
    }


def test_windows_of_the_stream_equal_sql_over_the_lake(make_settings: MakeSettings, run_process: RunProcess) -> None:
    """R26, R28: to the last count, after both flows were killed once in the middle."""
    settings = make_settings(lake_delay_s=0.5)
    metrics = Metrics(settings)
    half = N_SLATES // 2
    play(metrics, range(half), every_ms=1000)
    metrics.flush()
    with run_process("flows.metrics", settings) as stream, run_process("flows.lake", settings) as lake:
        begin = time.monotonic()
        while not metrics.found() and time.monotonic() - begin < 60:
            pass
        play(metrics, range(half, N_SLATES), every_ms=1000)
        metrics.flush()
        stream.kill()
        lake.kill()
    with run_process("flows.metrics", settings), run_process("flows.lake", settings) as lake:
        metrics.wait_for(narrow_expected(metrics))

        def is_complete() -> bool:
            with opened(settings) as opened_lake:
                return counted(opened_lake) == narrow(metrics.expected)

        assert wait_until(is_complete, timedelta(seconds=60), timedelta(seconds=0.5)), lake.log.read_text()
    with opened(settings) as opened_lake:
        assert counted(opened_lake) == narrow(metrics.found())


def narrow_expected(metrics: Metrics) -> Found:
    """What the minutes must come to in the stream, ranks included."""
    return {where: sums for where, sums in metrics.expected.items() if where[0] in _COUNTS and where[1] == MINUTE}
