"""Following rollouts to their end: ask for each several times a second, and show what becomes of it.

On a terminal it is a live picture, otherwise a line for each change, for programs a document for each. A daemon that
goes away in the middle is waited for; the rollout does not depend on anybody who looks. Used by `deploying`.
"""

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from perdure.cli import client as api
from perdure.cli import rollout_words as words
from perdure.cli import terminal
from perdure.model import errors

POLL_S = 0.25
COMES_BACK_S = 30.0
"""A daemon that was restarted answers within a few seconds; after this it is not waited for any more."""
_ANSWER_TIMEOUT_S = 5.0

Rollouts = Mapping[str, words.Document]
"""Service -> the document of its rollout."""


class Show(Protocol):
    """Shows rollouts as they are now; `note` says what else there is to say."""

    def __call__(self, rollouts: Rollouts, note: str = "") -> None:
        """Show them."""


def follow(client: api.Client, numbers: Mapping[str, int], show: Show, timeout_s: float | None = None) -> Rollouts:
    """Return the rollouts with these numbers (by service) when all are over.

    UnavailableError when that takes longer than `timeout_s`, or when no daemon answers for `COMES_BACK_S`;
    ConflictError when another rollout of a service has taken the place of one that is followed.
    """
    began_at = time.monotonic()
    patient = _Patient(api.Client(client.paths, _ANSWER_TIMEOUT_S), show)
    found: dict[str, words.Document] = {}
    while True:
        for service, number in numbers.items():
            if service not in found or not words.is_over(found[service]):
                found[service] = _same(service, number, patient.ask(service, found))
        show(found)
        left = [service for service, one in found.items() if not words.is_over(one)]
        if not left:
            return found
        if timeout_s is not None and time.monotonic() - began_at > timeout_s:
            sentence = f"{', '.join(left)}: not done after {terminal.span(timeout_s)}; the rollout goes on"
            raise errors.UnavailableError(sentence, f"perdure deploy --status {left[0]}")
        time.sleep(POLL_S)


@contextlib.contextmanager
def showing(as_json: bool) -> Iterator[Show]:
    """How rollouts are shown: a live picture for a person, documents for a program, lines for everything else."""
    if as_json:
        yield _Changes(_print_document)
    elif not terminal.is_terminal():
        yield _Changes(_print_line)
    else:
        from rich.live import Live

        from perdure.cli import rollout_view

        console = terminal.out()
        with Live(console=console, transient=True, auto_refresh=False, vertical_overflow="crop") as live:

            def picture(rollouts: Rollouts, note: str = "") -> None:
                shown = rollout_view.render(list(rollouts.values()), console.size.height - 1, note)
                live.update(shown, refresh=True)

            yield picture


class _Patient:
    """Asks for a rollout until an answer comes, and says meanwhile that none does."""

    def __init__(self, client: api.Client, show: Show) -> None:
        self._client = client
        self._show = show

    def ask(self, service: str, found: Rollouts) -> Any:
        """The document, or None when there is no rollout; UnavailableError when nobody answers for long."""
        away_since_at: float | None = None
        while True:
            try:
                document = self._client.get("rollout", service=service)
            except errors.UnavailableError as error:
                now = time.monotonic()
                away_since_at = now if away_since_at is None else away_since_at
                if now - away_since_at > COMES_BACK_S:
                    sentence = f"{error.sentence}; the rollout goes on when the daemon runs again"
                    raise errors.UnavailableError(
                        sentence, f"perdure up -d, then perdure deploy --status {service}"
                    ) from error
                self._show(found, f"{error.sentence}: waiting for it, the rollout goes on when it runs")
                time.sleep(POLL_S)
            else:
                return document


class _Changes:
    """Hands over each rollout in which something happened since it was shown last."""

    def __init__(self, tell: Callable[[str, words.Document], None]) -> None:
        self._tell = tell
        self._stages: dict[str, tuple[object, ...]] = {}
        self._note = ""

    def __call__(self, rollouts: Rollouts, note: str = "") -> None:
        """Tell what differs from the time before; notes go to stderr, once each."""
        if note and note != self._note:
            print(note, file=sys.stderr, flush=True)
        elif self._note and not note:
            print("the daemon answers again", file=sys.stderr, flush=True)
        self._note = note
        for service, one in rollouts.items():
            if not words.is_fresh(one) and words.stage(one) != self._stages.get(service):
                self._stages[service] = words.stage(one)
                self._tell(service, one)


def _print_document(service: str, rollout: words.Document) -> None:
    print(json.dumps({"service": service, **rollout}), flush=True)


def _print_line(service: str, rollout: words.Document) -> None:
    if not words.is_over(rollout):  # the end is told at length
        observed = f"; {said}" if (said := words.observed(rollout)) else ""
        print(words.sentence(rollout) + observed, flush=True)


def _same(service: str, number: int, document: Any) -> words.Document:
    if document is None or document["number"] != number:
        sentence = f"the rollout of {service} is over, and another one has begun"
        raise errors.ConflictError(sentence, f"perdure deploy --status {service}")
    found: words.Document = document
    return found
