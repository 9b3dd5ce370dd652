"""What a test may call the machines of a triad."""

from __future__ import annotations

from collections.abc import Iterable

from flexcore.identity import Rank
from flexcore.licensefile import LicenseFile
from flexcore_testing.triad import NAMES

ServerName = str | Rank
"""``"primary"``, ``"secondary"``, ``"tertiary"``, the host of a SERVER line, or a Rank."""

RESERVED = frozenset({"net", "lmstat"})
"""Other names that stand in the simulation's journal."""


def rank_of(server: ServerName, license: LicenseFile) -> Rank:
    """Return the server that is meant.

    Raises:
        ValueError: none is; the text names those that there are.
    """
    if isinstance(server, Rank):
        return server
    hosts = [line.host.casefold() for line in license.servers]
    if isinstance(server, str):
        word = server.casefold()
        for rank in Rank:
            if word == rank.word or (word == hosts[rank] and hosts.count(word) == 1):
                return rank
    elif server is None:
        raise ValueError("None is no server: nobody serves, so there is no master")
    known = ", ".join(f"{rank.word} ({host})" for rank, host in zip(Rank, hosts, strict=True))
    raise ValueError(f"{server!r} is no server of this triad: {known}")


def machine_of(machine: ServerName, license: LicenseFile, clients: Iterable[str]) -> str:
    """Return the simulated host of a server or client.

    Raises:
        ValueError: there is none of that name.
    """
    known = sorted(clients)
    if isinstance(machine, str) and machine in known:
        return machine
    try:
        return NAMES[rank_of(machine, license)]
    except ValueError as error:
        raise ValueError(f"{error}; nor is it one of its clients: {', '.join(known) or 'none yet'}") from None


def require_client_name(name: object, license: LicenseFile) -> None:
    """Refuse what cannot be a user's name, or is taken by a server.

    Raises:
        TypeError, ValueError: it is refused.
    """
    if not isinstance(name, str):
        raise TypeError(f"a client is named by a text, not {name!r}")
    if not name or not name.isprintable() or any(c.isspace() for c in name):
        raise ValueError(f"{name!r} is no user name: printable characters without blanks")
    servers = {*RESERVED, *(rank.word for rank in Rank), *(line.host.casefold() for line in license.servers)}
    if name in tuple(NAMES) or name.casefold() in servers:
        raise ValueError(f"{name!r} is the name of a server here; name the client otherwise")
