"""HOSTID= on a feature line: what the server can decide of it.

A session names its user, host and display, so the kinds that speak of these are decided by them. The
others (an Ethernet address, a disk's serial number ...) are compared with the hostids that the
client's machine showed when it opened the session; they are its own word, as its user's name is. A
client that shows none is refused with -9.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flexcore.errors import HostidError
from flexcore.hostid import Hostid, parse_hostid

if TYPE_CHECKING:
    from flexcore.ledger import Session


HOSTIDS_MAX = 32
"""Hostids of a client's machine that a session keeps."""

_LENGTH_MAX = 128


def kept_hostids(shown: tuple[str, ...]) -> tuple[str, ...]:
    """Return what the ledger keeps of the hostids that a client shows: no more, and no longer ones,
    than machines have."""
    return tuple([text for text in shown if len(text) <= _LENGTH_MAX][:HOSTIDS_MAX])


def lock_allows(lock: str, session: Session) -> bool:
    """Whether *session* may use a line with ``HOSTID=lock`` (a list allows any one of its ids)."""
    return any(_one_allows(word, session) for word in lock.strip('"').split())


def _one_allows(word: str, session: Session) -> bool:
    kind, _, value = word.partition("=")
    kind = kind.upper()
    if kind in ("ANY", "DEMO") and not value:
        return True
    if kind == "HOSTNAME":
        return _same_host(value, session.host)
    if kind == "USER":
        return value == session.user
    if kind == "DISPLAY":
        return value == session.display
    wanted = _hostid(word)
    if wanted is None or not session.hostids:
        return False
    shown = [_hostid(text) for text in session.hostids]
    return wanted.matches([hostid for hostid in shown if hostid is not None])


def _hostid(text: str) -> Hostid | None:
    try:
        return parse_hostid(text)
    except HostidError:
        return None


def _same_host(wanted: str, host: str) -> bool:
    """Host names compare without case; a short name equals the first label of a long one."""
    wanted, host = wanted.lower(), host.lower()
    if "." in wanted and "." in host:
        return wanted == host
    return wanted.partition(".")[0] == host.partition(".")[0] != ""
