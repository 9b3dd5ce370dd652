"""NamedTuple classes to bytes and back: one straight-line encoder and decoder is compiled for each
class.

The annotations are the schema. A *record* is::

    u32 size     bytes that follow this field u16 fixed    bytes of the fixed part, after this field
    fixed part   one struct for all fields: int q, float d, bool ?, length of a str or bytes I,
    count of a tuple I, presence of a record or of ``X | None`` ?, type number of one of several
    records H variable     the texts, bytes, items and nested records, in the order of the fields

all little-endian and without padding. One ``struct`` call reads all of a message's numbers, which
is why lengths stand together in front instead of each before its text: a varint costs more in
Python than the bytes it saves.

**Neighbouring versions.** A field may be added at the end of a class, with a default. *fixed* says
how many fields the writer had: a reader that knows fewer skips the rest (*size* says where the
record ends), one that knows more takes its defaults. That holds for nested records too. Shown by
tests/test_wire_codec.py, ``test_older_and_newer_readers``.

**Hostile bytes.** A decoder checks every length against the end of its record, every count against
the bytes that are left, that text is UTF-8 and floats are finite, and that nothing is left over;
classes do not contain themselves, so depth is bounded by the schema. It raises :class:`Malformed`
or ``struct.error`` or ``UnicodeDecodeError`` and nothing else; :class:`TypeTable` makes one
exception of them.

The source is generated, as ``collections.namedtuple`` and attrs do it; :func:`encoder_source` and
:func:`decoder_source` show it.
"""

from __future__ import annotations

import struct
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from flexcore.errors import LocalProtocolError, RemoteProtocolError

Encoder = Callable[[Any], bytes]
Decoder = Callable[[bytes, int, int], tuple[Any, int]]
"""decode(data, at, limit) -> (value, end); reads nothing that counts from *limit* on."""

_PREFIX = struct.Struct("<IH")
_LENGTH = struct.Struct("<I")
_FIXED_AT = _PREFIX.size
_SIZE_AT = _LENGTH.size


class Malformed(RemoteProtocolError):
    """Bytes that are no record of the class that they claim to be."""


class _Kind(NamedTuple):
    """What an annotation means. *code* is its place in the fixed part; *inner* what an optional or
    a tuple holds."""

    name: str  # bool int float str bytes record union optional tuple
    code: str
    inner: _Kind | None = None
    classes: tuple[type, ...] = ()


_PLAIN = {
    bool: _Kind("bool", "?"),
    int: _Kind("int", "q"),
    float: _Kind("float", "d"),
    str: _Kind("str", "I"),
    bytes: _Kind("bytes", "I"),
}

_ITEM_BYTES_MIN = {"int": 8, "str": 4, "bytes": 4, "record": _PREFIX.size}
"""What a tuple may hold, and the least that one of it takes."""


def _is_record(hint: object) -> bool:
    return isinstance(hint, type) and issubclass(hint, tuple) and hasattr(hint, "_fields")


def _kind_of(hint: Any) -> _Kind:
    if hint in _PLAIN:
        return _PLAIN[hint]
    if _is_record(hint):
        return _Kind("record", "?", None, (hint,))
    origin = typing.get_origin(hint)
    arguments = typing.get_args(hint)
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        inner = _kind_of(arguments[0])
        if inner.name in _ITEM_BYTES_MIN:
            return _Kind("tuple", "I", inner)
    if origin in (types.UnionType, typing.Union):
        rest = [argument for argument in arguments if argument is not types.NoneType]
        if len(rest) == 1:
            inner = _kind_of(rest[0])
            if inner.name not in ("optional", "union"):
                return _Kind(
                    "optional", "?" + ("" if inner.name == "record" else inner.code), inner
                )
        elif len(rest) == len(arguments) and all(map(_is_record, rest)):
            return _Kind("union", "H", None, tuple(rest))
    raise TypeError(f"no wire form for a field of type {hint!r}")


def _kinds_of(cls: type[Any]) -> list[_Kind]:
    hints = typing.get_type_hints(cls)
    return [_kind_of(hints[name]) for name in cls._fields]


def fixed_size(cls: type[Any], fields: int | None = None) -> int:
    """How many bytes the fixed part of *cls* has, or that of its first *fields* fields."""
    return struct.calcsize("<" + "".join(kind.code for kind in _kinds_of(cls)[:fields]))


# --- encoding ----------------------------------------


def _encode_value(kind: _Kind, a: str, i: int) -> tuple[list[str], str, str]:
    """Lines that prepare value *a* of field *i*, its argument to pack ('' for a record's), its
    variable part ('')."""
    match kind.name:
        case "bool" | "int":
            return [], a, ""
        case "float":
            return [f"if {a} - {a} != 0.0: raise not_finite({a})"], a, ""
        case "str":
            return [f"b{i} = {a}.encode()"], f"len(b{i})", f"b{i}"
        case "bytes":
            return [], f"len({a})", a
        case "record":
            return [f"b{i} = encoder_{kind.classes[0].__name__}({a})"], "", f"b{i}"
        case "union":
            lines = [
                f"n{i} = numbers.get(type({a}), 0)",
                f"b{i} = encoder_for({a}, union_{i})({a})",
            ]
            return lines, f"n{i}", f"b{i}"
        case _:
            return _encode_items(kind, a, i)


def _encode_items(kind: _Kind, a: str, i: int) -> tuple[list[str], str, str]:
    assert kind.name == "tuple"
    assert kind.inner is not None
    inner = kind.inner
    match inner.name:
        case "str":
            line = f"b{i} = texts({a})"
        case "bytes":
            line = f"b{i} = b''.join([length(len(e)) + e for e in {a}])"
        case "record":
            line = f"b{i} = b''.join([encoder_{inner.classes[0].__name__}(e) for e in {a}]) if {a} else b''"
        case _:
            line = f"b{i} = pack('<%d{inner.code}' % len({a}), *{a})"
    return [line], f"len({a})", f"b{i}"


def encoder_source(cls: type[Any]) -> str:
    """The text of *cls*'s encoder."""
    kinds = _kinds_of(cls)
    body = [f"({', '.join(f'a{i}' for i in range(len(kinds)))}{',' if kinds else ''}) = value"]
    arguments: list[str] = []
    parts: list[str] = []
    for i, kind in enumerate(kinds):
        a = f"a{i}"
        if kind.name != "optional":
            lines, argument, part = _encode_value(kind, a, i)
            body += lines
            arguments.append(argument or "True")
            parts += [part] if part else []
            continue
        assert kind.inner is not None
        lines, argument, part = _encode_value(kind.inner, a, i)
        body += [f"if {a} is None:", f"    f{i} = False; x{i} = 0; p{i} = b''", "else:"]
        body += [f"    {line}" for line in lines]
        body += [f"    f{i} = True; x{i} = {argument or '0'}; p{i} = {part or repr(b'')}"]
        arguments += [f"f{i}"] + ([f"x{i}"] if argument else [])
        parts += [f"p{i}"] if part else []
    size = " + ".join([str(fixed_size(cls) + 2), *(f"len({part})" for part in parts)])
    head = f"pack_fixed({', '.join([size, 'fixed_size', *arguments])})"
    body.append(f"return b''.join(({head}, {', '.join(parts)}))" if parts else f"return {head}")
    return "def encode(value):\n" + "".join(f"    {line}\n" for line in body)


# --- decoding ----------------------------------------


def _decode_value(kind: _Kind, i: int) -> list[str]:
    """Lines that turn x{i} of the fixed part and what stands at p into v{i}, and move p."""
    match kind.name:
        case "bool" | "int":
            return [f"v{i} = x{i}"]
        case "float":
            return [f"v{i} = x{i}", f"if x{i} - x{i} != 0.0: raise bad('a float is not finite')"]
        case "str":
            return [f"q = p + x{i}", f"v{i} = data[p:q].decode()", "p = q"]
        case "bytes":
            return [f"q = p + x{i}", f"v{i} = data[p:q]", "p = q"]
        case "record":
            return [f"v{i}, p = decoder_{kind.classes[0].__name__}(data, p, end)"]
        case "union":
            return [f"v{i}, p = decoder_for(x{i}, union_{i})(data, p, end)"]
        case _:
            assert kind.inner is not None
            least = _ITEM_BYTES_MIN[kind.inner.name]
            lines = [f"if x{i} * {least} > end - p: raise bad('more items than bytes')"]
            return lines + _decode_items(kind.inner, i)


def _decode_items(inner: _Kind, i: int) -> list[str]:
    match inner.name:
        case "str":
            return [
                f"v{i}, p = chunks(data, p, end, x{i})",
                f"v{i} = tuple([e.decode() for e in v{i}])",
            ]
        case "bytes":
            return [f"v{i}, p = chunks(data, p, end, x{i})", f"v{i} = tuple(v{i})"]
        case "record":
            return [
                f"v{i} = []",
                f"for _ in range(x{i}):",
                f"    e, p = decoder_{inner.classes[0].__name__}(data, p, end)",
                f"    v{i}.append(e)",
                f"v{i} = tuple(v{i})",
            ]
        case _:
            return [
                f"v{i} = unpack_from('<%d{inner.code}' % x{i}, data, p)",
                f"p += {_ITEM_BYTES_MIN[inner.name]} * x{i}",
            ]


def decoder_source(cls: type[Any], fields: int, newer: bool) -> str:
    """The text of a decoder of the first *fields* fields of *cls*; *newer*: the writer had more
    than the class has."""
    kinds = _kinds_of(cls)[:fields]
    names: list[str] = []
    body: list[str] = []
    for i, kind in enumerate(kinds):
        if kind.name == "optional":
            assert kind.inner is not None
            names += [f"f{i}"] + ([] if kind.inner.name == "record" else [f"x{i}"])
            body += [
                f"if f{i}:",
                *(f"    {line}" for line in _decode_value(kind.inner, i)),
                f"else: v{i} = None",
            ]
        else:
            names.append(f"x{i}")
            if kind.name == "record":
                body.append(f"if not x{i}: raise bad('a record is missing')")
            body += _decode_value(kind, i)
    values = ", ".join(f"v{i}" for i in range(fields))
    head = [
        f"try: size, fixed, {', '.join(names)} = unpack_fixed(data, at)"
        if names
        else "size, fixed = unpack_fixed(data, at)"
    ]
    if names:
        head.append("except struct_error: return other(data, at, limit)")
    if newer:
        head += ["p = at + 6 + fixed", "end = at + 4 + size"]
    else:
        head += [f"if fixed != {fixed_size(cls, fields)}: return other(data, at, limit)"]
        head += [f"p = at + {6 + fixed_size(cls, fields)}", "end = at + 4 + size"]
    head += ["if end > limit: raise bad('longer than what holds it')"]
    tail = [f"if p {'>' if newer else '!='} end: raise bad('lengths that do not add up')"]
    tail += (
        [f"return new(cls, ({values}{', ' if fields else ''}*defaults)), end"]
        if fields < len(cls._fields)
        else [f"return new(cls, ({values}{',' if fields else ''})), end"]
    )
    return "def decode(data, at, limit):\n" + "".join(
        f"    {line}\n" for line in head + body + tail
    )


def _texts(values: tuple[str, ...]) -> bytes:
    encoded = [value.encode() for value in values]
    return b"".join([_LENGTH.pack(len(each)) + each for each in encoded])


def _chunks(data: bytes, at: int, end: int, count: int) -> tuple[list[bytes], int]:
    """*count* byte strings, each behind its length; stops at the first that does not fit."""
    found: list[bytes] = []
    for _ in range(count):
        (size,) = _LENGTH.unpack_from(data, at)
        at += _SIZE_AT
        if at + size > end:
            raise Malformed("a text or byte string is longer than what holds it")
        found.append(data[at : at + size])
        at += size
    return found, at


def _not_finite(value: object) -> LocalProtocolError:
    return LocalProtocolError(f"not a finite number: {value!r}")


class Compiler:
    """Encoders and decoders of classes, each compiled when it is first needed. *numbers*: type
    number of union members."""

    def __init__(self, numbers: Mapping[type, int]) -> None:
        self._numbers = dict(numbers)
        self._classes = {number: cls for cls, number in numbers.items()}
        self._encoders: dict[type, Encoder] = {}
        self._decoders: dict[type, Decoder] = {}

    def encoder(self, cls: type[Any]) -> Encoder:
        """The function that makes a record of a value of *cls*."""
        found = self._encoders.get(cls)
        if found is None:
            found = self._encoders[cls] = self._compile_encoder(cls)
        return found

    def decoder(self, cls: type[Any]) -> Decoder:
        """The function that reads a record of *cls*."""
        found = self._decoders.get(cls)
        if found is None:
            found = self._decoders[cls] = self._compile_decoder(cls)
        return found

    def _compile_encoder(self, cls: type[Any]) -> Encoder:
        kinds = _kinds_of(cls)
        fixed = struct.Struct(_PREFIX.format + "".join(kind.code for kind in kinds))
        scope: dict[str, Any] = {
            "pack_fixed": fixed.pack,
            "fixed_size": fixed.size - _PREFIX.size,
            "pack": struct.pack,
            "length": _LENGTH.pack,
            "texts": _texts,
            "not_finite": _not_finite,
            "numbers": self._numbers,
            "encoder_for": self._encoder_for,
        }
        for i, kind in enumerate(kinds):
            scope[f"union_{i}"] = frozenset(kind.classes)
            for inner in _records_in(kind):
                scope[f"encoder_{inner.__name__}"] = self.encoder(inner)
        exec(compile(encoder_source(cls), f"<encoder of {cls.__name__}>", "exec"), scope)
        found: Encoder = scope["encode"]
        return found

    def _encoder_for(self, value: object, allowed: frozenset[type]) -> Encoder:
        if type(value) not in allowed or type(value) not in self._numbers:
            raise LocalProtocolError(f"{type(value).__name__} does not belong here")
        return self.encoder(type(value))

    def _decoder_for(self, number: int, allowed: frozenset[type]) -> Decoder:
        cls = self._classes.get(number)
        if cls is None or cls not in allowed:
            raise Malformed(f"type number {number} is unknown here")
        return self.decoder(cls)

    def _compile_decoder(self, cls: type[Any]) -> Decoder:
        names: tuple[str, ...] = cls._fields
        total = len(names)
        defaults: dict[str, Any] = cls._field_defaults
        whole_size = fixed_size(cls)
        # Fixed sizes that an older writer may have: any that leaves out only fields with a default.
        shorter: dict[int, int] = {}
        for fields in range(total - 1, -1, -1):
            if names[fields] not in defaults:
                break
            shorter[fixed_size(cls, fields)] = fields
        variants: dict[int, Decoder] = {}

        def other(data: bytes, at: int, limit: int) -> tuple[Any, int]:
            """The writer was not of our version."""
            size, fixed = _PREFIX.unpack_from(data, at)
            if at + 4 + size > limit or fixed + 2 > size:
                raise Malformed(f"malformed {cls.__name__}: shorter than it says")
            fields = total if fixed > whole_size else shorter.get(fixed)
            if fields is None:
                raise Malformed(f"malformed {cls.__name__}: cut inside its fields")
            variant = variants.get(fields)
            if variant is None:
                variant = variants[fields] = self._decode_function(
                    cls, fields, fields == total, _refuse
                )
            return variant(data, at, limit)

        return self._decode_function(cls, total, False, other)

    def _decode_function(self, cls: type[Any], fields: int, newer: bool, other: Decoder) -> Decoder:
        names: tuple[str, ...] = cls._fields
        defaults: dict[str, Any] = cls._field_defaults
        kinds = _kinds_of(cls)[:fields]
        fixed = struct.Struct(_PREFIX.format + "".join(kind.code for kind in kinds))

        def bad(why: str) -> Malformed:
            return Malformed(f"malformed {cls.__name__}: {why}")

        scope: dict[str, Any] = {
            "unpack_fixed": fixed.unpack_from,
            "unpack_from": struct.unpack_from,
            "struct_error": struct.error,
            "chunks": _chunks,
            "decoder_for": self._decoder_for,
            "other": other,
            "bad": bad,
            "new": tuple.__new__,
            "cls": cls,
            "defaults": tuple(defaults[name] for name in names[fields:]),
        }
        for i, kind in enumerate(kinds):
            scope[f"union_{i}"] = frozenset(kind.classes)
            for inner in _records_in(kind):
                scope[f"decoder_{inner.__name__}"] = self.decoder(inner)
        exec(
            compile(decoder_source(cls, fields, newer), f"<decoder of {cls.__name__}>", "exec"),
            scope,
        )
        found: Decoder = scope["decode"]
        return found


def _refuse(data: bytes, at: int, limit: int) -> tuple[Any, int]:
    raise Malformed("a record that ends inside its numbers")


def _records_in(kind: _Kind) -> tuple[type, ...]:
    """The classes that a field holds and whose number does not travel with them."""
    if kind.name == "record":
        return kind.classes
    return _records_in(kind.inner) if kind.inner is not None else ()
