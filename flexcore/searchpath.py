"""The licence search path: where an application or a utility finds its licence servers.

``2837@pat,2837@lee,2837@terry`` is one triad: the comma says that the three share one licence file
(seed, "Configuring the License Search Path"). A colon (``;`` on Windows, ``&``) separates
alternatives, which are tried in order: ``port@host``, ``@host`` (any of the ports 27000 to 27009),
triads, and licence files.

Reading files is the caller's: :func:`resolve` is handed a function that does it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, TypeAlias

from .errors import SearchPathError
from .override import override
from .record import Record
from .wire.messages import ServerAddress

if TYPE_CHECKING:
    from .licensefile import LicenseFile

PORTS_WITHOUT_NUMBER = range(27000, 27010)
"""Where ``@host``, and a SERVER line without a port, is looked for (reference, a2 and a8)."""

PATH_LENGTH_MAX = 65536
ALTERNATIVES_MAX = 64
"""Alternatives of one path, and addresses that they amount to."""

SEPARATORS = ":;&"

_PLACE = re.compile(r"([0-9]*)@(.*)", re.DOTALL)
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


class Servers(Record):
    """``port@host``, or up to three of them joined by commas: one server, or one triad."""

    addresses: tuple[ServerAddress, ...]

    @override
    def __str__(self) -> str:
        return ",".join([format_address(address) for address in self.addresses])


class AnyPort(Record):
    """``@host``: a server on one of the ports 27000 to 27009."""

    host: str

    @override
    def __str__(self) -> str:
        return f"@{_bracketed(self.host)}"


class LicensePath(Record):
    """A licence file, to be read by the caller."""

    path: str

    @override
    def __str__(self) -> str:
        return self.path


Alternative: TypeAlias = Servers | AnyPort | LicensePath


class SearchPath(Record):
    """Alternatives in the order in which they are tried."""

    alternatives: tuple[Alternative, ...]

    @override
    def __str__(self) -> str:
        return ":".join([str(alternative) for alternative in self.alternatives])


def format_address(address: ServerAddress) -> str:
    """Return ``port@host``, an IPv6 address in brackets."""
    return f"{address.port}@{_bracketed(address.host)}"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


# --- text to alternatives -----------------------------------------------------------------------------


def parse_search_path(text: str, *, separators: str = SEPARATORS) -> SearchPath:
    """Read a search path.

    A colon inside brackets (``2837@[::1]``) and one behind a drive letter (``C:\\lic\\a.lic``)
    separate nothing. ``separators`` are the characters that do.

    Raises:
        SearchPathError: it is empty, too long, or an entry is neither an address nor a file.
    """
    if len(text) > PATH_LENGTH_MAX:
        raise SearchPathError(f"the search path has more than {PATH_LENGTH_MAX} characters")
    entries = [entry.strip() for entry in _split(text, separators)]
    found = tuple([_alternative(entry) for entry in entries if entry])
    if not found:
        raise SearchPathError(
            "the search path is empty: give port@host with -c, or in LM_LICENSE_FILE"
        )
    if len(found) > ALTERNATIVES_MAX:
        raise SearchPathError(f"the search path has more than {ALTERNATIVES_MAX} alternatives")
    return SearchPath(found)


def _split(text: str, separators: str) -> Iterator[str]:
    start = 0
    depth = 0
    for at, char in enumerate(text):
        if char == "[":
            depth += 1
        elif char == "]":
            depth = max(0, depth - 1)
        elif char in separators and depth == 0:
            entry_start = start + len(text[start:at]) - len(text[start:at].lstrip())
            if char == ":" and at == entry_start + 1 and _DRIVE.match(text, entry_start):
                continue
            yield text[start:at]
            start = at + 1
    yield text[start:]


def _alternative(entry: str) -> Alternative:
    parts = [part.strip() for part in entry.split(",")]
    places = [_PLACE.fullmatch(part) for part in parts]
    if not any(places):
        if entry.isdigit():
            raise SearchPathError(f"{entry!r} is no address: write port@host, such as 2837@pat")
        return LicensePath(entry)
    if len(parts) == 1 and places[0] is not None and not places[0][1]:
        return AnyPort(_host(places[0][2], entry))
    addresses: dict[ServerAddress, None] = {}  # in order, each once
    for part, place in zip(parts, places, strict=True):
        if place is None or not place[1]:
            wrong = (
                f"{part!r} in {entry!r} is no port@host" if part else f"a comma too many: {entry!r}"
            )
            raise SearchPathError(f"{wrong}; the servers of a triad are joined by commas")
        addresses[ServerAddress(_host(place[2], entry), _port(place[1], entry))] = None
    if len(addresses) > 3:
        raise SearchPathError(
            f"{entry!r} joins {len(addresses)} servers by commas, which means one triad, of three; "
            "put a colon (on Windows a semicolon) between servers that are independent"
        )
    return Servers(tuple(addresses))


def _host(text: str, entry: str) -> str:
    host = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if not host or re.search(r"[\s@\[\]/\\]", host):
        hint = "; an IPv6 address stands in brackets" if not host else ""
        raise SearchPathError(f"{entry!r} names no host behind the @{hint}")
    return host


def _port(text: str, entry: str) -> int:
    if len(text) > 5 or not 1 <= int(text) <= 65535:
        raise SearchPathError(f"{text} in {entry!r} is no port: 1 to 65535 are")
    return int(text)


# --- the environment ----------------------------------------------------------------------------------


def path_from_environment(
    environment: Mapping[str, str], vendor: str = "", *, separator: str = ":"
) -> str:
    """Return the path that the environment asks for: ``<VENDOR>_LICENSE_FILE``, then
    ``LM_LICENSE_FILE``; "" if neither is set.

    Without a vendor (the utilities know none) every ``<VENDOR>_LICENSE_FILE`` counts, behind
    ``LM_LICENSE_FILE`` and sorted by name. ``separator`` joins them.
    """
    if vendor:
        names = [f"{vendor.upper()}_LICENSE_FILE", "LM_LICENSE_FILE"]
    else:
        others = sorted(name for name in environment if name.endswith("_LICENSE_FILE"))
        names = ["LM_LICENSE_FILE", *(name for name in others if name != "LM_LICENSE_FILE")]
    values = [environment.get(name, "").strip() for name in dict.fromkeys(names)]
    return separator.join([value for value in values if value])


# --- files to servers ---------------------------------------------------------------------------------


def servers_of_file(license: LicenseFile, *, triad_files: bool = False) -> Servers | AnyPort:
    """Return the servers that a licence file in the path names.

    A product may not name a triad by its file: all three must be asked, and the file's hosts may be
    edited on the servers (seed, "Configuring the License Search Path"). ``triad_files`` allows it,
    for the ``lm*`` utilities.

    Raises:
        SearchPathError: three SERVER lines without ``triad_files`` (the message holds the line to
            use instead), no SERVER line, or lines that no server could use.
    """
    name = license.name or "the licence file"
    servers = license.servers
    about_servers = [problem for problem in license.fatal_problems if problem.code in _BLOCKING]
    if about_servers:
        raise SearchPathError(f"{name}: {about_servers[0]}")
    if not servers:
        raise SearchPathError(
            f"{name} has no SERVER line, so it names no server to ask; "
            "licences without a server are not supported yet"
        )
    if len(servers) == 1:
        host = _own_host(servers[0].host)
        port = servers[0].port
        return AnyPort(host) if port is None else Servers((ServerAddress(host, port),))
    found = Servers(tuple([ServerAddress(_own_host(s.host), s.port or 0) for s in servers]))
    if not triad_files:
        raise SearchPathError(
            f"{name} has three SERVER lines; an application finds a triad by its addresses, not by "
            f"a file. Use instead: {found}"
        )
    return found


_BLOCKING = frozenset({"server-count", "server-short", "port-missing", "port-range", "bad-port"})


def _own_host(host: str) -> str:
    """``this_host`` and ``ANY`` stand for the machine where the file is."""
    return "localhost" if host.casefold() in ("this_host", "any") else host


def resolve(
    path: SearchPath, read: Callable[[str], str | bytes], *, triad_files: bool = False
) -> tuple[tuple[ServerAddress, ...], ...]:
    """Return the addresses of every alternative: one for a server, up to three for a triad.

    ``@host`` becomes one alternative a port. ``read(path)`` returns a licence file's content or
    raises OSError; a file that cannot be read is skipped while something else is in the path.

    Raises:
        SearchPathError: as :func:`servers_of_file`, or no file could be read.
    """
    found: dict[tuple[ServerAddress, ...], None] = {}
    unread: list[str] = []
    for alternative in path.alternatives:
        servers = alternative
        if isinstance(servers, LicensePath):
            try:
                text = read(servers.path)
            except OSError as error:
                unread.append(f"{servers.path}: {error.strerror or error}")
                continue
            from .licensefile import parse_license  # only for those who name a file

            license = parse_license(text, name=servers.path)
            servers = servers_of_file(license, triad_files=triad_files)
        if isinstance(servers, Servers):
            found[servers.addresses] = None
        else:
            for port in PORTS_WITHOUT_NUMBER:
                found[(ServerAddress(servers.host, port),)] = None
    if not found:
        raise SearchPathError(
            "no licence file in the search path can be read: " + "; ".join(unread)
        )
    if len(found) > ALTERNATIVES_MAX:
        raise SearchPathError(f"the search path names more than {ALTERNATIVES_MAX} servers")
    return tuple(found)
