"""HOSTID= on a feature line: what the server can decide of it.

A session names its user, host and display, so the kinds that speak of these are decided here. The
others (an Ethernet address, a disk's serial number ...) are known to the client's machine alone; a
client does not send them yet, so such a line is refused with -9 rather than given to anybody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flexcore.ledger import Session


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
    return False


def _same_host(wanted: str, host: str) -> bool:
    """Host names compare without case; a short name equals the first label of a long one."""
    wanted, host = wanted.lower(), host.lower()
    if "." in wanted and "." in host:
        return wanted == host
    return wanted.partition(".")[0] == host.partition(".")[0] != ""
