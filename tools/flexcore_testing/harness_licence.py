"""The licence file that a triad in a test serves: made up, or the product's own."""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import attrs

from flexcore.errors import LicenseError
from flexcore.keys import SigningKey, VerifyingKey
from flexcore.licensefile import LicenseFile, parse_license, sign_license, verify_license
from flexcore.timing import INTERVAL_MAX_S
from flexcore_testing.licences import signing_key, triad_text

FEATURES = {"f1": 10, "f2": 10}
"""What the made-up licence file has: ten of each, version 1.0, permanent, vendor ``demo``."""

DATE = datetime.date(2026, 1, 1)
"""The simulated day on which a triad starts, where a test names none: the same whenever the test runs."""

SEATS_MAX = 1_000_000
"""More licences of a feature than anybody tests with."""

_SECONDS_A_DAY = 86400.0


@attrs.frozen(kw_only=True)
class Terms:
    """A licence file that three servers may start with, and the keys that it is signed with."""

    license: LicenseFile
    keys: tuple[VerifyingKey, ...]
    given_keys: tuple[VerifyingKey, ...] = ()
    """The publisher's, where the test gave them; else the lines are signed by a key of the tests."""

    @property
    def vendor(self) -> str:
        """The vendor that is served."""
        return self.license.vendors[0].name


def read_terms(
    license: str | os.PathLike[str] | LicenseFile | None,
    *,
    features: Mapping[str, int] | None = None,
    keys: VerifyingKey | str | Iterable[VerifyingKey | str] = (),
    heartbeat_interval_s: int | None = None,
    primary_is_master: bool | None = None,
) -> Terms:
    """Return the terms that a test asks for; see :class:`flexcore_testing.Triad`.

    Raises:
        LicenseError: the file cannot be read, has errors, is not one of three servers, or does not verify.
        KeyFormatError: a key's text is none. ValueError: arguments that do not go together, or are out of range.
    """
    known = _keys(keys)
    if license is None:
        file = _made_up(features, known)
    else:
        if features is not None:
            raise ValueError("give a licence file or features, not both: a file says itself what is licensed")
        file = _read(license)
    _require_triad(file)
    if heartbeat_interval_s is not None or primary_is_master is not None:
        file = _with_keywords(file, heartbeat_interval_s, primary_is_master)
    if known:
        _require_signed(file, known)
        return Terms(license=file, keys=known, given_keys=known)
    key = signing_key() if file.vendors[0].name == "demo" else SigningKey(file.vendors[0].name, signing_key().seed)
    servers = file.servers
    signed = sign_license(file, key)
    return Terms(license=attrs.evolve(signed, servers=servers), keys=(key.verifying_key,))


def epoch_of(date: datetime.date | str | None) -> float:
    """Return the epoch seconds of noon on *date* (ISO text, a date, or None for :data:`DATE`).

    Raises:
        ValueError: no date.
    """
    if date is None:
        date = DATE
    elif isinstance(date, str):
        try:
            date = datetime.date.fromisoformat(date)
        except ValueError:
            raise ValueError(f"date={date!r} is no date: write it as '2026-01-31'") from None
    elif not isinstance(date, datetime.date):
        raise TypeError(f"date is a datetime.date or a text like '2026-01-31', not {date!r}")
    days = date.toordinal() - datetime.date(1970, 1, 1).toordinal()
    return (days + 0.5) * _SECONDS_A_DAY


def _keys(keys: VerifyingKey | str | Iterable[VerifyingKey | str]) -> tuple[VerifyingKey, ...]:
    given = (keys,) if isinstance(keys, str | VerifyingKey) else tuple(keys)
    return tuple(VerifyingKey.from_text(key) if isinstance(key, str) else key for key in given)


def _made_up(features: Mapping[str, int] | None, keys: tuple[VerifyingKey, ...]) -> LicenseFile:
    if keys:
        raise ValueError("keys verify a licence file of your own: give that as well")
    chosen = FEATURES if features is None else features
    for name, count in chosen.items():
        if not _is_whole(count, 1, SEATS_MAX):
            raise ValueError(f"features: {name!r} needs a number of licences, 1 to {SEATS_MAX}, not {count!r}")
    file = parse_license(triad_text(dict(chosen)), name="test.lic")
    if file.errors or [line.name for line in file.features] != list(chosen):
        shown = "; ".join(str(problem) for problem in file.errors)
        raise ValueError(f"features: {', '.join(map(repr, chosen)) or 'none'} cannot be licensed: {shown}")
    return file


def _read(license: str | os.PathLike[str] | LicenseFile) -> LicenseFile:
    if isinstance(license, LicenseFile):
        return license
    if isinstance(license, str) and ("\n" in license or license.lstrip().upper().startswith("SERVER ")):
        return parse_license(license, name="license")
    if not isinstance(license, str | os.PathLike):
        raise TypeError(
            f"a licence file is its path, its text or what parse_license returns, not {type(license).__name__}"
        )
    path = Path(license)
    try:
        return parse_license(path.read_bytes(), name=str(path))
    except OSError as error:
        raise LicenseError(f"the licence file {path} cannot be read: {error.strerror or error}") from error


def _require_triad(file: LicenseFile) -> None:
    if file.fatal_problems:
        lines = "".join(f"\n  {file.name}:{problem}" for problem in file.fatal_problems)
        raise LicenseError(f"no server starts with the licence file {file.name}:{lines}")
    if not file.is_triad:
        count = len(file.servers)
        raise LicenseError(
            f"{file.name} has {count or 'no'} SERVER line{'' if count == 1 else 's'}: a triad has three,"
            " and the servers of a test are those of the file (hosts and hostids may be any)"
        )


def _with_keywords(file: LicenseFile, interval_s: int | None, primary_is_master: bool | None) -> LicenseFile:
    """The file with other words on its first SERVER line; none of them is signed."""
    first = file.servers[0]
    if interval_s is not None:
        if not _is_whole(interval_s, 0, INTERVAL_MAX_S):
            raise ValueError(
                f"heartbeat_interval_s is HEARTBEAT_INTERVAL: a whole number of seconds from 0 to {INTERVAL_MAX_S:g},"
                f" not {interval_s!r}"
            )
        first = attrs.evolve(first, heartbeat_interval_s=interval_s)
    if primary_is_master is not None:
        first = attrs.evolve(first, primary_is_master=bool(primary_is_master))
    return attrs.evolve(file, servers=(first, *file.servers[1:]))


def _is_whole(value: object, least: float, most: float) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _require_signed(file: LicenseFile, keys: tuple[VerifyingKey, ...]) -> None:
    vendor = file.vendors[0].name
    if all(key.vendor != vendor for key in keys):
        names = ", ".join(key.vendor for key in keys)
        raise LicenseError(f"{file.name} is of vendor {vendor}, and the keys are of {names}")
    rejected = verify_license(file, keys).rejected
    if rejected:
        lines = "".join(f"\n  line {each.line.line}: {each.line.name}: {each.message}" for each in rejected)
        raise LicenseError(
            f"{file.name} does not verify with these keys; without keys a test signs it anew with a key of its"
            f" own:{lines}"
        )
