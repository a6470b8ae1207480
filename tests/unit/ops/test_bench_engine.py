"""`freshet bench engine` counts each cost where it belongs; what it costs is not tested."""

import pytest

from ops.bench.engine import Costs, measure, report


def test_each_call_is_counted_in_its_part_of_the_stream() -> None:
    done: list[int] = []
    parts = measure(50, 300, 3, 0, done.append)
    assert [len(part.lists) for part in parts] == [20, 20, 20]
    assert all(part.sources and part.labelled for part in parts)
    assert sum(len(part.sources) for part in parts) < 150
    assert done == [0, 256]


def test_ratios_are_to_the_smallest_catalogue_and_to_the_begin_of_the_stream() -> None:
    small = [Costs([1.0], [1.0], [1.0]), Costs([100.0], [50.0], [150.0]), Costs([120.0], [60.0], [160.0])]
    large = [Costs([1.0], [1.0], [1.0]), Costs([100.0], [50.0], [150.0]), Costs([240.0], [60.0], [210.0])]
    figures = {figure.name: figure for figure in report([10, 1000], [small, large]).figures}
    assert figures["10 items: ranker's step"].value == 100.0
    assert figures["1,000 / 10 items: list"].value == pytest.approx(2.0)
    assert figures["1,000 / 10 items: ranker's step"].value == pytest.approx(1.5)
    assert figures["1,000 items: list, end / begin of the stream"].value == pytest.approx(2.4)
    assert figures["10 items: list, end / begin of the stream"].value == pytest.approx(1.2)
    assert figures["1,000 / 10 items: list"].met is False
