"""The picture that `status` and every waiting command show: services, their replicas, the daemon, the balancer.

A pure function of the API's document. What the document does not say is shown as unknown, never as healthy.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group
from rich.text import Text

from perdure.cli import rollout_words, terminal

Document = Mapping[str, Any]
Cell = tuple[str, str]

STALE_LOOP_S = 5.0
_HEADER = ("SLOT", "STATE", "PID", "PORT", "RELEASE", "RESTARTS", "SINCE", "SUSPICION")
_RIGHT = frozenset({"PID", "PORT", "RESTARTS"})
_SENTENCE_STATES = frozenset({"ready", "running"})
_RELEASE_CHARACTERS = 16


def render(status: Document) -> Group:
    """Render the whole status document."""
    services: Document = status.get("services") or {}
    lines = list(_services(services)) if services else [_line(("no services are declared", "yellow"))]
    lines += [Text(), _daemon(status.get("daemon") or {}), _balancer(status.get("balancer") or {})]
    return Group(*lines)


def render_unknown(sentence: str) -> Group:
    """Render what is left to say while no daemon answers: nothing is known."""
    return Group(_line(("unknown", terminal.style("unknown")), (f"  {sentence}", "")))


def _services(services: Document) -> Iterator[Text]:
    tables = {
        name: [_cells(replica) for replica in service.get("replicas") or ()] for name, service in services.items()
    }
    widths = [
        max([len(title), *(len(row[column][0]) for rows in tables.values() for row in rows)])
        for column, title in enumerate(_HEADER)
    ]
    for number, (name, service) in enumerate(services.items()):
        if number:
            yield Text()
        yield _headline(name, service)
        yield from _rollout(name, service.get("rollout"))
        if service.get("mode") == "active-passive":
            yield _line(("  " + _ownership(service), "bright_black"))
        if not tables[name]:
            yield _line(("  no replica runs", "bright_black"))
            continue
        yield _row([(title, "bright_black") for title in _HEADER], widths)
        for replica, cells in zip(service["replicas"], tables[name], strict=True):
            yield _row(cells, widths)
            said = _said(replica)
            if said:
                yield _line((" " * (widths[0] + 4) + terminal.harmless(said), "bright_black"))


def _headline(name: str, service: Document) -> Text:
    state = str(service.get("state") or "unknown")
    words: list[Cell] = [(name, "bold"), ("  ", ""), (state, terminal.style(state))]
    if service.get("listen"):
        words.append((f"  {service.get('protocol') or 'tcp'} on {service['listen']}", ""))
    if (service.get("desired") or {}).get("pending"):
        words.append(("  a command is being carried out", "cyan"))
    if service.get("sentence"):
        words.append((f"  {terminal.harmless(str(service['sentence']))}", "bright_black"))
    return _line(*words)


def _rollout(name: str, rollout: Document | None) -> Iterator[Text]:
    """What is to be known of a rollout: that it is under way, or that a release was thrown out and nobody saw it."""
    if rollout is None:
        return
    moving = not rollout_words.is_over(rollout) or rollout["phase"] == "recalled"
    if moving or rollout["failed"]:
        yield _line(("  " + rollout_words.sentence(rollout), rollout_words.colour(rollout)))
    if said := rollout_words.observed(rollout):
        yield _line((f"  {rollout['release']} is {said}", "yellow"))
    if rollout["failed"] and rollout["result"] == "rolled back":
        yield _line((f"  try: perdure deploy --status {name}, then perdure acknowledge {name}", "bright_black"))


def _ownership(service: Document) -> str:
    """Who is the owner, how soon another one would be, and what is kept of the state."""
    words = [f"owner {service['owner']}, epoch {service['epoch']}" if service.get("owner") else "no owner"]
    bound = service.get("takeover_bound_s")
    words.append("takeover within " + ("unknown" if bound is None else f"{bound:.1f} s"))
    data = service.get("data")
    if data is None:
        return "; ".join(words)
    if data.get("problem"):
        return "; ".join([*words, f"NO SNAPSHOTS: {terminal.harmless(str(data['problem']))}"])
    last, proven = data.get("last"), data.get("proven")
    if last is None:
        return "; ".join([*words, "snapshots unknown" if data.get("snapshots") is None else "no snapshot yet"])
    count = "1 snapshot" if data["snapshots"] == 1 else f"{data['snapshots']} snapshots"
    words.append(f"{count}, the last {terminal.span(last['age_s'])} ago")
    restores = f"restores in {proven['proven']['took_s']:.2f} s" if proven is not None else "not proven to restore yet"
    return "; ".join([*words, restores, *_rollback(service.get("rollback"))])


def _rollback(last: Document | None) -> list[str]:
    """What is to be said of the last time that somebody went back to older data."""
    if last is None:
        return []
    name, target = str(last["name"]), terminal.harmless(str(last["target"]))
    if last["outcome"] == "open":
        return [f"goes back to {target} ({name})"]
    return [f"{last['undo']} can be undone for {terminal.span(last['undo_s'])}"] if last.get("undo") else []


def _said(replica: Document) -> str:
    """What is to be said of a replica beside its numbers."""
    lag = replica.get("lag_s")
    if replica.get("state") in ("passive", "stopped") and lag is not None and replica.get("role") == "passive":
        return f"stands by with the state of {terminal.span(lag)} ago"
    if replica.get("state") == "ready" and replica.get("standby"):
        return "gets no requests just now: the other release has them"
    return "" if replica.get("state") in _SENTENCE_STATES else str(replica.get("sentence") or "")


def _cells(replica: Document) -> Sequence[Cell]:
    state, since = str(replica.get("state") or "unknown"), terminal.span(replica.get("since_s"))
    suspected = _suspicion(replica.get("suspicion"))
    if state == "stopped" and replica.get("role") == "passive" and replica.get("standby"):
        # An empty slot that stands by: what there is nothing of is not unknown.
        state, since, suspected = "passive", since if replica.get("since_s") is not None else "-", ("-", "")
    restarts = replica.get("restarts")
    return (
        (str(replica.get("slot")), ""),
        (state, terminal.style(state)),
        (str(replica.get("pid") or "-"), ""),
        (str(replica.get("port") or "-"), ""),
        (_release(str(replica.get("release") or "-")), ""),
        ("unknown" if restarts is None else str(restarts), "yellow" if restarts else ""),
        (since, ""),
        suspected,
    )


def _release(name: str) -> str:
    """The end of a long name is kept: it holds the number."""
    return name if len(name) <= _RELEASE_CHARACTERS else "\N{HORIZONTAL ELLIPSIS}" + name[1 - _RELEASE_CHARACTERS :]


def _suspicion(share: float | None) -> Cell:
    if share is None:
        return "unknown", terminal.style("unknown")
    colour = "red" if share >= 1 else "yellow" if share >= 0.5 else "bright_black"
    return f"{terminal.bar(share, 5)} {share * 100:.0f} %", colour


def _daemon(daemon: Document) -> Text:
    if not daemon.get("pid"):
        return _line(("daemon    ", "bold"), ("unknown", terminal.style("unknown")))
    age = daemon.get("loop_age_s")
    fresh = age is not None and age < STALE_LOOP_S
    words: list[Cell] = [("daemon    ", "bold"), ("running" if fresh else "stuck", "green" if fresh else "bold red")]
    words.append(
        (f"  pid {daemon['pid']}, up {terminal.span(daemon.get('uptime_s'))}, last loop {terminal.span(age)} ago", "")
    )
    if daemon.get("version"):
        words.append((f", perdure {daemon['version']}", ""))
    if daemon.get("store") not in (None, "ok"):
        words.append((f", store: {terminal.harmless(str(daemon['store']))}", "bold red"))
    return _line(*words)


def _balancer(balancer: Document) -> Text:
    state = str(balancer.get("state") or "unknown")
    words: list[Cell] = [("balancer  ", "bold"), (state, terminal.style(state))]
    words += [(f"  pid {balancer['pid']}", "")] if balancer.get("pid") else []
    words += [(f", HAProxy {balancer['version']}", "")] if balancer.get("version") else []
    words += [(f", {terminal.harmless(str(balancer['problem']))}", "bold red")] if balancer.get("problem") else []
    return _line(*words)


def _row(cells: Sequence[Cell], widths: Sequence[int]) -> Text:
    line = Text("  ", no_wrap=True, overflow="ellipsis")
    for (text, colour), width, title in zip(cells, widths, _HEADER, strict=True):
        line.append(text.rjust(width) if title in _RIGHT else text.ljust(width), colour)
        line.append("  ")
    line.rstrip()
    return line


def _line(*cells: Cell) -> Text:
    return Text.assemble(*cells, no_wrap=True, overflow="ellipsis")
