"""The values of a licence file: one class a kind of line, and the file that holds them in order.

Every line keeps the text it was read from, with line ends, so that a file prints again byte for
byte: ``"".join(line.text for line in license.lines)``.
"""

from __future__ import annotations

import datetime
import enum
from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeAlias

import attrs

from flexcore.hostid import Hostid
from flexcore.override import override

DEFAULT_HEARTBEAT_INTERVAL_S = 20
"""Where the first SERVER line does not say (seed, "Using License File Keywords")."""

SIGNATURE_KEYS = frozenset({"SIGN", "SIGN2", "AUTH"})
"""Attributes that hold signatures, of flexcore (SIGN) or of other systems; never signed themselves."""

POOL_KEYS = (
    "BORROW", "DUP_GROUP", "FLOAT_OK", "HOST_BASED", "HOSTID", "PLATFORMS", "TZ", "USER_BASED",
    "VENDOR_STRING", "VM_PLATFORMS",
)  # fmt: skip
"""Attributes that, beside name and version, make lines separate pools (reference, a5)."""


class Severity(enum.StrEnum):
    """How bad a problem is."""

    ERROR = "error"
    """The line, or the file, cannot be used."""
    WARNING = "warning"
    """It can, but hardly as somebody meant it."""
    INFO = "info"
    """Worth knowing."""


@attrs.frozen
class Problem:
    """Something about a licence file that somebody should look at."""

    severity: Severity
    line: int
    """Counted from 1; 0 when the whole file is meant."""
    column: int
    """Counted from 1, in characters; 0 when the whole line is meant."""
    code: str
    """A short name of the kind of problem, for tests and filters; never changes."""
    message: str
    """What is wrong."""
    advice: str = ""
    """What to do about it."""
    whole_file: bool = False
    """Of an error: no server may start with the file (otherwise: only the line is not in effect)."""

    @override
    def __str__(self) -> str:
        where = ":".join(str(n) for n in (self.line, self.column) if n)
        advice = f"; {self.advice}" if self.advice else ""
        return f"{where}{': ' if where else ''}{self.severity}: {self.message}{advice}"


class Attribute(NamedTuple):
    """``KEY=value``, ``key=value`` or a bare word of a line."""

    key: str
    """As written. Wholly in lower case: the administrator's, unsigned (design.md section 6)."""
    value: str | None
    """Without quotes, runs of blanks as one blank; None for a bare word."""
    quoted: bool
    """Whether the value (of a bare word: the word itself) stood in quotes."""
    line: int = 0
    column: int = 0

    @property
    def is_signed(self) -> bool:
        """Whether SIGN covers it: everything but signatures and the administrator's keys."""
        if self.value is None and self.quoted:
            return True
        return not is_administrators(self.key) and self.key.upper() not in SIGNATURE_KEYS

    def printed(self) -> str:
        """Return the attribute as one physical line has it."""
        value = self.value
        if value is None:
            return f'"{self.key}"' if self.quoted else self.key
        # An empty value needs its quotes: a quoted word behind it would be taken for the value.
        return f'{self.key}="{value}"' if self.quoted or not value else f"{self.key}={value}"


def is_administrators(key: str) -> bool:
    """Say whether a key is wholly in lower case, and so the administrator's."""
    return key.isascii() and key.islower() and key.replace("_", "a").isalnum() and key[0].isalpha()


@attrs.frozen(kw_only=True)
class Line:
    """What all lines have."""

    text: str = attrs.field(repr=False)
    """The text it was read from, comments, continuations and line end included."""
    line: int
    """Where it begins, counted from 1."""


class OtherKind(enum.Enum):
    """Why a line says nothing about licences."""

    BLANK = "blank"
    COMMENT = "comment"
    TEXT = "text"
    """Prose: its first word is no keyword, which the old manual calls a comment."""
    BROKEN = "broken"
    """Its keyword is known and the rest cannot be read; a problem says why."""


@attrs.frozen(kw_only=True)
class OtherLine(Line):
    """A blank line, a comment, prose, or a line that cannot be read."""

    kind: OtherKind
    keyword: str = ""
    """Of a broken line: its keyword in capitals."""


@attrs.frozen(kw_only=True)
class ServerLine(Line):
    """``SERVER host hostid [port] [PRIMARY_IS_MASTER] [HEARTBEAT_INTERVAL=seconds]``."""

    host: str
    hostid: str
    """As written (of a list: the hostids, blanks between). The signature covers it, case-folded."""
    hostids: tuple[Hostid, ...]
    """The values of ``hostid``; a machine with any of them is meant."""
    port: int | None = None
    primary_is_master: bool = False
    heartbeat_interval_s: int | None = None
    attributes: tuple[Attribute, ...] = ()
    """What else stood on the line."""

    @property
    def signed_hostid(self) -> str:
        """What SIGN covers of this line."""
        return self.hostid.casefold()


@attrs.frozen(kw_only=True)
class VendorLine(Line):
    """``VENDOR vendor [path] [[OPTIONS=]options] [[PORT=]port]``, or DAEMON, its old name."""

    name: str
    path: str = ""
    options: str = ""
    port: int | None = None
    attributes: tuple[Attribute, ...] = ()


@attrs.frozen(kw_only=True)
class UseServerLine(Line):
    """``USE_SERVER``: a client takes nothing from this file but the SERVER lines above."""


@attrs.frozen(kw_only=True)
class _SignableLine(Line):
    name: str
    vendor: str
    legacy_key: str = ""
    """A positional licence key of another system (12 to 20 hex digits); not signed, no effect."""
    attributes: tuple[Attribute, ...] = ()

    def attribute(self, key: str) -> Attribute | None:
        """Return the first attribute with exactly this key, or None."""
        for attribute in self.attributes:
            if attribute.key == key and not (attribute.quoted and attribute.value is None):
                return attribute
        return None

    def value(self, key: str) -> str | None:
        """Return the value of the first attribute with this key; "" for a bare word, or None."""
        found = self.attribute(key)
        return None if found is None else found.value or ""

    @property
    def sign(self) -> str | None:
        """The value of ``SIGN=``, or None."""
        found = self.attribute("SIGN")
        return None if found is None else found.value


@attrs.frozen(kw_only=True)
class FeatureLine(_SignableLine):
    """``FEATURE`` or ``INCREMENT name vendor version expiry count [attributes] SIGN="..."``."""

    keyword: str
    """``FEATURE`` or ``INCREMENT``."""
    version: str
    expiry: datetime.date | None
    """The last day on which it may be used; None: permanent."""
    expiry_text: str
    """As written."""
    count: int
    """Licences; 0: uncounted."""
    count_text: str
    start: datetime.date | None = None
    """START=: the first day, or None."""

    @property
    def fields(self) -> tuple[tuple[str, str], ...]:
        """The positional fields by role, as written; SIGN covers them."""
        return (
            ("name", self.name),
            ("vendor", self.vendor),
            ("version", self.version),
            ("expiry", self.expiry_text),
            ("count", self.count_text),
        )

    @property
    def is_uncounted(self) -> bool:
        return self.count == 0

    @property
    def hostid(self) -> str:
        """The value of ``HOSTID=``, "" without one."""
        return self.value("HOSTID") or ""

    @property
    def vendor_string(self) -> str:
        """The value of ``VENDOR_STRING=``, "" without one."""
        return self.value("VENDOR_STRING") or ""

    @property
    def signed_text(self) -> str:
        """The line on one physical line, SIGN included: what a client gets with a grant."""
        return print_line(self)

    @property
    def pool_key(self) -> str:
        """Name the pool: lines with equal keys add up, others are separate (reference, a5).

        Only the publisher's attributes count, so no text editor joins or splits pools. Versions are
        compared as numbers: 1.0 and 1.00 are one pool.
        """
        from .version import parse_version

        version = parse_version(self.version)
        parts = [f"{self.name} {version.whole}.{version.fraction or '0'}"]
        for key in POOL_KEYS:
            found = self.attribute(key)
            if found is not None:
                parts.append(key if found.value is None else f"{key}={found.value}")
        return "\x1f".join(parts)

    def is_expired(self, today: datetime.date) -> bool:
        """Say whether its last day is over (-10)."""
        return self.expiry is not None and today > self.expiry

    def is_early(self, today: datetime.date) -> bool:
        """Say whether its first day is still to come (-31)."""
        return self.start is not None and today < self.start


class Component(NamedTuple):
    """``feature[:version[:count]]`` of a PACKAGE's COMPONENTS."""

    name: str
    version: str
    """"" where not given."""
    number: int | None
    """Licences; None where not given."""


@attrs.frozen(kw_only=True)
class PackageLine(_SignableLine):
    """``PACKAGE name vendor [version] COMPONENTS="..." [OPTIONS=SUITE] [SUPERSEDE...] SIGN=``."""

    version: str
    """"" where not given."""
    components: tuple[Component, ...]
    is_suite: bool = False

    keyword = "PACKAGE"

    @property
    def fields(self) -> tuple[tuple[str, str], ...]:
        """The positional fields by role, as written; SIGN covers them."""
        return (("name", self.name), ("vendor", self.vendor), ("version", self.version))


@attrs.frozen(kw_only=True)
class UpgradeLine(_SignableLine):
    """``UPGRADE name vendor from_version to_version expiry count [attributes] SIGN=``."""

    from_version: str
    version: str
    expiry: datetime.date | None
    expiry_text: str
    count: int
    count_text: str

    keyword = "UPGRADE"

    @property
    def fields(self) -> tuple[tuple[str, str], ...]:
        """The positional fields by role, as written; SIGN covers them."""
        return (
            ("name", self.name),
            ("vendor", self.vendor),
            ("from version", self.from_version),
            ("version", self.version),
            ("expiry", self.expiry_text),
            ("count", self.count_text),
        )


SignableLine: TypeAlias = FeatureLine | PackageLine | UpgradeLine
AnyLine: TypeAlias = (
    ServerLine | VendorLine | UseServerLine | FeatureLine | PackageLine | UpgradeLine | OtherLine
)


def print_line(line: SignableLine, *, sign: str | None = None) -> str:
    """Return a signable line on one physical line, without a line end.

    With ``sign``, that value stands for ``SIGN=`` at the end; without, the line's own stays.
    """
    words = [line.keyword, *(value for _, value in line.fields if value)]
    if line.legacy_key:
        words.append(line.legacy_key)
    words.extend(
        attribute.printed()
        for attribute in line.attributes
        if sign is None or attribute.key != "SIGN"
    )
    if sign is not None:
        words.append(f'SIGN="{sign}"')
    return " ".join(words)


@attrs.frozen(kw_only=True)
class LicenseFile:
    """A licence file, parsed. :func:`~flexcore.licensefile.parse_license` makes them."""

    name: str
    """What the caller calls it, for messages; usually its path."""
    encoding: str
    """What its bytes were: ``utf-8``, ``latin-1``, ``utf-16-le`` or ``utf-16-be``."""
    lines: tuple[AnyLine, ...] = attrs.field(repr=False)
    """All of them, in order."""
    problems: tuple[Problem, ...]
    """In the order of lines."""
    servers: tuple[ServerLine, ...]
    vendors: tuple[VendorLine, ...]
    use_server: bool
    features: tuple[FeatureLine, ...] = attrs.field(repr=False)
    """FEATURE and INCREMENT lines that can be read, in order."""
    packages: tuple[PackageLine, ...] = attrs.field(repr=False)
    upgrades: tuple[UpgradeLine, ...] = attrs.field(repr=False)

    @property
    def is_triad(self) -> bool:
        """Whether three servers serve it together."""
        return len(self.servers) == 3

    @property
    def heartbeat_interval_s(self) -> int:
        """HEARTBEAT_INTERVAL of the first SERVER line, 20 where it does not say."""
        interval = self.servers[0].heartbeat_interval_s if self.servers else None
        return DEFAULT_HEARTBEAT_INTERVAL_S if interval is None else interval

    @property
    def primary_is_master(self) -> bool:
        """Whether PRIMARY_IS_MASTER stands on the first SERVER line."""
        return bool(self.servers) and self.servers[0].primary_is_master

    @property
    def hostids(self) -> tuple[str, ...]:
        """What SIGN covers of the SERVER lines: their hostids in order, case-folded."""
        return tuple(server.signed_hostid for server in self.servers)

    @property
    def signable_lines(self) -> Iterator[SignableLine]:
        """FEATURE, INCREMENT, PACKAGE and UPGRADE lines, in the order of the file."""
        return (
            line for line in self.lines if isinstance(line, FeatureLine | PackageLine | UpgradeLine)
        )

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The problems that are errors."""
        return only_errors(self.problems)

    @property
    def fatal_problems(self) -> tuple[Problem, ...]:
        """The errors that forbid to start a server with this file."""
        return tuple(problem for problem in self.errors if problem.whole_file)


def only_errors(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Return the problems that are errors."""
    return tuple(problem for problem in problems if problem.severity is Severity.ERROR)
