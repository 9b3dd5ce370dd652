"""Making a server's parts out of its configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flexcore.checkout.durations import durations_of
from flexcore.checkout.machine import CheckoutMachine
from flexcore.checkout.reading import read_rights
from flexcore.checkout.regulations import policy_of, regulations_of
from flexcore.checkout.rights import Rights
from flexcore.licensefile import membership_digest
from flexcore.options import options_digest
from flexcore.quorum import QuorumConfig, QuorumMachine, StoredState

from .config import ServerConfig

if TYPE_CHECKING:
    from flexcore.options import OptionsFile

    from .judgement import LicenseRead


def make_server_rights(config: ServerConfig) -> Rights:
    """Return what the licence file lets clients have, by the publisher's key."""
    return read_rights(config.license, config.keys, vendor=config.served_vendor)


def make_checkout(
    rights: Rights, options: OptionsFile | None, newest: LicenseRead | None = None
) -> CheckoutMachine:
    """Return the machine that decides by *rights*: at start, and whenever others come into force.

    It remembers nothing that the ledger does not, so a new one may replace it at any time. An options
    file that was read with the licence file becomes a part of it here. *newest* is what was read last:
    if it is of these rights and options, its rules were made ready where it was read.
    """
    if newest is not None and newest.is_of(rights, options):
        made = None if newest.regulations is None else newest.regulations.copy()
    else:
        made = regulations_of(options, rights)
    machine = CheckoutMachine(rights, made, durations_of(options, rights))
    machine.policy = policy_of(options, rights) if made is None else made.policy
    return machine


def make_quorum(
    config: ServerConfig, rights: Rights, *, stored: StoredState | None, boot_id: bytes,
    triad_id: bytes, now: float, wall: float,
) -> QuorumMachine:  # fmt: skip
    """Return the machine that knows who may serve; a single server has a majority of one."""
    license_file = config.license
    return QuorumMachine(
        QuorumConfig(
            rank=config.rank,
            triad=license_file.is_triad,
            heartbeat_interval_s=license_file.heartbeat_interval_s,
            primary_is_master=license_file.primary_is_master,
            vendor=config.served_vendor,
            membership_digest=membership_digest(license_file, config.served_vendor),
            hostids=license_file.hostids,
            addresses=tuple(
                f"{server.host.casefold()}:{server.port}" for server in license_file.servers
            ),
            rights_digest=rights.digest,
            options_digest=options_digest(config.options),
            software=config.software,
            borrow_allowed=any(
                line.value("BORROW") is not None for line in license_file.features
            ),
            first_start=config.first_start,
            in_memory=config.in_memory,
        ),
        stored=stored, boot_id=boot_id, triad_id=triad_id, now=now, wall=wall,
    )  # fmt: skip
