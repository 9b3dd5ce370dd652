"""From lmgrd's arguments to what a server needs: licence file, keys, line, hostid, addresses, folder.

``flexcore lmgrd`` starts with it and ``flexcore lmgrd --check`` reports on it, so that both judge
alike. Everything that stands in the way is a FlexcoreError whose text says what to do.
"""

from __future__ import annotations

import argparse
import datetime
import os
import socket

import attrs

from flexcore import timing
from flexcore.errors import ConfigurationError, FlexcoreError, HostidError, LicenseError
from flexcore.hostid import match_hostids, parse_hostid, parse_hostids
from flexcore.identity import Rank
from flexcore.keys import VerifyingKey
from flexcore.licensefile import (
    LicenseFile,
    ServerLine,
    membership_digest,
    parse_license,
    verify_license,
)
from flexcore.wire.messages import ServerAddress
from flexcore_host import administrators, filesystem, folder, resolver
from flexcore_host.hostids import is_own_hostid

__all__ = ["DEFAULT_PORT", "Setup", "VendorSetup", "expiry_warnings", "find_line", "load", "place_warnings"]

DEFAULT_PORT = 27000
"""Where a single server listens whose SERVER line names no port."""
_KEY_LIMIT = 65536
_NO_STATE = "none"


@attrs.frozen(kw_only=True)
class VendorSetup:
    """One VENDOR line."""

    name: str
    state_dir: str | None
    """None: in memory."""
    problem: str = ""
    """Why it cannot be served at the moment, where others can."""


@attrs.frozen(kw_only=True)
class Setup:
    """What the arguments and the licence file come to."""

    license: LicenseFile
    path: str
    keys: tuple[VerifyingKey, ...]
    rank: Rank
    hostid_note: str
    """Said in the log when the hostid was asserted rather than found; else empty."""
    listen: tuple[str, ...]
    addresses: tuple[ServerAddress, ...]
    vendors: tuple[VendorSetup, ...]
    """Several only where there is one SERVER line."""
    notes: tuple[str, ...] = ()
    """What should be known, each with what to do."""
    switched_off: frozenset[str] = frozenset()
    """Of lmdown and lmremove."""
    lmremove_min_s: float = timing.LMREMOVE_MIN_S
    administrators_only: bool = False
    """lmgrd -2 -p -local."""

    @property
    def line(self) -> ServerLine:
        """This server's SERVER line."""
        return self.license.servers[self.rank]

    @property
    def port(self) -> int:
        """The port that this server listens on."""
        return self.addresses[self.rank].port

    @property
    def vendor(self) -> str:
        """The vendor whose lines are served; of several the first."""
        return self.vendors[0].name

    @property
    def state_dir(self) -> str | None:
        """The state folder, of several vendors the first one's; None: in memory."""
        return self.vendors[0].state_dir


def load(args: argparse.Namespace) -> Setup:
    """Judge the arguments of lmgrd. Reads files; starts, makes and locks nothing."""
    path = os.path.abspath(args.license_file)
    license = read_license(path)
    keys = tuple(read_key(each) for each in args.vendor_key)
    problems, notes = _check_vendors(license, keys)
    rank = find_line(license, wanted=args.server or "", asserted=args.hostid or "")
    note = check_hostid(license.servers[rank], args.hostid or "")
    listen = resolver.listen_addresses(license.servers[rank].host, args.listen or ())
    return Setup(
        switched_off=frozenset(args.switched_off or ()), lmremove_min_s=args.lmremove_min,
        administrators_only=administrators_only(args),
        license=license,
        path=path,
        keys=keys,
        rank=rank,
        hostid_note=note,
        listen=listen,
        addresses=_addresses(license),
        vendors=tuple(
            VendorSetup(
                name=vendor, state_dir=_state_dir(args.state_dir, license, rank, vendor), problem=problem
            )
            for vendor, problem in problems.items()
        ),
        notes=tuple(notes),
    )


def administrators_only(args: argparse.Namespace) -> bool:
    """Whether orders are to be taken from administrators only: ``-2 -p -local``, all three or none.

    Raises:
        ConfigurationError: one of them alone, or this system does not say whose a connection is.
    """
    if not (args.two or args.protected):
        return False
    if not (args.two and args.protected and args.local):
        raise ConfigurationError("-2 and -p go together, and need -local: lmgrd -2 -p -local")
    if not administrators.are_known():
        raise ConfigurationError(
            "-2 -p needs a system that says whose a connection is, and this one has no /proc/net/tcp:"
            " leave it out, and use -x lmdown and -x lmremove"
        )
    return True


def read_license(path: str) -> LicenseFile:
    """Read a licence file that a server may start with.

    Raises LicenseError that lists every problem which forbids it.
    """
    try:
        with open(path, "rb") as file:
            license = parse_license(file.read(), name=path)
    except OSError as error:
        raise LicenseError(
            f"the licence file {path} cannot be read: {error.strerror or error}"
        ) from error
    fatal = license.fatal_problems
    if fatal:
        lines = "".join(f"\n  {path}:{problem}" for problem in fatal)
        raise LicenseError(f"no server starts with the licence file {path}:{lines}")
    if not license.servers:
        raise LicenseError(f"{path} has no SERVER line: there is nothing to serve")
    if not license.vendors:
        raise LicenseError(f"{path} has no VENDOR line: nobody's features would be served")
    return license


def read_key(path: str) -> VerifyingKey:
    """Read a publisher's public key file."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return VerifyingKey.from_text(file.read(_KEY_LIMIT))
    except OSError as error:
        raise ConfigurationError(
            f"the vendor key {path} cannot be read: {error.strerror or error}"
        ) from error
    except FlexcoreError as error:
        raise ConfigurationError(f"the vendor key {path} cannot be used: {error}") from error


def _check_vendors(
    license: LicenseFile, keys: tuple[VerifyingKey, ...]
) -> tuple[dict[str, str], list[str]]:
    """Return for each vendor why it cannot be served ('': it can), and notes.

    Raises FlexcoreError where none can: with one VENDOR line its reason, else the first one's.
    """
    problems: dict[str, str] = {}
    notes: list[str] = []
    first: FlexcoreError | None = None
    for vendor in license.vendors:
        try:
            notes += check_signatures(license, keys, vendor.name)
        except FlexcoreError as error:
            first = first or error
            problems[vendor.name] = str(error)
            notes.append(f"{vendor.name} is not served: {error}")
        else:
            problems[vendor.name] = ""
    if first is not None and all(problems.values()):
        raise first
    return problems, notes


def check_signatures(
    license: LicenseFile, keys: tuple[VerifyingKey, ...], vendor: str
) -> list[str]:
    """Refuse a file with a line of *vendor* that does not verify; return notes.

    Raises LicenseError that names each such line and why.
    """
    if all(key.vendor != vendor for key in keys):
        raise ConfigurationError(
            f"no --vendor-key is that of {vendor}, whose VENDOR line {license.name} has"
            f" (given: {', '.join(key.vendor for key in keys)})"
        )
    rejected = [
        each
        for each in verify_license(license, keys).rejected
        if each.line.vendor.casefold() == vendor.casefold()
    ]
    if rejected:
        lines = "".join(
            f"\n  {license.name}:{each.line.line}: {each.line.name}: {each.message}"
            for each in rejected
        )
        raise LicenseError(
            f"{license.name} is not what the publisher signed; undo the change, or ask {vendor}"
            f" for a new file:{lines}"
        )
    if all(each.vendor != vendor for each in license.features):
        return [f"{license.name} has no feature line of {vendor}: nothing of it will be served"]
    return []


def find_line(license: LicenseFile, *, wanted: str, asserted: str) -> Rank:
    """Return the rank of this server's line: ``--server``, else host name, else hostid."""

    def is_asserted(text: object) -> bool:
        return match_hostids(parse_hostids(str(text)), [parse_hostid(asserted)])

    return resolver.which_server(
        license.servers, wanted=wanted, is_own_hostid=is_asserted if asserted else is_own_hostid
    )


def check_hostid(line: ServerLine, asserted: str) -> str:
    """Refuse a line whose hostid is not this machine's; return what the log says of an asserted one."""
    if asserted:
        if not match_hostids(line.hostids, [parse_hostid(asserted)]):
            raise HostidError(
                f"--hostid {asserted} is not the hostid {line.hostid} on the SERVER line of"
                f" {line.host}"
            )
        if is_own_hostid(line.hostid):
            return ""
        return (
            f"The hostid {asserted} was asserted with --hostid; it was not found on this machine"
        )
    if is_own_hostid(line.hostid):
        return ""
    raise HostidError(
        f"the hostid {line.hostid} on the SERVER line of {line.host} is not this machine's"
        " (flexcore lmhostid prints those): run the server on the machine that the file was signed"
        " for, ask the publisher for a new file, or assert it with --hostid"
    )


def expiry_warnings(license: LicenseFile, wall: float, utc_offset_s: float) -> list[str]:
    """Return a sentence for each feature that has expired or will within 30 days."""
    zone = datetime.timezone(datetime.timedelta(seconds=utc_offset_s))
    today = datetime.datetime.fromtimestamp(wall, zone).date()
    said = []
    for feature in license.features:
        if feature.expiry is None:
            continue
        days = (feature.expiry - today).days
        what = f'"{feature.name}" v{feature.version}'
        if days < 0:
            said.append(f"{what} has expired on {feature.expiry_text}: ask for a new licence file")
        elif days <= timing.EXPIRY_WARNING_DAYS:
            when = "today" if days == 0 else f"in {days} day{'s' if days > 1 else ''}"
            said.append(
                f"{what} expires {when}, on {feature.expiry_text}: ask for a new licence file"
            )
    return list(dict.fromkeys(said))


def place_warnings(setup: Setup, log_path: str, state_dir: str | None = None) -> list[str]:
    """Return a sentence for each file on a network file system, and for names that are loopback.
    *state_dir*: that of a vendor, where there are several; None: the first one's."""
    said = []
    places = [("licence file", setup.path), ("log", log_path)]
    state_dir = state_dir or setup.state_dir
    if state_dir is not None:
        places.insert(0, ("state folder", state_dir))
    for what, path in places:
        mount = filesystem.network_mount(path) if path else None
        if mount is not None:
            said.append(
                f"the {what} {path} is on a network file system ({mount.kind} {mount.source} at"
                f" {mount.mount_point}): put it on a local disk, or that file server stops this one"
            )
    if setup.license.is_triad:
        for line in setup.license.servers:
            address = resolver.loopback_alias(line.host)
            if address:
                said.append(
                    f"the name {line.host} resolves to {address} on this machine, which no other"
                    " can reach: correct /etc/hosts, or write the address into the SERVER line"
                )
    return said


def _addresses(license: LicenseFile) -> tuple[ServerAddress, ...]:
    return tuple(
        ServerAddress(
            socket.gethostname() if line.host.casefold() in resolver.ANY_HOST else line.host,
            line.port or DEFAULT_PORT,
        )
        for line in license.servers
    )


def _state_dir(
    given: str | None, license: LicenseFile, rank: Rank, vendor: str
) -> str | None:
    """Return where *vendor*'s state is. Of several vendors each has a folder inside of the given one,
    but the one that has the given one itself from the time when it was alone keeps it."""
    if given == _NO_STATE:
        return None
    if given:
        path = os.path.abspath(given)
        if len(license.vendors) == 1 or folder.owner_of(path) == vendor:
            return path
        return os.path.join(path, vendor)
    return folder.default_folder(
        vendor=vendor,
        rank=rank.word,
        digest=membership_digest(license, vendor),
        hostids=license.hostids,
    )
