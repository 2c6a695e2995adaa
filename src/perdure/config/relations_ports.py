"""Relations between services that share the machine's addresses: listeners, fixed ports, the range for replicas.

Called by `relations` for the whole document. Whether a port is in use by somebody else is asked by `preflight`.
"""

from collections.abc import Iterator

from perdure.config import addresses, explain, relations_deploy
from perdure.config.reading import Reading
from perdure.model.errors import Problem
from perdure.model.service import Address


def problems(reading: Reading) -> Iterator[Problem]:
    """Yield every address that is meant twice, and a range that is too small."""
    yield from _listeners(reading)
    yield from _fixed_ports(reading)
    yield from _enough_ports(reading)


def _listeners(reading: Reading) -> Iterator[Problem]:
    by_port: dict[int, list[tuple[str, Address]]] = {}
    for name, service in reading.document.service.items():
        if service.listen is None:
            continue
        others = by_port.setdefault(service.listen.port, [])
        same = next((other for other, address in others if addresses.overlap(address, service.listen)), None)
        if same is None:
            others.append((name, service.listen))
            continue
        path, other_path = (explain.path_text(("service", one, "listen")) for one in (name, same))
        yield Problem(path, f"is used twice: {service.listen} also by {other_path}", "give one of the two another port")


def _fixed_ports(reading: Reading) -> Iterator[Problem]:
    services = reading.document.service
    listening = {service.listen.port: (name, service.listen) for name, service in services.items() if service.listen}
    holders: dict[int, str] = {}
    for name, service in services.items():
        if service.port is None:
            continue
        path = explain.path_text(("service", name, "port"))
        if service.port in holders:
            other = explain.path_text(("service", holders[service.port], "port"))
            yield Problem(path, f"is used twice: {service.port} also by {other}", "give one of the two another port")
        holders.setdefault(service.port, name)
        other_name, address = listening.get(service.port, ("", None))
        if address is not None and addresses.overlap(address, Address("127.0.0.1", service.port)):
            other = explain.path_text(("service", other_name, "listen"))
            yield Problem(
                path, f"is the port of {other}: {address}", "let clients connect to another port than the program's"
            )


def _enough_ports(reading: Reading) -> Iterator[Problem]:
    """Every replica needs one. While releases run side by side there are twice as many; with a single spare port they
    can, though one replica at a time.
    """
    ports = reading.document.perdure.ports
    services = [service for service in reading.document.service.values() if service.port is None]
    needed = sum(service.replicas for service in services)
    beside = sum(service.replicas for service in services if not relations_deploy.why_not_beside(service))
    spare = int(beside > 0)
    if needed + spare <= len(ports) or not reading.sound("perdure", "ports"):
        return
    more = ", and one more for a new release" * spare
    hint = f"widen it; while new releases run beside the old ones, up to {needed + beside} are in use" if spare else ""
    yield Problem(
        "perdure.ports",
        f"must hold a port for each of {needed} replicas{more} (got {addresses.port_range_text(ports)}: {len(ports)})",
        hint or "widen it",
    )
