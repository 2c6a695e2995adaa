"""Durations, sizes, rates and shares: from the text of the file to numbers, and back for the documentation.

Nothing here has a default unit: a bare number is a mistake, because `timeout = 5` means milliseconds to one half of the
readers and seconds to the other. Used by `kinds`; `init` writes with the same functions that read.
"""

import re

from perdure.config.mistake import Mistake, got

_DURATION_UNITS_S = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_DURATION_PART = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(h|ms|m|s)")
_DURATION_WORDS = {"msec": "ms", "sec": "s", "second": "s", "min": "m", "minute": "m", "hour": "h", "hr": "h"}

_SIZE_UNITS_BYTES: dict[str, int] = {"b": 1} | {
    prefix + suffix: base**power
    for power, prefix in enumerate("kmgt", start=1)
    for suffix, base in (("b", 1000), ("ib", 1024))
}
_SIZE = re.compile(r"([0-9]{1,16}(?:\.[0-9]{1,9})?)([kmgt]?i?b)", re.IGNORECASE)
_SIZE_NAMES = ("TB", "GB", "MB", "kB", "TiB", "GiB", "MiB", "KiB")

_RATE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?) per (?:([0-9]{1,6}) )?(hour|day|week|month|year)s?")
_RATE_UNITS_S = {"hour": 3600, "day": 86_400, "week": 7 * 86_400, "month": 30 * 86_400, "year": 365 * 86_400}

_FREQUENCY = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,6})?)/(s|min)")

_SHARE = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,6})?) ?%")


def duration_s(value: object) -> float:
    """Read `"500ms"`, `"1s"`, `"1h30m"`: units in falling order, each once."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        hint = _duration_hint(f"{value:.9g}" if abs(value) < 1e9 else "")
        raise Mistake(f"must be a duration with a unit, not a bare number {got(value)}", hint)
    if not isinstance(value, str):
        raise Mistake(f'must be a duration such as "500ms" {got(value)}', 'write a number and a unit in quotes, "5s"')
    parts = _DURATION_PART.findall(value)
    units = [list(_DURATION_UNITS_S).index(unit) for _, unit in parts]
    if not parts or "".join(number + unit for number, unit in parts) != value or units != sorted(set(units)):
        raise Mistake(f'must be a duration such as "500ms", "1s" or "1h30m" {got(value)}', _duration_hint(value))
    # The division keeps "100ms" exactly equal to 0.1, where a multiplication by 0.001 would not.
    return sum(
        float(number) / 1000 if unit == "ms" else float(number) * _DURATION_UNITS_S[unit] for number, unit in parts
    )


def duration_text(seconds: float) -> str:
    """Write a duration so that `duration_s` reads the same number, to the millisecond."""
    rest = round(seconds * 1000)
    if rest == 0:
        return "0s"
    text = ""
    for unit, size in (("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, rest = divmod(rest, size)
        text += f"{count}{unit}" if count else ""
    return text


def size_bytes(value: object) -> int:
    """Read `"64MB"` (1,000,000 bytes each) or `"1GiB"` (1,073,741,824 bytes each)."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        raise Mistake(f"must be a size with a unit, not a bare number {got(value)}", 'write it as "64MB" or "1GiB"')
    found = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        short = re.fullmatch(r"([0-9]{1,9}) ?([kmgtKMGT])?i?[bB]?", value) if isinstance(value, str) else None
        number, prefix = (short[1], (short[2] or "M").upper()) if short else ("64", "M")
        raise Mistake(f'must be a size such as "64MB" or "1GiB" {got(value)}', f'write it as "{number}{prefix}B"')
    return round(float(found[1]) * _SIZE_UNITS_BYTES[found[2].lower()])


def size_text(count: int) -> str:
    """Write a size in the largest unit that divides it."""
    for name in _SIZE_NAMES:
        unit = _SIZE_UNITS_BYTES[name.lower()]
        if count >= unit and count % unit == 0:
            return f"{count // unit}{name}"
    return f"{count}B"


def rate_per_s(value: object) -> float:
    """Read `"1 per 30 days"` as a number of events a second, above 0."""
    found = _RATE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise Mistake(
            f'must be a rate such as "1 per 30 days" {got(value)}',
            'write a number, "per", and hours, days, weeks, months or years',
        )
    count, span_s = float(found[1]), int(found[2] or 1) * _RATE_UNITS_S[found[3]]
    if count == 0 or span_s == 0:
        raise Mistake(f"must be above zero {got(value)}", 'nothing is never wrong; "1 per 10 years" is very careful')
    return count / span_s


def rate_text(per_s: float) -> str:
    """Write a rate as one event per so many days (or hours, when it is more often than daily)."""
    unit, size_s = ("day", 86_400) if per_s <= 1 / 86_400 else ("hour", 3600)
    count = round(1 / per_s / size_s)
    return f"1 per {count} {unit}s" if count != 1 else f"1 per {unit}"


def frequency_per_s(value: object) -> float:
    """Read `"2/s"` or `"30/min"` as a number of events a second, above 0."""
    found = _FREQUENCY.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise Mistake(f'must be a rate such as "1/s" or "30/min" {got(value)}', 'write a number, "/", and s or min')
    if float(found[1]) == 0.0:
        raise Mistake(f"must be above zero {got(value)}", "remove the table to ask nothing")
    return float(found[1]) / (60.0 if found[2] == "min" else 1.0)


def frequency_text(per_s: float) -> str:
    """Write a frequency so that `frequency_per_s` reads the same number."""
    return f"{per_s:g}/s" if per_s >= 1.0 else f"{per_s * 60.0:g}/min"


def share(value: object) -> float:
    """Read `"20%"` or `0.2` as a part of one, 0 to 1."""
    part: float | None = None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        part = float(value) if abs(value) < 1e9 else None
    elif isinstance(value, str) and (found := _SHARE.fullmatch(value)):
        part = float(found[1]) / 100
    if part is None or not 0 <= part <= 1:
        raise Mistake(f'must be a share from 0 to 1, or from "0%" to "100%" {got(value)}', 'write it as "20%" or 0.2')
    return part


def share_between(value: object) -> float:
    """Read a share that leaves something to both sides: above 0 and below 1."""
    part = share(value)
    if part in (0.0, 1.0):
        raise Mistake(f"must be above 0% and below 100% {got(value)}", "what comes after the last step is all of it")
    return part


def share_text(part: float) -> str:
    """Write a share as a percentage."""
    return f"{part * 100:.6g}%"


def _duration_hint(text: str) -> str:
    """Guess what was meant by `5`, `5 s`, `5 seconds`; otherwise name the units."""
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,3})?) *([a-z]*?)s?\.?", text.strip().lower())
    if found and not found[2]:
        return f'write "{found[1]}s" for seconds or "{found[1]}ms" for milliseconds'
    if found and (unit := _DURATION_WORDS.get(found[2], found[2])) in _DURATION_UNITS_S:
        return f'write "{found[1]}{unit}"'
    return "the units are h, m, s and ms, from the largest to the smallest, without spaces"
