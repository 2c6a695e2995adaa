"""Where services listen: addresses and port ranges, read from the file and compared.

Used by `kinds` to read `listen` and `ports`, and by `relations` and `preflight` to find two that cannot both be bound.
"""

import ipaddress
import re

from perdure.config.mistake import Mistake, got
from perdure.model.service import Address

ANY_HOSTS = frozenset({"0.0.0.0", "::"})
_NAME = re.compile(r"(?=.{1,253}$)[A-Za-z0-9](?:[A-Za-z0-9-]{0,62})(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,62}))*")
_RANGE = re.compile(r"([0-9]{1,5}) ?- ?([0-9]{1,5})")
_LISTEN_HINT = 'write it as "127.0.0.1:8080", "[::1]:8080", or ":8080" for every address of this machine'


def address(value: object) -> Address:
    """Read `"host:port"`, `"[::1]:8080"` or `":8080"`; the last one means every IPv4 address."""
    if not isinstance(value, str):
        raise Mistake(f"must be an address in quotes {got(value)}", _number_hint(value))
    host, colon, port = value.rpartition(":")
    if not colon:
        raise Mistake(f"must have a host and a port {got(value)}", _number_hint(value))
    return Address(_host(host, value), _port(port, value))


def networks(value: object) -> tuple[str, ...]:
    """Read one address or network, or a list of them: `"127.0.0.1"`, `["10.0.0.0/8", "fd00::/8"]`."""
    return tuple(dict.fromkeys(_network(one) for one in (value if isinstance(value, list) else [value])))


def port_range(value: object) -> range:
    """Read `"21000-29999"`, both ends included."""
    found = _RANGE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise Mistake(f'must be a range of ports such as "21000-29999" {got(value)}', "write it in quotes, first-last")
    first, last = int(found[1]), int(found[2])
    if not 1024 <= first <= last <= 65_535:
        raise Mistake(f"must go up, from 1024 at least to 65535 at most {got(value)}", 'the default is "21000-29999"')
    return range(first, last + 1)


def port_range_text(ports: range) -> str:
    """Write a range of ports as the file has it."""
    return f"{ports.start}-{ports.stop - 1}"


def overlap(one: Address, other: Address) -> bool:
    """Tell whether binding both at once fails: the same port, and the same host or one that stands for all."""
    if one.port != other.port:
        return False
    hosts = {_canonical(one.host), _canonical(other.host)}
    return len(hosts) == 1 or bool(hosts & ANY_HOSTS)


def _network(value: object) -> str:
    try:
        if not isinstance(value, str) or "%" in value:
            raise ValueError
        return str(ipaddress.ip_network(value)) if "/" in value else str(ipaddress.ip_address(value))
    except ValueError:
        raise Mistake(f"must be an IP address or a network {got(value)}", _network_hint(value)) from None


def _network_hint(value: object) -> str:
    """A network with bits beyond its length is most likely meant as the whole of it."""
    try:
        meant = str(ipaddress.ip_network(value, strict=False)) if isinstance(value, str) and "/" in value else ""
    except ValueError:
        meant = ""
    return f'did you mean "{meant}"?' if meant else 'such as "127.0.0.1" or ["10.0.0.0/8", "::1"]'


def _host(text: str, whole: str) -> str:
    if text in ("", "*"):
        return "0.0.0.0"
    bracketed = text.startswith("[") and text.endswith("]")
    inner = text[1:-1] if bracketed else text
    try:
        parsed = ipaddress.ip_address(inner)
    except ValueError:
        parsed = None
    if parsed is not None and "%" not in inner:
        if (parsed.version == 6) == bracketed:
            return str(parsed)
        if parsed.version == 6:
            raise Mistake(
                f"an IPv6 address needs brackets {got(whole)}", f'write "[{inner}]:{whole.rpartition(":")[2]}"'
            )
    looks_like_ip = re.fullmatch(r"[0-9.]+", inner) is not None
    if parsed is not None or bracketed or looks_like_ip or not _NAME.fullmatch(inner):
        raise Mistake(f"has no valid host before the port {got(whole)}", _LISTEN_HINT)
    return inner.lower()


def _port(text: str, whole: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 1 <= int(text) <= 65_535:
        raise Mistake(f"must end in a port from 1 to 65535 {got(whole)}", _LISTEN_HINT)
    return int(text)


def _number_hint(value: object) -> str:
    digits = value if isinstance(value, str) else str(value) if isinstance(value, int) and abs(value) < 65_536 else ""
    if re.fullmatch(r"[0-9]{1,5}", digits):
        return f'write "127.0.0.1:{digits}", or ":{digits}" for every address of this machine'
    return _LISTEN_HINT


def _canonical(host: str) -> str:
    return "127.0.0.1" if host == "localhost" else host
