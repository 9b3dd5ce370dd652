"""Licence files for simulations, signed by a key that everybody knows and nobody should embed in a product."""

from __future__ import annotations

import functools

from flexcore.keys import SigningKey, VerifyingKey
from flexcore.licensefile import LicenseFile, parse_license, sign_license
from flexcore_testing.profile import Profile

HOSTS = ("pat", "lee", "terry")
HOSTIDS = ("17003456", "17004355", "17007ea8")
PORT = 2837

SEED_EXAMPLE = """\
SERVER pat 17003456 2837 PRIMARY_IS_MASTER
SERVER lee 17004355 2837
SERVER terry 17007ea8 2837
VENDOR demo
FEATURE f1 demo 1.0 1-jan-2018 10 SIGN=”<...>”
FEATURE f2 demo 1.0 1-jan-2018 10 SIGN=”<...>”
"""
"""The seed's "An Example License File", curly quotes and all."""


@functools.cache
def signing_key() -> SigningKey:
    """The test vendor's secret key."""
    return SigningKey("demo", b"flexcore simulation".ljust(32, b"\0"))


@functools.cache
def test_key() -> VerifyingKey:
    """The test vendor's public key."""
    return signing_key().verifying_key


def triad_text(
    features: dict[str, int],
    *,
    interval_s: int = 20,
    primary_is_master: bool = False,
    expiry: str = "permanent",
) -> str:
    """An unsigned licence file for a triad on pat, lee and terry."""
    keywords = f" HEARTBEAT_INTERVAL={interval_s}" if interval_s != 20 else ""
    keywords += " PRIMARY_IS_MASTER" if primary_is_master else ""
    lines = [
        f"SERVER {host} {hostid} {PORT}{keywords if host == HOSTS[0] else ''}"
        for host, hostid in zip(HOSTS, HOSTIDS, strict=True)
    ]
    lines.append("VENDOR demo")
    lines += [f"FEATURE {name} demo 1.0 {expiry} {count} SIGN=0" for name, count in features.items()]
    return "\n".join(lines) + "\n"


@functools.cache
def signed(text: str) -> LicenseFile:
    """The parsed file with SIGN values by the test key."""
    return sign_license(parse_license(text), signing_key())


def licence_for(profile: Profile) -> LicenseFile:
    """The licence of a seed: what the clients fight for, and one seat for the probe of the liveness phase."""
    return signed(
        triad_text(
            {"f1": profile.licensed, "probe": 1},
            interval_s=profile.interval_s,
            primary_is_master=profile.primary_is_master,
        )
    )
