"""Log records as lines of text or JSON."""

import json
import logging

from state.logs import formatter
from state.settings import Settings


def record(message: str, *arguments: object, error: BaseException | None = None) -> logging.LogRecord:
    info = None if error is None else (type(error), error, error.__traceback__)
    return logging.LogRecord("flows.clean", logging.WARNING, __file__, 1, message, arguments, info)


def test_a_record_is_one_line_of_json() -> None:
    """R28"""
    lines = formatter(Settings(log_format="json"), "%(message)s")
    told = json.loads(lines.format(record("%s is\nodd: %d", "this", 3)))
    assert (told["level"], told["logger"], told["message"]) == ("warning", "flows.clean", "this is\nodd: 3")
    assert told["ts"] > 1e12
    assert "\n" not in lines.format(record("two\nlines"))


def test_an_error_has_its_traceback() -> None:
    try:
        raise ValueError("no such thing")
    except ValueError as error:
        told = json.loads(formatter(Settings(log_format="json"), "").format(record("failed", error=error)))
    assert "ValueError: no such thing" in told["error"]


def test_people_get_text() -> None:
    assert formatter(Settings(), "%(levelname)s %(message)s").format(record("hello")) == "WARNING hello"
