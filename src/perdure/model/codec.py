"""Turns the frozen values of `model` into JSON and back, so that the store can keep them.

One rule set for all of them, driven by the dataclasses themselves: a dataclass is an object, a tuple and a range are
arrays, an enum is its value, None is null. Every field is written, defaults too, so that a later change of a default
does not change what was stored. Reading is strict: a missing field gets its default (an older Perdure wrote the
document), but an unknown field or value means that a newer one did: ignoring it could drop what the user asked for.
`control` encodes what it hands to `ports.store`, and decodes what it gets back.
"""

import dataclasses
import functools
import types
import typing
from collections.abc import Callable, Hashable, Mapping
from enum import Enum
from typing import Any, TypeVar, cast

from perdure.model.errors import CorruptionError

T = TypeVar("T")
Decoder = Callable[[Any], Any]

_NAMES: dict[type, str] = {type(None): "null", bool: "a boolean", int: "an integer", float: "a number", str: "a string"}
_HINT = "start the version of Perdure that wrote it, or restore the state from a backup"


def encode(value: Any) -> Any:
    """The JSON form of a model value; TypeError for what has none. Floats must be finite."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, str | int | float):
        return value
    if isinstance(value, range):
        return [value.start, value.stop, value.step]
    if isinstance(value, tuple | list):
        return [encode(item) for item in value]
    if isinstance(value, Mapping):
        return {_key(key): encode(item) for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {name: encode(getattr(value, name)) for name in _field_names(type(value))}
    raise TypeError(f"a {type(value).__name__} has no JSON form")


def decode(kind: type[T], document: Any) -> T:
    """The value of type `kind` that `encode` made `document` of; CorruptionError names the place that does not fit."""
    try:
        value: T = _decoder(cast(Hashable, kind))(document)
    except _Unreadable as error:
        place = "".join(reversed(error.path)).removeprefix(".") or "the document"
        raise CorruptionError(f"stored {kind.__name__}: {place}: {error.sentence}", _HINT) from None
    return value


class _Unreadable(Exception):
    """Something does not fit; `path` grows from the inside out while the error passes the enclosing decoders."""

    def __init__(self, sentence: str, *path: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.path = list(path)


@functools.cache
def _decoder(hint: Any) -> Decoder:
    """Build the function that reads a value with this type hint; a hint that no model class uses is a TypeError."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return _union_decoder(typing.get_args(hint))
    if origin is tuple:
        return _tuple_decoder(typing.get_args(hint))
    if origin is not None and issubclass(origin, Mapping):
        return _mapping_decoder(_decoder(typing.get_args(hint)[1]))
    if hint in _NAMES:
        return functools.partial(_decode_scalar, hint)
    if hint is range:
        return _decode_range
    if isinstance(hint, type) and issubclass(hint, Enum):
        return functools.partial(_decode_enum, hint)
    if dataclasses.is_dataclass(hint):
        return _dataclass_decoder(cast(type, hint))
    raise TypeError(f"no way to read {hint!r} from JSON")


def _dataclass_decoder(kind: type) -> Decoder:
    hints = typing.get_type_hints(kind)
    fields = {name: _decoder(hints[name]) for name in _field_names(kind)}
    required = [
        field.name
        for field in dataclasses.fields(kind)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]

    def read(document: Any) -> Any:
        if not isinstance(document, Mapping):
            raise _Unreadable(f"must be an object (got {_named(document)})")
        values = {}
        for name, item in document.items():
            if name not in fields:
                raise _Unreadable("is unknown to this version of Perdure", f".{name}")
            try:
                values[name] = fields[name](item)
            except _Unreadable as error:
                error.path.append(f".{name}")
                raise
        for name in required:
            if name not in values:
                raise _Unreadable("is missing", f".{name}")
        return kind(**values)

    return read


def _tuple_decoder(hints: tuple[Any, ...]) -> Decoder:
    many = len(hints) == 2 and hints[1] is Ellipsis
    readers = [_decoder(hint) for hint in (hints[:1] if many else hints)]

    def read(document: Any) -> Any:
        if not isinstance(document, list):
            raise _Unreadable(f"must be an array (got {_named(document)})")
        if not many and len(document) != len(readers):
            raise _Unreadable(f"must have {len(readers)} items (got {len(document)})")
        values = []
        for index, item in enumerate(document):
            try:
                values.append(readers[0 if many else index](item))
            except _Unreadable as error:
                error.path.append(f"[{index}]")
                raise
        return tuple(values)

    return read


def _mapping_decoder(reader: Decoder) -> Decoder:
    def read(document: Any) -> Any:
        if not isinstance(document, Mapping):
            raise _Unreadable(f"must be an object (got {_named(document)})")
        values = {}
        for key, item in document.items():
            try:
                values[key] = reader(item)
            except _Unreadable as error:
                error.path.append(f".{key}")
                raise
        return values

    return read


def _union_decoder(hints: tuple[Any, ...]) -> Decoder:
    """Only None and scalars can be told apart without a tag, so at most one member may be anything else."""
    scalars = [hint for hint in hints if hint in _NAMES]
    others = [hint for hint in hints if hint not in scalars]
    if len(others) > 1:
        raise TypeError(f"members of a union cannot be told apart: {others!r}")
    last = _decoder(others[0] if others else next(hint for hint in scalars if hint is not type(None)))

    def read(document: Any) -> Any:
        if type(document) in scalars:
            return document
        return last(document)

    return read


def _decode_scalar(kind: type, document: Any) -> Any:
    if type(document) is kind:
        return document
    if kind is float and type(document) is int:
        return float(document)
    raise _Unreadable(f"must be {_NAMES[kind]} (got {_named(document)})")


def _decode_enum(kind: type[Enum], document: Any) -> Enum:
    try:
        return kind(document)
    except ValueError:
        raise _Unreadable(f"{document!r} is unknown to this version of Perdure") from None


def _decode_range(document: Any) -> range:
    start, stop, step = _decoder(tuple[int, int, int])(document)
    if step == 0:
        raise _Unreadable("a range must not have the step 0")
    return range(start, stop, step)


def _key(key: Any) -> str:
    if not isinstance(key, str):
        raise TypeError(f"a key of a JSON object must be a string (got {key!r})")
    return key


@functools.cache
def _field_names(kind: type) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(kind))


def _named(document: Any) -> str:
    """What a document is, never its value: environments hold secrets."""
    return _NAMES.get(type(document), "an array" if isinstance(document, list) else "an object")
