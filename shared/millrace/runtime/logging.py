"""How every process logs: structlog events with fields, one a line on standard error, the standard library's among them."""

from __future__ import annotations

import io
import logging
import sys
from contextlib import suppress
from typing import Any, TextIO, cast

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from millrace.settings import Settings


def configure_logging(settings: Settings, **bound: Any) -> Bound:
    """Set up this process's logs, once, before the first line.

    Args:
        settings: `log_level` and `log_format`.
        bound: Fields of every line, of every thread: the service, or a child's run, stage, task and attempt.

    Returns:
        These fields, for a process that is to change them: a warm child with each attempt.
    """
    fields = Bound(bound)
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        fields,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.processors.format_exc_info,
    ]
    renderer: Processor = (
        structlog.processors.JSONRenderer(default=str, ensure_ascii=False)
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, _Unheard(sys.stderr))),
        cache_logger_on_first_use=False,
    )
    _join_standard_library(shared, renderer, level)
    return fields


class Bound:
    """A processor that adds the process's own fields; unlike context variables, they hold in every thread."""

    def __init__(self, bound: dict[str, Any]) -> None:
        self._bound = bound

    def rebind(self, **fields: Any) -> None:
        """Replace all fields."""
        self._bound = fields

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        for name, value in self._bound.items():
            event.setdefault(name, value)
        return event


class _Unheard(io.TextIOBase):
    """A stream that may have lost its reader, as when a supervisor was killed, or its disk: the line is lost, not the work."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str, /) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()


def _join_standard_library(shared: list[Processor], renderer: Processor, level: int) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # Libraries say at `info` what only their authors want to know, so they are heard from `warning` on.
    root.setLevel(level if level <= logging.DEBUG else max(level, logging.WARNING))
