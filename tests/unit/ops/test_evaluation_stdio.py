"""The engine behind JSON lines: whatever drives it gets one answer per question (R13, R17)."""

import io
import json
import signal
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ops.evaluation.stdio import TOLD, serve
from ops.evaluation.stdio_lines import NOBODY, Event, LineReader, Question
from state.records import Item


def lines(*commands: dict[str, object]) -> io.BytesIO:
    return io.BytesIO(b"".join(json.dumps(command).encode() + b"\n" for command in commands))


def test_stdio_answers_recommend_only() -> None:
    answers = io.BytesIO()
    serve(
        lines(
            {"op": "item", "item": 7, "title": "x", "genres": ["drama"], "something": "else"},
            {"op": "observe", "user": "u", "item": 7, "positive": 1, "rating": 5, "t": 10},
            {"op": "recommend", "user": "v", "n": 5, "t": 11, "candidates": "unseen"},
            {"op": "recommend", "user": "u", "n": 5, "t": 11, "candidates": "unseen"},
            {"op": "recommend", "user": "u", "n": 5, "t": 11, "candidates": "all"},
        ),
        answers,
    )
    assert [json.loads(line) for line in answers.getvalue().splitlines()] == [
        {"items": [7]},
        {"items": []},
        {"items": [7]},
    ]


class Pipe(io.BytesIO):
    """Lines that are read one at a time, with what had been answered when each was taken."""

    def __init__(self, written: bytes, answers: io.BytesIO) -> None:
        super().__init__(written)
        self.answers = answers
        self.answered: list[int] = []

    def __next__(self) -> bytes:
        self.answered.append(self.answers.getvalue().count(b"\n"))
        return super().__next__()


def commands(n: int, seed: int, future: int) -> list[dict[str, object]]:
    """Events and questions; those from the `n`th on depend on `future`."""
    rng = np.random.default_rng(seed)
    found: list[dict[str, object]] = []
    for k in range(2 * n):
        if k == n:
            rng = np.random.default_rng(future)
        user = int(rng.integers(0, 15))
        found.append({"op": "observe", "user": user, "item": int(rng.integers(0, 40)), "positive": 1, "t": 60 * k})
        if k % 3 == 0:
            found.append({"op": "recommend", "user": user, "n": 10, "t": 60 * k + 1, "candidates": "unseen"})
    return found


def answered(*of: dict[str, object]) -> list[bytes]:
    answers = io.BytesIO()
    serve(lines(*of), answers)
    return answers.getvalue().splitlines()


def test_stdio_answers_before_it_reads_on() -> None:
    """R13: when the line after a question is taken, its answer has been written."""
    asked = commands(30, 0, 1)
    answers = io.BytesIO()
    pipe = Pipe(lines(*asked).getvalue(), answers)
    serve(pipe, answers)
    n_before = np.cumsum([0, *(command["op"] == "recommend" for command in asked)])
    assert pipe.answered == n_before.tolist()


def test_stdio_uses_nothing_that_comes_later() -> None:
    """R13: another future changes no answer before it; the events before it do count, whatever their `t`."""
    n = 90
    one, other = answered(*commands(n, 0, 1)), answered(*commands(n, 0, 2))
    assert one[: n // 3] == other[: n // 3]
    assert one[n // 3 :] != other[n // 3 :]
    asked = commands(n, 0, 1)
    last = max(k for k, command in enumerate(asked) if command["op"] == "recommend")
    until_last = answered(*asked[: last + 1])
    assert until_last == one


RECOMMEND = b'{"op":"recommend","user":"v","n":3,"t":9}'


def served(*of: bytes) -> tuple[list[list[str | int]], list[str]]:
    """Return the lists that were answered, and what was told."""
    answers, told = io.BytesIO(), list[str]()
    serve(io.BytesIO(b"\n".join(of)), answers, 0, told.append)
    return [json.loads(line)["items"] for line in answers.getvalue().splitlines()], told


@pytest.mark.parametrize(
    "question",
    [
        b'{"op":"recommend"}',
        b'{"op":"recommend","user":null,"n":null,"t":null}',
        b'{"op":"recommend","user":"v","n":1e300,"t":NaN}',
        b'{"op":"recommend","user":"v","n":"3","t":"9","candidates":"some"}',
        b'{"op":"Recommend","user":[1],"t":-Infinity,"candidates":["a"]}',
        b'{"op":"recommend","user":"v","t":1700000000000}',
        b'\xef\xbb\xbf{"op":"recommend","user":"v","t":9}\r',
    ],
)
def test_odd_questions_are_answered_as_well_as_can_be(question: bytes) -> None:
    lists, told = served(b'{"op":"observe","user":"u","item":"a","t":8}', question, RECOMMEND)
    assert lists == [["a"], ["a"]]
    assert all("line 2" in text for text in told)


@pytest.mark.parametrize(
    "question", [b'{"op":"recommend","user"', b'{ "op" : "recommend", "user": "\xff', b'{"op":"recommend",,}']
)
def test_a_question_that_cannot_be_read_gets_an_empty_list(question: bytes) -> None:
    assert served(b'{"op":"observe","user":"u","item":"a","t":8}', question, RECOMMEND)[0] == [[], ["a"]]


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"   \t",
        b"null",
        b"[1, 2]",
        b"nonsense",
        b"\xff\xfe\x00",
        b'{"op":"guess","user":"u"}',
        b'{"op":"observe","user":"u"}',
        b'{"op":"observe","item":"b"}',
        b'{"op":"observe","user":null,"item":null,"t":1}',
        b'{"op":"item"}',
        b"[" * 100_000,
        b'{"op":"observe","user":"u","item":' + b"9" * 5000 + b"}",
    ],
)
def test_lines_that_say_nothing_are_survived(line: bytes) -> None:
    lists, told = served(b'{"op":"observe","user":"u","item":"a","t":8}', line, RECOMMEND)
    assert lists == [["a"]]
    assert len(told) == (1 if line.strip() else 0)


def read(*of: bytes) -> list[object]:
    reader = LineReader(lambda text: None)
    return [reader.read(line) for line in of]


def test_items_are_answered_as_their_ids_came() -> None:
    """R13: who compares them with the ids that were sent finds them, numbers among numbers."""
    too_large = b"36893488147419103232"
    events = [b'{"op":"observe","user":"u","item":%s,"t":1}' % item for item in (b"7", b"8.0", b'"9"', too_large)]
    (found,), _ = served(*events, RECOMMEND.replace(b'"n":3', b'"n":9'))
    assert sorted(found, key=str) == [too_large.decode(), 7, 8, "9"]


def test_odd_events_mean_what_they_can_only_mean() -> None:
    assert read(
        b'{"op":"observe","user":1,"item":7.0,"positive":1.0,"rating":4,"t":5}',
        b'{"op":"observe","user":"u","item":"i","positive":"0","t":null}',
        b'{"op":"observe","user":"u","item":"i","positive":false,"t":1700000000000000}',
        b'{"op":"observe","user":"u","item":"\\ud800","t":"3"}',
    ) == [
        Event("1", "7", True, 4.0, 5.0),
        Event("u", "i", False, 0.0, 5.0),
        Event("u", "i", False, 0.0, 1_700_000_000.0),
        Event("u", "?", True, 1.0, 3.0),
    ]


def test_a_rating_without_a_flag_is_judged_by_the_highest_so_far() -> None:
    """R13: seven tenths of the scale and more are positive, as everywhere."""
    lines = [b'{"op":"observe","user":"u","item":"i","t":1,"rating":%d}' % stars for stars in (5, 3, 4, -1, 10, 6, 7)]
    found = [event.positive for event in read(*lines) if isinstance(event, Event)]
    assert found == [True, False, True, False, True, False, True]


def test_a_log_without_times_gets_a_second_per_event() -> None:
    event, question = b'{"op":"observe","user":"u","item":"i"}', b'{"op":"recommend","user":null}'
    assert [found.t for found in read(event, event, question) if isinstance(found, Event | Question)] == [1.0, 2.0, 2.0]
    assert read(question) == [Question(NOBODY, 20, 0.0, "unseen")]


def test_odd_catalogue_fields_are_taken_or_left() -> None:
    assert read(
        b'{"op":"item","item":3,"title":null,"genres":"war|drama","tags":[1,null],"price":"9.5","release_date":1999}',
        b'{"op":"item","item":"3","price":-1,"release_date":"May 1999","genres":7}',
        b'{"op":"item","item":"3","release_date":"1999-05-01T00:00:00Z"}',
    ) == [
        Item(item_id="3", genres=["war", "drama"], tags=["1"], price=9.5, release_date="1999"),
        Item(item_id="3"),
        Item(item_id="3", release_date="1999-05-01"),
    ]


def test_a_list_is_as_long_as_asked_where_there_are_items_left() -> None:
    """R13: also when it is longer than what the sources find; 0 is an empty one."""
    shown = [
        b'{"op":"observe","user":"u%d","item":%d,"positive":%d,"t":%d}' % (k, k % 600, k % 3 > 0, k) for k in range(900)
    ]
    asked = [b'{"op":"recommend","user":"u7","n":%d,"t":900}' % n for n in (0, 20, 500, 10**9)]
    lists, _ = served(*shown, *asked)
    assert [len(items) for items in lists] == [0, 20, 500, 599]
    assert all(len(set(items)) == len(items) and "7" not in items for items in lists)
    assert lists[2] == lists[3][:500]


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 30),
    st.integers(),
    st.floats(),
    st.sampled_from(["u", "i", "all", "unseen", "", "0", "1e400", "\ud800", "nan"]),
    st.text(max_size=4),
    st.lists(st.integers(0, 3), max_size=2),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=1),
)
FIELDS = (
    "user",
    "item",
    "t",
    "n",
    "positive",
    "rating",
    "candidates",
    "title",
    "genres",
    "tags",
    "price",
    "release_date",
)
ODD_LINES = st.one_of(
    st.builds(
        lambda op, fields: json.dumps({"op": op} | fields).encode(),
        st.sampled_from(["observe", "observe", "recommend", "item", "guess"]),
        st.dictionaries(st.sampled_from(FIELDS), ODD, max_size=8),
    ),
    st.builds(
        lambda user, item, t: json.dumps({"op": "observe", "user": user, "item": item, "t": t}).encode(),
        st.integers(0, 3),
        st.integers(0, 6),
        st.sampled_from([0, 5, 5.5, -1e9, 1e10, 1e308, 1e-300]),
    ),
    st.binary(max_size=20),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(ODD_LINES, max_size=40))
def test_whatever_comes_each_question_gets_one_answer(odd: list[bytes]) -> None:
    """R17: no line ends the engine, answers are lists of ids without repeats, and the last question is answered."""
    of = [line.replace(b"\n", b" ") for line in odd]
    lists, told = served(*of, RECOMMEND)
    assert len(lists) == 1 + sum(line.startswith(b'{"op": "recommend"') for line in of)
    assert all(isinstance(item, str | int) for items in lists for item in items)
    assert all(len(set(items)) == len(items) for items in lists)
    assert len(told) <= TOLD + 1


def test_remarks_are_few_however_many_lines_are_odd() -> None:
    """R17: a driver that does not read standard error is not held up."""
    told = served(*[b"nonsense"] * 5000)[1]
    assert len(told) == TOLD + 1
    assert "5000" in told[-1]


@pytest.fixture
def process() -> Iterator["subprocess.Popen[bytes]"]:
    """`freshet evaluate --stdio`, that has answered once."""
    command = [sys.executable, "-m", "ops", "evaluate", "--stdio"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            child.stdin.write(RECOMMEND + b"\n")
            child.stdin.flush()
            assert child.stdout.readline() == b'{"items":[]}\n'
            yield child
        finally:
            child.kill()


def test_sigterm_ends_it_cleanly(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate()
    assert (process.returncode, out) == (0, b"")
    assert b"Traceback" not in err


def test_the_end_of_the_input_ends_it_also_without_a_last_newline(process: "subprocess.Popen[bytes]") -> None:
    out, err = process.communicate(b'{"op":"observe","user":"u","item":"a","t":8}\n' + RECOMMEND)
    assert (process.returncode, out, err) == (0, b'{"items":["a"]}\n', b"")


def test_a_reader_that_goes_away_ends_it_cleanly(process: "subprocess.Popen[bytes]") -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    process.stdin.write(RECOMMEND + b"\n")
    process.stdin.close()
    err = process.stderr.read()
    assert process.wait() == 0
    assert b"Traceback" not in err
