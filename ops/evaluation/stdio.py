"""The engine as a black box: JSON lines in, JSON lines out, one answer per question."""

import os
import signal
import sys
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from online_models.engine.engine import Engine
from ops.evaluation.stdio_lines import Event, LineReader, Question, Unanswerable
from state.records import Item

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

TOLD = 50
"""Remarks that are written; a driver that does not read them must not be held up by a full pipe."""


def run(seed: int = 0) -> None:
    """Serve standard input and output until the input ends, the reader of the answers is gone, or SIGTERM comes."""
    with _stopping():
        try:
            serve(sys.stdin.buffer, sys.stdout.buffer, seed, lambda text: print(text, file=sys.stderr, flush=True))
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left is flushed at exit
            print("freshet evaluate: nobody reads the answers", file=sys.stderr)


@contextmanager
def _stopping() -> "Iterator[None]":
    def stop(_number: int, _frame: "FrameType | None") -> None:
        # At once, and not by an exception, which compiled code and what handles errors may take for one of theirs:
        # every answer is flushed as it is given, and nothing is kept.
        os.write(sys.stderr.fileno(), b"freshet evaluate: stopped\n")
        os._exit(0)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def serve(lines: BinaryIO, answers: BinaryIO, seed: int = 0, tell: Callable[[str], None] | None = None) -> None:
    """Answer until the input ends: each question by one line, before the next line is read.

    `tell` is given what is wrong with lines, the first `TOLD` times.
    """
    engine = Engine(seed)
    encode = msgspec.json.Encoder().encode
    n_remarks = 0
    number = 0

    def remark(text: str) -> None:
        nonlocal n_remarks
        n_remarks += 1
        if tell is not None and n_remarks <= TOLD:
            more = " (more will be counted only)" if n_remarks == TOLD else ""
            tell(f"line {number}: {text}{more}")

    reader = LineReader(remark)
    for line in lines:
        number += 1
        match reader.read(line):
            case Event() as event:
                engine.observe(event.user, event.item, event.positive, event.rating, event.t)
            case Question() as question:
                items = engine.recommend(question.user, question.n, question.t, question.candidates)
                answers.write(encode({"items": reader.as_given(items)}) + b"\n")
                answers.flush()
            case Unanswerable():
                answers.write(b'{"items":[]}\n')
                answers.flush()
            case Item() as item:
                engine.describe(item)
            case None:
                pass
    if tell is not None and n_remarks > TOLD:
        tell(f"{n_remarks} remarks in all")
