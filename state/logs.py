"""How log records look: a line of text each, or of JSON for what collects logs."""

import logging

import msgspec

from state.settings import Settings


class JsonLines(logging.Formatter):
    """One JSON object a line: `ts` (epoch ms), `level`, `logger`, `message`, `process`.

    Where there is one, `error` with a traceback, and the `trace_id` of the request.
    """

    def format(self, record: logging.LogRecord) -> str:
        told = {
            "ts": int(record.created * 1000),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process,
        }
        trace_id = getattr(record, "trace_id", None)
        if trace_id is not None:
            told["trace_id"] = trace_id
        if record.exc_info:
            told["error"] = self.formatException(record.exc_info)
        return msgspec.json.encode(told).decode()


def formatter(settings: Settings, text: str) -> logging.Formatter:
    """Return what the settings ask for; `text` is the format of lines that people read."""
    return JsonLines() if settings.log_format == "json" else logging.Formatter(text)
