"""Hostids: what a licence file calls a machine by (reference, a7).

A hostid is compared by kind and by its value without regard to letter case. Kinds that flexcore
knows nothing about (``MATLAB_HOSTID=``, ``VDH=``, ``COMPOSITE=``) are kept and compared as text.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from typing import NamedTuple

from .errors import HostidError
from .override import override

HOSTID_LENGTH_MAX = 512
"""Characters of one hostid."""

HOSTIDS_MAX = 64
"""Hostids in one quoted list."""

ANY = "ANY"
COMPOSITE = "COMPOSITE"
CONTAINER_ID = "CONTAINER_ID"
DEMO = "DEMO"
DISK_SERIAL_NUM = "DISK_SERIAL_NUM"
DISPLAY = "DISPLAY"
ETHERNET = "ETHERNET"
FLEXID = "FLEXID"
HOSTNAME = "HOSTNAME"
ID = "ID"
INTERNET = "INTERNET"
LONG = "LONG"
OTHER = "OTHER"
PUBKEY = "PUBKEY"
USER = "USER"
VM_UUID = "VM_UUID"

KNOWN_KINDS = frozenset(
    {
        ANY, CONTAINER_ID, DEMO, DISK_SERIAL_NUM, DISPLAY, ETHERNET, HOSTNAME, ID, INTERNET, LONG, USER,
        VM_UUID,
    }
)
"""Kinds that a machine can show, or (ID, ANY, DEMO) that nothing has to be found out for."""

_ETHERNET = re.compile(
    r"[0-9a-f]{12}|[0-9a-f]{2}(?:[:-][0-9a-f]{2}){5}|[0-9a-f]{4}(?:\.[0-9a-f]{4}){2}"
)
_LONG = re.compile(r"(?:0x)?([0-9a-f]{1,8})")
_IPV4 = re.compile(r"(?:[0-9]{1,3}|\*)(?:\.(?:[0-9]{1,3}|\*)){3}")
_KIND = re.compile(r"([A-Za-z][A-Za-z0-9_.-]*)=(.*)", re.DOTALL)


class Hostid(NamedTuple):
    """One hostid; ``kind`` and ``value`` are normal forms, so equal hostids compare equal."""

    kind: str
    """One of the kinds above, in capitals, or whatever stood before the ``=``."""
    value: str
    """Lower case, without separators in an Ethernet address; empty for ANY and DEMO."""

    @override
    def __str__(self) -> str:
        if self.kind in (ANY, DEMO):
            return self.kind
        if self.kind in (ETHERNET, OTHER):
            return self.value
        if self.kind == LONG:
            return self.value.rjust(8, "0")
        return f"{self.kind}={self.value}"

    def matches(self, machine: Iterable[Hostid]) -> bool:
        """Say whether a machine that has the hostids ``machine`` is meant by this one.

        ANY and DEMO mean every machine; ``INTERNET=`` may hold ``*`` for a number; a ``HOSTNAME=``
        without a dot means the first label of a full name, too.
        """
        if self.kind in (ANY, DEMO):
            return True
        return any(self.kind == other.kind and _same(self, other.value) for other in machine)


def _same(wanted: Hostid, value: str) -> bool:
    if wanted.value == value:
        return True
    if wanted.kind == INTERNET and "*" in wanted.value:
        ours, theirs = wanted.value.split("."), value.split(".")
        return len(ours) == len(theirs) and all(
            a in ("*", b) for a, b in zip(ours, theirs, strict=True)
        )
    if wanted.kind == HOSTNAME and "." not in wanted.value:
        return value.split(".", 1)[0] == wanted.value
    return False


@functools.lru_cache(maxsize=1024)
def parse_hostid(text: str) -> Hostid:
    """Return one hostid. Raises :class:`~flexcore.errors.HostidError` for an empty or overlong one.

    >>> parse_hostid("00:14:6C:37:F2:73"), parse_hostid("17003456"), parse_hostid("ID=77")
    (Hostid(kind='ETHERNET', value='00146c37f273'), Hostid(kind='LONG', value='17003456'), \
Hostid(kind='ID', value='77'))
    """
    written = text.strip().strip('"').strip()
    if not written or len(written) > HOSTID_LENGTH_MAX:
        raise HostidError(f"{text[:40]!r} is no hostid")
    plain = written.casefold()
    if plain in ("any", "demo"):
        return Hostid(plain.upper(), "")
    named = _KIND.fullmatch(written)
    if named is not None:
        return _named(named[1].upper(), named[2])
    if _ETHERNET.fullmatch(plain):
        return Hostid(ETHERNET, re.sub(r"[:.-]", "", plain))
    found = _LONG.fullmatch(plain)
    if found is not None:
        return Hostid(LONG, found[1].lstrip("0") or "0")
    if _IPV4.fullmatch(plain) or (":" in plain and _is_ipv6(plain)):
        return Hostid(INTERNET, _address(plain))
    return Hostid(OTHER, plain)


def parse_hostids(text: str) -> tuple[Hostid, ...]:
    """Return the hostids of a blank-separated list, as ``HOSTID="h1 h2"`` holds it, in order.

    Raises :class:`~flexcore.errors.HostidError`.
    """
    words = text.split()
    if not words or len(words) > HOSTIDS_MAX:
        raise HostidError(f"between 1 and {HOSTIDS_MAX} hostids are expected, not {len(words)}")
    return tuple(parse_hostid(word) for word in words)


def match_hostids(wanted: Iterable[Hostid], machine: Iterable[Hostid]) -> bool:
    """Say whether any of ``wanted`` means the machine that has the hostids ``machine``."""
    have = tuple(machine)
    return any(hostid.matches(have) for hostid in wanted)


def _named(kind: str, value: str) -> Hostid:
    plain = value.strip().strip('"').casefold()
    if kind in ("ETHER", ETHERNET) and _ETHERNET.fullmatch(plain):
        return Hostid(ETHERNET, re.sub(r"[:.-]", "", plain))
    if kind == INTERNET:
        return Hostid(INTERNET, _address(plain))
    if not plain:
        raise HostidError(f"{kind}= has no value")
    return Hostid(kind, plain)


def _is_ipv6(text: str) -> bool:
    import ipaddress

    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _address(text: str) -> str:
    if ":" not in text:
        if _IPV4.fullmatch(text) is None:
            raise HostidError(f"{text[:40]!r} is no internet address")
        return text
    import ipaddress

    try:
        return str(ipaddress.IPv6Address(text))
    except ValueError:
        raise HostidError(f"{text[:40]!r} is no internet address") from None
