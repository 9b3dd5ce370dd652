"""Judging a licence file that was read anew: may this server take it while it runs, and what changes?

Pure, and slow for a large file (every line is verified): whoever reads the file calls
:func:`judge_license` there, off the event loop.

What a reread changes are the signed lines and nothing else (protocol.md rule 19: rereads move an
entry, never a promise, a vote or a term). Who the servers are cannot change while they run.
HEARTBEAT_INTERVAL is in promises that have been given, ports are bound, and PRIMARY_IS_MASTER would
move mastership: they wait for the next start, and the answer says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs

from flexcore.checkout.reading import read_rights
from flexcore.checkout.regulations import Regulations, regulations_of
from flexcore.checkout.rights import Pool, Rights
from flexcore.codes import ErrorCode
from flexcore.identity import Rank
from flexcore.licensefile import membership_digest, verify_license

if TYPE_CHECKING:
    from flexcore.licensefile import LicenseFile
    from flexcore.options import OptionsFile

    from .config import ServerConfig

SAID_MAX = 100
"""Changes, or lines that do not verify, that an answer names; the rest is a number."""

NEXT_START = "this takes effect at the next start of the server"


@attrs.frozen(kw_only=True)
class LicenseRead:
    """A file that may be taken. *remarks* are what takes effect only at the next start. *options* is
    the options file that was read with it, None to keep the one before."""

    rights: Rights
    remarks: tuple[str, ...] = ()
    options: OptionsFile | None = None
    regulations: Regulations | None = attrs.field(default=None, eq=False, repr=False)
    """What *options* say about *rights*, made ready off the loop: 100,000 rules take a second."""

    def is_of(self, rights: Rights, options: OptionsFile | None) -> bool:
        """Whether *regulations* are those of *rights* and *options*."""
        return (
            self.options is not None and options is not None
            and (self.options is options or self.options.rules == options.rules)
            and self.options.name == options.name and self.rights.digest == rights.digest
        )  # fmt: skip


@attrs.frozen(kw_only=True)
class LicenseRefused:
    """A file that is not taken, and why; *details* are the lines that it is about."""

    code: int
    text: str
    details: tuple[str, ...] = ()


def judge_license(
    config: ServerConfig, license: LicenseFile, options: OptionsFile | None = None
) -> LicenseRead | LicenseRefused:
    """Return what *license* gives the server of *config*, or why it keeps what it has.

    *options* is what was read beside it, None to keep the options too. They are never a reason to
    refuse a file: lines that cannot be read are not in effect, and the log names them.
    """
    vendor = config.served_vendor
    fatal = license.fatal_problems
    if fatal:
        return LicenseRefused(code=ErrorCode.BAD_SYNTAX, text="no server starts with this file",
                              details=_some([str(problem) for problem in fatal]))  # fmt: skip
    if all(each.name != vendor for each in license.vendors):
        return LicenseRefused(code=ErrorCode.BAD_SYNTAX,
                              text=f"it has no VENDOR line of {vendor}, which runs")  # fmt: skip
    servers = _other_servers(config, license)
    if servers:
        return LicenseRefused(code=ErrorCode.FEATURE_REMOVED, text=servers)
    rejected = [
        f"line {each.line.line} ({each.line.name}): {each.message}"
        for each in verify_license(license, config.keys).rejected
        if each.line.vendor.casefold() == vendor.casefold()
    ]
    if rejected:
        return LicenseRefused(code=ErrorCode.BAD_SIGNATURE,
                              text=f"{len(rejected)} of its lines are not what the publisher signed",
                              details=_some(rejected))  # fmt: skip
    rights = read_rights(license, config.keys, vendor=vendor)
    return LicenseRead(rights=rights, remarks=_at_next_start(config.license, license),
                       options=options, regulations=regulations_of(options, rights))  # fmt: skip


def _other_servers(config: ServerConfig, license: LicenseFile) -> str:
    """Say how the servers of *license* are others than those that run, '' if they are the same."""
    running, vendor = config.license, config.served_vendor
    if len(license.servers) != len(running.servers):
        return (
            f"it has {len(license.servers)} SERVER lines, and {len(running.servers)} run:"
            " stop the servers and start those of the new file"
        )
    if membership_digest(license, vendor) == membership_digest(running, vendor):
        return ""
    changed = [
        f"{Rank(rank).word} {new}, not {old}"
        for rank, (old, new) in enumerate(zip(running.hostids, license.hostids, strict=True))
        if old != new
    ]
    return f"it names other hostids ({'; '.join(changed)}): a change of servers takes a restart"


def _at_next_start(running: LicenseFile, license: LicenseFile) -> tuple[str, ...]:
    said = []
    if license.heartbeat_interval_s != running.heartbeat_interval_s:
        said.append(
            f"HEARTBEAT_INTERVAL is {license.heartbeat_interval_s:g} in the file and"
            f" {running.heartbeat_interval_s:g} here: {NEXT_START}"
        )
    if license.primary_is_master != running.primary_is_master:
        there = "is" if license.primary_is_master else "is not"
        said.append(f"PRIMARY_IS_MASTER {there} in the file now: {NEXT_START}")
    for rank, (old, new) in enumerate(zip(running.servers, license.servers, strict=True)):
        if (old.host.casefold(), old.port) != (new.host.casefold(), new.port):
            said.append(
                f"the {Rank(rank).word} is {_place(new.host, new.port)} in the file and"
                f" {_place(old.host, old.port)} here: {NEXT_START}"
            )
    return tuple(said)


def _place(host: str, port: int | None) -> str:
    return host if port is None else f"{port}@{host}"


def _some(texts: list[str]) -> tuple[str, ...]:
    more = len(texts) - SAID_MAX
    return (*texts[:SAID_MAX], f"and {more} more") if more > 0 else tuple(texts)


# --- what changed -------------------------------------------------------------------------------------


def changes_between(
    old: Rights, new: Rights, in_use: Mapping[str, int]
) -> tuple[tuple[str, ...], str]:
    """Return a sentence for each pool that was added, removed or changed, and how many in a word.

    *in_use* are seats by pool: whoever holds one keeps it (rule 19), and the sentence says how many.
    """
    before = {pool.key: pool for pool in old.pools}
    after = {pool.key: pool for pool in new.pools}
    added = [f"added {_pool(pool)}" for key, pool in after.items() if key not in before]
    removed = [
        f"removed {_pool(pool)}{_held(in_use.get(key, 0))}"
        for key, pool in before.items()
        if key not in after
    ]
    changed = [
        _change(before[key], pool, in_use.get(key, 0))
        for key, pool in after.items()
        if key in before and pool.lines != before[key].lines
    ]
    counts = ((added, "added"), (removed, "removed"), (changed, "changed"))
    summary = ", ".join(f"{len(some)} {word}" for some, word in counts if some)
    if not summary and old.digest != new.digest:
        summary = "its lines have changed in nothing that is granted"
    return _some([*added, *removed, *changed]), summary or "no change"


def _pool(pool: Pool) -> str:
    return f"{_name(pool)} ({_count(pool)}, {_until(pool)})"


def _name(pool: Pool) -> str:
    return f'"{pool.feature}" v{pool.version}'


def _seats(pool: Pool) -> int:
    """0: uncounted, as in the file."""
    counts = [line.seats for line in pool.lines]
    return 0 if 0 in counts else sum(counts)


def _count(pool: Pool) -> str:
    seats = _seats(pool)
    return "uncounted" if seats == 0 else f"{seats} license{'s' if seats > 1 else ''}"


def _until(pool: Pool) -> str:
    return max(pool.lines, key=lambda line: line.lasts_until()).expiry_text


def _held(in_use: int) -> str:
    return f"; the {in_use} in use stay until they are given back" if in_use else ""


def _change(old: Pool, new: Pool, in_use: int) -> str:
    said = []
    if _seats(old) != _seats(new):
        said.append(f"{_count(old)} -> {_count(new)}")
    if _until(old) != _until(new):
        said.append(f"{_until(old)} -> {_until(new)}")
    more = ""
    if 0 < _seats(new) < in_use:
        more = f"; {in_use} are in use: nothing is granted until fewer than {_seats(new)} are"
    return f"changed {_name(new)}: {', '.join(said) or 'its signed lines'}{more}"
