"""Names and addresses: which SERVER line is this machine, where to listen, whom to dial.

Which line (design.md section 10): what ``--server`` names, else the line with this machine's host
name (or an address of its own), else the line with its hostid. None or two: an error that says why.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from flexcore.errors import ConfigurationError
from flexcore.identity import Rank

__all__ = [
    "ANY_HOST",
    "ServerLine",
    "addresses_of",
    "is_literal",
    "is_own_address",
    "listen_addresses",
    "loopback_alias",
    "which_server",
]

ANY_HOST = frozenset({"this_host", "any"})
"""Host words of a SERVER line that mean whatever machine reads it."""

_DEBIAN_ALIAS = "127.0.1.1"


class ServerLine(Protocol):
    """What is asked of a SERVER line."""

    @property
    def host(self) -> str: ...
    @property
    def hostid(self) -> object: ...


class Address(NamedTuple):
    """A socket address, ready for ``socket.socket(family)`` and ``connect(sockaddr)``."""

    family: socket.AddressFamily
    sockaddr: tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]


def is_literal(host: str) -> bool:
    """True for an IPv4 or IPv6 address in digits (a scope after ``%`` is allowed)."""
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


def addresses_of(host: str, port: int, *, passive: bool = False) -> tuple[Address, ...]:
    """Resolve ``host`` for TCP, in the resolver's order, each address once. Blocks.

    Raises OSError (socket.gaierror) when the name is not known, or can be none.
    """
    flags = (socket.AI_PASSIVE if passive else 0) | (socket.AI_NUMERICHOST if is_literal(host) else 0)
    name = "localhost" if host.casefold() in ANY_HOST and not passive else host.strip("[]")
    try:
        rows = socket.getaddrinfo(name or None, port, type=socket.SOCK_STREAM, flags=flags)
    except (UnicodeError, OverflowError, ValueError) as error:
        raise socket.gaierror(socket.EAI_NONAME, f"no host and port: {error}") from error
    found = (Address(socket.AddressFamily(row[0]), row[4]) for row in rows)
    return tuple(dict.fromkeys(found))


def listen_addresses(host: str, override: Sequence[str] = ()) -> tuple[str, ...]:
    """Return where a server with ``host`` in its SERVER line listens, as literal addresses.

    A literal address: exactly it; a name: all addresses of both families; ``--listen`` overrides.
    """
    if override:
        return tuple(address.strip("[]") for address in override)
    if is_literal(host):
        return (host.strip("[]"),)
    return ("0.0.0.0", "::") if socket.has_ipv6 else ("0.0.0.0",)


def is_own_address(address: str) -> bool:
    """True if this machine has the literal ``address``: it can be bound to. Loopback ones are own."""
    try:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((address.strip("[]"), 0))
    except OSError:
        return False
    return True


def loopback_alias(host: str) -> str:
    """Return the loopback address that the *name* ``host`` resolves to on this machine, else ''.

    Debian writes the host's own name as 127.0.1.1 into /etc/hosts: peers that ask this machine get
    an address that only it can reach.
    """
    if is_literal(host) or host.casefold() in ANY_HOST or host.casefold() == "localhost":
        return ""
    try:
        found = [str(address.sockaddr[0]) for address in addresses_of(host, 0)]
    except OSError:
        return ""
    if _DEBIAN_ALIAS in found:
        return _DEBIAN_ALIAS
    if found and all(ipaddress.ip_address(each.split("%")[0]).is_loopback for each in found):
        return found[0]
    return ""


def which_server(
    servers: Sequence[ServerLine], *, wanted: str = "",
    own_host: str | None = None, is_own_hostid: Callable[[object], bool] | None = None,
) -> Rank:  # fmt: skip
    """Return the rank of the SERVER line that this process serves.

    ``wanted`` is the value of ``--server``. Raises ConfigurationError with the reason and the lines
    to choose from where none or several fit.
    """
    if not servers:
        raise ConfigurationError("the licence file has no SERVER line: nothing to serve")
    if wanted:
        return _wanted_server(servers, wanted)
    if len(servers) == 1:
        return Rank.PRIMARY  # its hostid decides, not its name
    own = socket.gethostname() if own_host is None else own_host
    by_name = [i for i, line in enumerate(servers) if _same_host(line.host, own)]
    if len(by_name) == 1:
        return Rank(by_name[0])
    if not by_name:
        by_name = [i for i, line in enumerate(servers) if _is_own_literal(line.host)]
        if len(by_name) == 1:
            return Rank(by_name[0])
    by_hostid = (
        [i for i, line in enumerate(servers) if is_own_hostid(line.hostid)]
        if is_own_hostid is not None
        else []
    )
    if len(by_hostid) == 1:
        return Rank(by_hostid[0])
    hosts = ", ".join(line.host for line in servers)
    if not by_name and not by_hostid:
        why = f"this machine ({own}) is none of the SERVER lines ({hosts}), by name or by hostid"
    else:
        why = f"this machine ({own}) fits more than one SERVER line ({hosts})"
    raise ConfigurationError(f"{why}; say which with --server HOST, primary, secondary or tertiary")


def _wanted_server(servers: Sequence[ServerLine], wanted: str) -> Rank:
    word = wanted.casefold()
    fits = [i for i, line in enumerate(servers) if line.host.casefold() == word]
    if not fits:
        fits = [rank for rank in Rank if rank.word == word]
    if not fits:
        fits = [i for i, line in enumerate(servers) if _same_host(line.host, wanted)]
    if len(fits) == 1 and fits[0] < len(servers):
        return Rank(fits[0])
    hosts = ", ".join(line.host for line in servers)
    if len(fits) > 1:
        raise ConfigurationError(
            f"--server {wanted} fits more than one SERVER line ({hosts});"
            " use primary, secondary or tertiary"
        )
    raise ConfigurationError(f"--server {wanted} is none of the SERVER lines ({hosts})")


def _same_host(one: str, other: str) -> bool:
    """Names are equal, or one is the other's first label; addresses only as they stand."""
    a, b = one.casefold().rstrip("."), other.casefold().rstrip(".")
    if a == b:
        return True
    if is_literal(a) or is_literal(b) or ("." in a and "." in b):
        return False
    return a.split(".", 1)[0] == b.split(".", 1)[0]


def _is_own_literal(host: str) -> bool:
    return is_literal(host) and is_own_address(host)
