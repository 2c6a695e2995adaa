"""The daemon's own log: for people on a terminal, JSON otherwise; every recorded event is a line of it."""

from collections.abc import Sequence
from typing import TextIO

import structlog

from perdure.model.event import Event, Severity

log = structlog.get_logger()


def configure(stream: TextIO) -> None:
    """Log to `stream`: coloured lines when it is a terminal, one JSON object a line otherwise."""
    shared: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if stream.isatty() else "iso", utc=not stream.isatty()),
    ]
    renderer: structlog.typing.Processor
    if stream.isatty():
        renderer = structlog.dev.ConsoleRenderer(pad_event_to=60)
    else:
        renderer = structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[*shared, renderer],
        logger_factory=structlog.WriteLoggerFactory(file=stream),
        cache_logger_on_first_use=True,
    )


def write(events: Sequence[Event]) -> None:
    """One line for each event."""
    for event in events:
        tell = log.info if event.severity is Severity.INFO else log.warning
        tell(f"{event.subject}: {event.sentence}", rule=event.rule)
