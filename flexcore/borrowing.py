"""What an application remembers of a licence that it took home: the borrow file, and the wish to borrow.

A borrowed licence is used where no server can be asked, so everything that decides whether it may be used stands in one
record: the signed licence lines, the machine, the user, the end, and when it was used last. The servers' half is
:mod:`flexcore.server.borrowing`; the files are read and written by ``flexcore_host.borrow_files``.

**What the record can prove.** It is sealed (HMAC-SHA256) with a key that is made of the borrowing's secret and the
machine's hostids. That finds damage, an edited date, and a copy on another machine. It does not stop whoever reads this
file and computes the seal anew: no file on a user's own machine can. What a forger cannot change is what the publisher
signed (the feature, the version, the count, the hours of BORROW and the last day: :func:`judge` holds the record to
them), and what the servers know: they take the seat back at the end that *they* agreed to, whatever the file says.

**The clock.** :attr:`BorrowRecord.seen` is the latest time at which the licence was used; a clock that shows less was
set back (-88).
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import math
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from .codes import ErrorCode
from .errors import BorrowError, FlexcoreError, HostidError
from .hostid import DISK_SERIAL_NUM, ETHERNET, HOSTNAME, VM_UUID, parse_hostid
from .licensefile.version import Version, format_date, parse_date, parse_version
from .record import Record, replace

__all__ = [
    "ASKED",
    "LENT",
    "RETURNING",
    "BorrowProblem",
    "BorrowRecord",
    "BorrowWish",
    "after_return",
    "check_end",
    "dump_record",
    "format_wish",
    "is_lender",
    "is_same_machine",
    "judge",
    "load_record",
    "parse_end",
    "parse_wish",
    "signed_hours",
]

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S

HOURS_DEFAULT = 168
"""A week: BORROW without a number (M/114)."""

HOURS_MAX = 24 * 366 * 10
"""More is taken for this; a number in a file may be anything."""

ROUNDING_S = 60.0
"""Ends are given in minutes: so much more than the limit is not refused."""

CLOCK_SLACK_S = 300.0
"""Clocks of honest machines are corrected by no more than this; the servers give the same time to a late client."""

ASKED, LENT, RETURNING = "asked", "lent", "returning"
"""Written before the servers are asked (it can be returned, and grants nothing); lent; being given back."""

RECORD_BYTES_MAX = 1 << 17
_FORMAT = 1
_WALL_MAX = 1e11
_YEAR_MAX = 5000
"""Ends that are later than both are slips (milliseconds, 31-dec-9999): no licence lasts that long."""

_HARDWARE = frozenset({ETHERNET, DISK_SERIAL_NUM, VM_UUID})
"""What stays with a machine wherever it is carried; its addresses do not."""

_VMWARE_HOST = "005056c0"

_SEAL = b"flexcore borrow file 1\0"
_TIME = re.compile(r"([01]?[0-9]|2[0-3]):?([0-5][0-9])")
_LAST_MINUTE = datetime.time(23, 59)


def signed_hours(value: str | None) -> int:
    """Return the hours of a BORROW keyword, 0 where there is none.

    >>> signed_hours(None), signed_hours(""), signed_hours("48"), signed_hours("often")
    (0, 168, 48, 168)
    """
    if value is None:
        return 0
    is_number = value.isascii() and value.isdigit() and len(value) <= 9
    return min(int(value), HOURS_MAX) if is_number else HOURS_DEFAULT


# --- the wish ---------------------------------------------------------------------------------------------------


class BorrowWish(Record):
    """Whoever set LM_BORROW wants what is checked out on *day* to be borrowed until *end* (local time)."""

    day: datetime.date
    vendor: str
    """Of whose licences; ``all``."""
    end: datetime.datetime

    def is_for(self, vendor: str, today: datetime.date) -> bool:
        """Whether a checkout of *vendor*'s licences is to be borrowed today."""
        return self.day == today and self.vendor.casefold() in ("all", vendor.casefold())


def check_end(until: float) -> None:
    """Refuse what can be no end of a borrowing, in epoch seconds: no server could be asked for it.

    Raises:
        BorrowError: -42 for what is no number, -104 for what is too far away, -117 for a time before 1970.
    """
    if math.isnan(until):
        raise BorrowError("the end of the borrowing is no number", ErrorCode.INVALID_PARAMETER)
    if until >= _WALL_MAX:
        raise BorrowError(
            f"nothing is borrowed until {until:.6g}: the end is given in seconds since 1970, as time.time() has them",
            ErrorCode.CANNOT_BORROW_THAT_LONG,
        )
    if until <= 0.0:
        raise BorrowError("the end of the borrowing lies in the past", ErrorCode.BORROW_FAILED)


def parse_end(date: str, time: str = "") -> datetime.datetime:
    """Return the end of a borrowing, ``dd-mmm-yyyy`` with an optional ``hh:mm``; without, the last minute of that day.

    Raises:
        BorrowError: -11 for what is no such date, -42 for what is no such time, -104 for a year that is too far away.
    """
    try:
        day = parse_date(date)
    except FlexcoreError as error:
        raise BorrowError(str(error), ErrorCode.BAD_DATE) from None
    if day is None:
        raise BorrowError(f"{date} never comes: a borrowing has an end", ErrorCode.BAD_DATE)
    if day.year > _YEAR_MAX:
        raise BorrowError(f"nothing is borrowed until the year {day.year}", ErrorCode.CANNOT_BORROW_THAT_LONG)
    if not time:
        return datetime.datetime.combine(day, _LAST_MINUTE)
    found = _TIME.fullmatch(time)
    if found is None:
        raise BorrowError(f"{time[:40]!r} is no time of day: write one such as 17:30", ErrorCode.INVALID_PARAMETER)
    return datetime.datetime.combine(day, datetime.time(int(found[1]), int(found[2])))


def parse_wish(text: str, today: datetime.date) -> BorrowWish:
    """Read LM_BORROW, ``today:{vendor|all}:dd-mmm-yyyy[:hh:mm]``; the first field is a date, or the word ``today``.

    Raises:
        BorrowError: it is something else.
    """
    words = text.strip().split(":", 3)
    if len(words) < 3 or not words[1]:
        raise BorrowError(
            f"LM_BORROW is {text[:80]!r}, which is not today:VENDOR:dd-mmm-yyyy[:hh:mm] (flexcore lmborrow sets it)",
            ErrorCode.INVALID_PARAMETER,
        )
    day = today if words[0].casefold() == "today" else parse_end(words[0]).date()
    return BorrowWish(day, words[1], parse_end(words[2], words[3] if len(words) > 3 else ""))


def format_wish(wish: BorrowWish) -> str:
    """Return what LM_BORROW is set to for *wish*."""
    return f"{format_date(wish.day)}:{wish.vendor}:{format_date(wish.end.date())}:{wish.end:%H:%M}"


# --- the record -------------------------------------------------------------------------------------------------


class BorrowRecord(Record, kw_only=True, secret=("secret",)):
    """One borrowing. Times are epoch seconds; *machine* holds the hostids of the machine that it is bound to."""

    vendor: str
    feature: str
    version: str
    count: int
    handle: int
    user: str
    host: str
    display: str
    started: float
    line: str
    hostids: tuple[str, ...]
    """Of the SERVER lines, which the signature of *line* covers."""
    machine: tuple[str, ...]
    borrow: bytes
    secret: bytes
    """Whoever knows it can give the licence back."""
    servers: tuple[str, ...]
    """``port@host`` of those that lent it."""
    borrowed_at: float
    until: float
    seen: float
    state: str

    def used_at(self, seen: float) -> BorrowRecord:
        """Return it as it is after it was used at *seen*; the time of last use never goes back."""
        return replace(self, seen=max(self.seen, seen))

    def known_as(self, other: BorrowRecord) -> BorrowRecord:
        """Return it under the id and the secret of *other*."""
        return replace(self, borrow=other.borrow, secret=other.secret)

    def turned(self, state: str, *, until: float | None = None) -> BorrowRecord:
        """Return it in another state."""
        return replace(self, state=state, until=self.until if until is None else until)


class BorrowProblem(NamedTuple):
    """Why a record grants nothing: a code of :mod:`flexcore.codes`, and more for a person."""

    code: ErrorCode
    detail: str


def dump_record(record: BorrowRecord) -> str:
    """Return the text of a borrow file."""
    import json  # only those who borrow pay for it

    body = _body_of(record)
    body["seal"] = _seal(record, body)
    return json.dumps(body, indent=1) + "\n"


def load_record(text: str, name: str) -> BorrowRecord:
    """Read the text of the borrow file *name*.

    Raises:
        BorrowError: -8: it is no borrow file, or not as flexcore wrote it.
    """
    import json

    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        raise _damaged(name, "it is no borrow file") from None
    if not isinstance(body, dict) or body.get("flexcore borrow file") != _FORMAT:
        raise _damaged(name, "it is no borrow file of this version of flexcore")
    seal = body.pop("seal", None)
    try:
        record = BorrowRecord(**{name: _read(body, name) for name in BorrowRecord.record_fields})
    except (KeyError, TypeError, ValueError):
        raise _damaged(name, "a field is missing or makes no sense") from None
    is_sealed = isinstance(seal, str) and hmac.compare_digest(
        seal.encode("utf-8", "replace"), _seal(record, _body_of(record)).encode()
    )
    if not is_sealed or body != _body_of(record):
        raise _damaged(name, "its seal does not fit")
    return record


def _damaged(name: str, why: str) -> BorrowError:
    return BorrowError(
        f"the borrow file {name} was changed or is damaged, and grants nothing: {why}. Its licence is back at its end",
        ErrorCode.BAD_SIGNATURE,
    )


def _body_of(record: BorrowRecord) -> dict[str, Any]:
    body: dict[str, Any] = {"flexcore borrow file": _FORMAT}
    for name in BorrowRecord.record_fields:
        value = getattr(record, name)
        if isinstance(value, bytes):
            value = value.hex()
        body[name] = list(value) if isinstance(value, tuple) else value
    return body


def _read(body: dict[str, Any], name: str) -> Any:
    value, kind = body[name], BorrowRecord.__annotations__[name]
    if kind == "bytes":
        return bytes.fromhex(value)
    if kind.startswith("tuple"):
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise ValueError(name)
        return tuple(value)
    wanted = {"str": str, "int": int, "float": float}[kind]
    if type(value) is not wanted or (isinstance(value, float) and not -_WALL_MAX < value < _WALL_MAX):
        raise ValueError(name)
    return value


def _seal(record: BorrowRecord, body: dict[str, Any]) -> str:
    import json

    machine = "\n".join(sorted(record.machine)).encode()
    key = hmac.digest(record.secret, _SEAL + machine, "sha256")
    text = json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
    return hmac.new(key, text, hashlib.sha256).hexdigest()


# --- may it be used ---------------------------------------------------------------------------------------------


def is_same_machine(bound: Iterable[str], machine: Iterable[str]) -> bool:
    """Say whether *machine* (its hostids now) is the one that a record is bound to: a hardware hostid in common, since
    names and addresses change where a machine is carried. Where the record knows no hardware: the host name, and one of
    the virtual adapters if it knows any (those alone are the same on many machines)."""
    ours, theirs = _hostids(bound), _hostids(machine)
    hardware = {each for each in ours if each[0] in _HARDWARE and not _is_virtual(*each)}
    if hardware:
        return not hardware.isdisjoint(theirs)
    names = {each for each in ours if each[0] == HOSTNAME}
    adapters = {each for each in ours if each[0] == ETHERNET}
    return not names.isdisjoint(theirs) and (not adapters or not adapters.isdisjoint(theirs))


def _is_virtual(kind: str, value: str) -> bool:
    """An Ethernet address that no manufacturer has given to one adapter: locally administered (docker, VirtualBox's
    host adapter, a randomised one), or of the host adapters of VMware, which are the same wherever it is installed."""
    return kind == ETHERNET and (value[1:2] in set("2367abef") or value.startswith(_VMWARE_HOST))


def _hostids(texts: Iterable[str]) -> set[tuple[str, str]]:
    found = set()
    for text in texts:
        try:
            hostid = parse_hostid(text)
        except HostidError:
            continue
        found.add((hostid.kind, hostid.value))
    return found


def fits(record: BorrowRecord, vendor: str, feature: str, version: str, count: int) -> bool:
    """Whether a checkout asks for what *record* has; '' is any vendor, and any version."""
    if record.feature.casefold() != feature.casefold() or vendor.casefold() not in ("", record.vendor.casefold()):
        return False
    return count <= record.count and (not version or _version(record.version) >= _version(version))


def _version(text: str) -> Version:
    try:
        return parse_version(text)
    except FlexcoreError:
        return Version(0, "")


def judge(record: BorrowRecord, *, wall: float, machine: Iterable[str], user: str) -> BorrowProblem | None:
    """Return why *record* grants nothing at *wall* on *machine* to *user*, None if it does.

    The publisher's signature is checked by whoever has the publisher's key, with the line of the record.
    """
    if not is_same_machine(record.machine, machine):
        return BorrowProblem(
            ErrorCode.INVALID_HOST, f"{record.feature} was borrowed by {record.host}, which is another machine"
        )
    if record.user != user:
        return BorrowProblem(ErrorCode.INVALID_HOST, f"{record.feature} was borrowed by {record.user}")
    if record.state != LENT:
        is_asked = record.state == ASKED
        what = "was asked for, and no server confirmed it" if is_asked else "is being returned"
        clears = f"{'the next checkout, or ' if is_asked else ''}flexcore lmborrow -return clears it up"
        return BorrowProblem(
            ErrorCode.BORROW_FAILED, f"the borrowing of {record.feature} {what}; {clears}"
        )
    if wall < record.seen - CLOCK_SLACK_S:
        return BorrowProblem(
            ErrorCode.CLOCK_SET_BACK,
            f"{record.feature} is borrowed, but this clock shows {_span(record.seen - wall)} less than when it was used"
            " last",
        )
    if max(wall, record.seen) >= record.until:
        return BorrowProblem(ErrorCode.BORROW_EXPIRED, f"{record.feature} was borrowed until {_utc(record.until)}")
    return _beyond_signed(record)


def _beyond_signed(record: BorrowRecord) -> BorrowProblem | None:
    """Hold the record to what its lines say: nobody can have lent more."""
    from .licensefile import parse_license

    lines = parse_license(record.line.encode(), name="the borrowed line").features
    hours = max((signed_hours(line.value("BORROW")) for line in lines), default=0)
    if not hours:
        return BorrowProblem(ErrorCode.NO_BORROW, f"the line of {record.feature} has no BORROW")
    ends = [line.expiry for line in lines]
    last = None if None in ends else max(end for end in ends if end is not None)
    day = datetime.date(1970, 1, 1) + datetime.timedelta(seconds=max(0.0, record.until))
    if record.until - record.borrowed_at > hours * HOUR_S + CLOCK_SLACK_S + ROUNDING_S or (
        last is not None and day > last + datetime.timedelta(days=1)  # it may be the next day already in UTC
    ):
        detail = f"the file of {record.feature} claims more than its line allows"
        return BorrowProblem(ErrorCode.CANNOT_BORROW_THAT_LONG, detail)
    return None


def is_lender(record: BorrowRecord, vendor: str, digest: bytes) -> bool:
    """Whether a server that says hello with *vendor* and this membership *digest* is one of those that lent it."""
    from .licensefile.signature import membership_digest_of

    if record.vendor.casefold() != vendor.casefold():
        return False
    return membership_digest_of(vendor, record.hostids) == digest


def after_return(record: BorrowRecord, code: int, *, has_lent: bool) -> tuple[bool, int]:
    """What the servers' answer to an early return comes to: whether the file goes, and the code that remains (0: all is
    well). *record* is as it was before; *has_lent*: one of those that lent it has answered."""
    if code == ErrorCode.BORROW_UNKNOWN and has_lent:
        # It was never lent, or the answer to the first return got lost; else something ended it (a copy of the file,
        # a state folder that is lost), and the seat is somebody else's.
        return True, 0 if record.state in (ASKED, RETURNING) else code
    return code in (0, ErrorCode.BORROW_EXPIRED), code


def is_shared(record: BorrowRecord, display: str) -> bool:
    """Whether several checkouts of this user on this machine are one licence, as DUP_GROUP of its line has it; else one
    process at a time uses what was borrowed."""
    from .licensefile import parse_license

    for line in parse_license(record.line.encode(), name="the borrowed line").features:
        group = (line.value("DUP_GROUP") or "NONE").upper()
        if group == "SITE" or (set(group) <= set("UHD") and ("D" not in group or display == record.display)):
            return True
    return False


def _span(seconds: float) -> str:
    return f"{seconds / DAY_S:.1f} days" if seconds >= 2 * DAY_S else f"{seconds / HOUR_S:.1f} h"


def _utc(wall: float) -> str:
    when = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=wall)  # noqa: DTZ001 - it says UTC
    return f"{format_date(when.date())} {when:%H:%M} UTC"
