"""``flexcore lmgrd --check``: would this server start, and could it talk to its peers?

A verdict a line, ``ok``, ``note`` or ``FAIL``; nothing is started, made or locked.
"""

from __future__ import annotations

import argparse
import errno
import os
import socket
from collections.abc import Iterator
from typing import NamedTuple

from flexcore.errors import FlexcoreError
from flexcore.licensefile import membership_digest
from flexcore.licensefile.lines import Severity
from flexcore.options import lint_options
from flexcore.wire.messages import ServerAddress
from flexcore_host import clock, filesystem, folder, resolver

from . import _options, _setup
from ._setup import Setup, VendorSetup

__all__ = ["Verdict", "check", "print_verdicts"]

OK, NOTE, FAIL = "ok", "note", "FAIL"
CONNECT_TIMEOUT_S = 3.0
OPTIONS_SAID_MAX = 50
"""So many problems of an options file are shown; `flexcore lint --options` shows all."""


class Verdict(NamedTuple):
    """One finding."""

    word: str
    text: str


def print_verdicts(verdicts: Iterator[Verdict]) -> int:
    """Print each verdict as it is found; return 0 unless one says FAIL."""
    failed = False
    for verdict in verdicts:
        print(f"{verdict.word:<5} {verdict.text}", flush=True)
        failed = failed or verdict.word == FAIL
    print("FAIL  correct the lines above" if failed else "ok    this server can be started")
    return int(failed)


def check(args: argparse.Namespace) -> Iterator[Verdict]:
    """Check everything that can be checked without starting."""
    try:
        setup = _setup.load(args)
    except FlexcoreError as error:
        yield Verdict(FAIL, str(error))
        return
    yield Verdict(
        OK,
        f"licence file {setup.path}: {len(setup.license.features)} feature line(s), signed by"
        f" {', '.join(each.name for each in setup.vendors if not each.problem)}",
    )
    for problem in setup.license.problems:
        yield Verdict(NOTE, f"{setup.path}:{problem}")
    for note in setup.notes:
        yield Verdict(NOTE, note)
    yield Verdict(OK, f"this server is the {setup.rank.word}: SERVER {setup.line.host}")
    yield Verdict(NOTE, setup.hostid_note) if setup.hostid_note else Verdict(
        OK, f"hostid {setup.line.hostid}"
    )
    now = clock.wall()
    for warning in _setup.expiry_warnings(setup.license, now, clock.utc_offset_s(now)):
        yield Verdict(NOTE, warning)
    for vendor in setup.vendors:
        yield from _check_state(setup, vendor)
        yield from _check_options(setup, vendor)
    yield from _check_ports(setup)
    places = _setup.place_warnings(setup, _log_path(args))
    for warning in places:
        yield Verdict(FAIL, warning)
    if not places:
        yield Verdict(OK, "files are on local disks, and names are reachable from elsewhere")
    yield from _check_peers(setup)


def _log_path(args: argparse.Namespace) -> str:
    return str(args.log or "").removeprefix("+")


def _check_state(setup: Setup, vendor: VendorSetup) -> Iterator[Verdict]:
    path = vendor.state_dir
    if path is None:
        yield Verdict(
            NOTE, "no state folder: after a restart this server remembers nothing by itself"
        )
        return
    try:
        known = folder.examine_folder(path, vendor=vendor.name, rank=setup.rank.word)
    except FlexcoreError as error:
        yield Verdict(FAIL, str(error))
        return
    yield Verdict(OK, f"state folder {path} ({'with state' if known else 'empty'})")


def _check_options(setup: Setup, vendor: VendorSetup) -> Iterator[Verdict]:
    """Whatever is wrong with an options file, the server starts: notes."""
    try:
        options = _options.load_options(setup.license, setup.path, vendor.name)
    except FlexcoreError as error:
        yield Verdict(NOTE, f"{error}: no options would be in effect")
        return
    if not options.name:
        return
    yield Verdict(OK, f"options file {options.name}: {len(options.rules)} rule(s)")
    problems = [
        each for each in lint_options(options, setup.license, vendor.name)
        if each.severity is not Severity.INFO
    ]  # fmt: skip
    for problem in problems[:OPTIONS_SAID_MAX]:
        yield Verdict(NOTE, f"{options.name}:{problem}")
    if len(problems) > OPTIONS_SAID_MAX:
        yield Verdict(NOTE, f"{len(problems) - OPTIONS_SAID_MAX} more: flexcore lint --options")


def _check_ports(setup: Setup) -> Iterator[Verdict]:
    for address in setup.listen:
        where = f"{address} port {setup.port}"
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                if os.name != "nt":
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind((address, setup.port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                holder = filesystem.port_holder(setup.port, address)
                yield Verdict(FAIL, f"{where} is in use{f' by {holder}' if holder else ''}")
            elif error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL) and (
                len(setup.listen) > 1
            ):
                yield Verdict(NOTE, f"{where}: this machine has no such address")
            else:
                yield Verdict(FAIL, f"{where}: {error.strerror or error}")
        else:
            yield Verdict(OK, f"{where} is free")


def _check_peers(setup: Setup) -> Iterator[Verdict]:
    for rank, (host, port) in enumerate(setup.addresses):
        if rank == setup.rank:
            continue
        where = f"peer {host} port {port}"
        try:
            addresses = resolver.addresses_of(host, port)
        except OSError as error:
            yield Verdict(FAIL, f"{where}: the name cannot be resolved: {error.strerror or error}")
            continue
        verdict = _try_peer(where, addresses)
        if verdict is None:
            verdict = _ask_peer(setup, where, ServerAddress(host, port))
        yield verdict


def _ask_peer(setup: Setup, where: str, address: ServerAddress) -> Verdict:
    """Something listens: is it a server of this triad?"""
    from ._link import LinkFailed, open_link

    try:
        link = open_link(address, CONNECT_TIMEOUT_S, vendor=setup.vendor)
    except LinkFailed as error:
        return Verdict(FAIL, f"{where}: something listens there, but not a server of this: {error}")
    hello = link.hello
    link.close()
    if hello.membership_digest != membership_digest(setup.license):
        return Verdict(
            FAIL,
            f"{where}: the server there has a licence file for other servers"
            f" ({hello.report.license_path}): put the same file on all three",
        )
    return Verdict(OK, f"{where}: a server of this triad is there ({hello.report.state})")


def _try_peer(where: str, addresses: tuple[resolver.Address, ...]) -> Verdict | None:
    """Connect; None if something listens."""
    error: OSError | None = None
    for address in addresses:
        try:
            with socket.socket(address.family, socket.SOCK_STREAM) as probe:
                probe.settimeout(CONNECT_TIMEOUT_S)
                probe.connect(address.sockaddr)
        except ConnectionRefusedError:
            return Verdict(OK, f"{where}: the machine answers, no server listens there yet")
        except OSError as failure:
            error = failure
        else:
            return None
    if isinstance(error, TimeoutError):
        why = "no answer: is the machine up, and does a firewall let the port through?"
    else:
        why = str(error.strerror or error) if error is not None else "no address"
    return Verdict(FAIL, f"{where}: {why}")
