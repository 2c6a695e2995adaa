"""Durations, sizes, rates and shares as the file spells them: `1h30m`, `64MB`, `1 per 30 days`, `20%`.

`config.units` reads them, and writes them for the reference; what decides may not ask it, so the few lines that write
are here again, and a test holds the two together. Neighbour: `settings` spells a service's values with them.
"""

_TIMES = (("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1))
_SIZES = (
    ("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3),
    ("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10),
)  # fmt: skip
_DAY_S = 86_400
_HOUR_S = 3600


def duration(seconds: float) -> str:
    """To the millisecond."""
    rest = round(seconds * 1000)
    text = ""
    for unit, size in _TIMES:
        count, rest = divmod(rest, size)
        text += f"{count}{unit}" if count else ""
    return text or "0s"


def size(count: int) -> str:
    """In the largest unit that divides it."""
    return next((f"{count // unit}{name}" for name, unit in _SIZES if count and count % unit == 0), f"{count}B")


def rate(per_s: float) -> str:
    """For what is rare: one in so many days, or hours when it is more often than daily."""
    unit, size_s = ("day", _DAY_S) if per_s <= 1 / _DAY_S else ("hour", _HOUR_S)
    count = round(1 / per_s / size_s)
    return f"1 per {count} {unit}s" if count != 1 else f"1 per {unit}"


def frequency(per_s: float) -> str:
    """For what is often."""
    return f"{per_s:g}/s" if per_s >= 1.0 else f"{per_s * 60.0:g}/min"


def share(part: float) -> str:
    """As a percentage."""
    return f"{part * 100:.6g}%"
