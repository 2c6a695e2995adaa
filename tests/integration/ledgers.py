"""Services of `examples/ledger`, one replica active at a time: how to declare them, and who is active."""

import json
import sys
from typing import Any

from bench import load
from e2e import ROOT, Site, wait

LEDGER = json.dumps([sys.executable, str(ROOT / "examples" / "ledger" / "ledger.py")])
HEALTHZ = (load.Kind("GET", "/healthz"),)
WARM = 'standby = "warm"\nrole = { http = "/role" }'


def declared(name: str, port: int, *more: str) -> str:
    """A service with two replicas, as TOML; `more`: lines of its table."""
    lines = (
        f"[service.{name}]",
        f"command = {LEDGER}",
        "replicas = 2",
        'mode = "active-passive"',
        f'listen = "127.0.0.1:{port}"',
        'check = { http = "/healthz", interval = "1s", timeout = "1s" }',
        *more,
    )
    return "\n".join(lines) + "\n"


def owned(made: Site, service: str) -> dict[str, Any]:
    found: dict[str, Any] = made.status()["services"][service]
    return found


def active(made: Site, service: str) -> dict[str, Any] | None:
    found = [one for one in owned(made, service)["replicas"] if one["role"] == "active"]
    assert len(found) <= 1, found
    return found[0] if found else None


def settled(made: Site, service: str) -> dict[str, Any]:
    """Wait until one is active, and the other stands by."""

    def whole() -> bool:
        found = owned(made, service)
        return found["state"] == "ok" and not found["desired"]["pending"]

    wait(whole, f"{service} is whole", 30.0)
    one = active(made, service)
    assert one is not None
    return one


def another(made: Site, service: str, than: dict[str, Any]) -> dict[str, Any] | None:
    one = active(made, service)
    return one if one is not None and one["pid"] != than["pid"] else None
