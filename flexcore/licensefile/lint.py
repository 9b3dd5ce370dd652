"""What is legal in a licence file and still worth a look: ``flexcore lint``."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator, Sequence

from flexcore import timing
from flexcore.hostid import ANY, DEMO, KNOWN_KINDS, OTHER, parse_hostids

from .entitlements import is_group, read_entitlements
from .lines import (
    AnyLine,
    Attribute,
    FeatureLine,
    LicenseFile,
    OtherKind,
    OtherLine,
    PackageLine,
    Problem,
    ServerLine,
    Severity,
    SignableLine,
    UpgradeLine,
    UseServerLine,
    is_administrators,
)
from .places import Place, place_of_key, place_of_port, place_of_text, place_of_word
from .selection import COPY, SECOND, SUPERSEDED, Ignored, issue_date
from .signature import parse_value
from .version import parse_version
from .vocabulary import (
    ADMINISTRATOR_KEYS,
    FOREIGN_SIGNATURES,
    IN_EFFECT,
    PACKAGE_KEYS,
    PUBLISHER_KEYS,
    WITHOUT_EFFECT,
)

SORT_MAX = 255
FEATURE_NAME_MAX = 30

_CLASSIC_NAME = re.compile(r"[A-Za-z0-9_-]+")


def lint_license(license: LicenseFile, today: datetime.date | None = None) -> tuple[Problem, ...]:
    """Return all problems of a file in the order of lines: errors, warnings and what to know.

    ``today`` is for dates: without it nothing is said about expiry.
    """
    found = list(license.problems)
    found += _about_servers(license)
    found += _about_vendors(license)
    found += _about_order(license)
    for line in license.signable_lines:
        found += _about_line(line, license, today)
    found += _about_features(license)
    found.sort(key=lambda problem: (problem.line, problem.column))
    return tuple(found)


def _place(at: int | Place | Attribute) -> Place:
    """Return line and column; a bare number is a line that is meant as a whole."""
    if isinstance(at, int):
        return at, 1
    return (at.line, at.column) if isinstance(at, Attribute) else at


def _warning(at: int | Place | Attribute, code: str, message: str, advice: str = "") -> Problem:
    return Problem(Severity.WARNING, *_place(at), code, message, advice)


def _info(at: int | Place | Attribute, code: str, message: str, advice: str = "") -> Problem:
    return Problem(Severity.INFO, *_place(at), code, message, advice)


def _error(at: int | Place | Attribute, code: str, message: str, advice: str = "") -> Problem:
    return Problem(Severity.ERROR, *_place(at), code, message, advice)


# --- servers and vendors ------------------------------------------------------------------------------


def _about_servers(license: LicenseFile) -> Iterator[Problem]:
    servers = license.servers
    if license.is_triad:
        ports = [server.port for server in servers if server.port is not None]
        if len(set(ports)) > 1:
            listed = ", ".join(map(str, ports))
            odd = next(server for server in servers if server.port != servers[0].port)
            yield _warning(place_of_port(odd), "ports-differ", f"the ports differ: {listed}",
                           "one port for all three is easier to administer")  # fmt: skip
        if any(27000 <= port <= 27009 for port in ports):
            yield _info(servers[0].line, "default-port",
                        "ports 27000 to 27009 are those that single servers take by themselves",
                        "take one outside, such as 28000")  # fmt: skip
    for server in servers:
        yield from _about_server(server, is_triad=license.is_triad)
    first: dict[str, int] = {}
    for server in servers:
        if server.signed_hostid not in ("any", "demo"):
            line = first.setdefault(server.signed_hostid, server.line)
            if line != server.line:
                yield _warning(place_of_word(server, 2), "same-hostid", f"the hostid of line {line} again",
                               "three servers on one machine fail together")  # fmt: skip


def _about_server(server: ServerLine, *, is_triad: bool) -> Iterator[Problem]:
    interval = server.heartbeat_interval_s
    if interval == 0:
        default = timing.timeout_s(0)
        yield _warning(
            place_of_key(server, "HEARTBEAT_INTERVAL", "SERVER_TIMEOUT"), "interval-zero",
            "HEARTBEAT_INTERVAL=0 switches the failure detector off: a silent server is replaced "
            f"only when its connection ends; promises and leases take {default:.0f} s",
            "write 1 to 120, or leave it out for 20",
        )  # fmt: skip
    if not is_triad and (server.primary_is_master or interval is not None):
        yield _info(place_of_key(server, "PRIMARY_IS_MASTER", "HEARTBEAT_INTERVAL", "SERVER_TIMEOUT"),
                    "single-server-keyword",
                    "PRIMARY_IS_MASTER and HEARTBEAT_INTERVAL have no effect on a single server",
                    "take them out")  # fmt: skip
    if server.host.casefold() in ("this_host", "any") and is_triad:
        yield _warning(place_of_word(server, 1), "placeholder-host",
                       f"{server.host} names no host that the other two servers could reach",
                       "write the host's name or address")  # fmt: skip
    if server.host.casefold() in ("localhost", "127.0.1.1"):
        yield _warning(place_of_word(server, 1), "loopback-host",
                       f"{server.host} is this machine for everybody",
                       "write a name or address that the others reach")  # fmt: skip
    for hostid in server.hostids:
        if hostid.kind == ANY:
            yield _info(place_of_word(server, 2), "hostid-any",
                        "the hostid ANY binds the rights to no machine")  # fmt: skip
        elif hostid.kind == DEMO:
            yield _error(place_of_word(server, 2), "hostid-demo",
                         "DEMO is a hostid of uncounted feature lines",
                         "write the server's hostid")  # fmt: skip
        elif hostid.kind == OTHER or hostid.kind not in KNOWN_KINDS:
            yield _warning(
                place_of_word(server, 2), "hostid-kind",
                f"no machine can show a hostid of this kind here: {hostid}",
                "use one that flexcore lmhostid prints, or start lmgrd with --hostid",
            )  # fmt: skip


def _about_vendors(license: LicenseFile) -> Iterator[Problem]:
    for vendor in license.vendors:
        unused = [
            word
            for word, there in (
                ("the path", vendor.path),
                ("the port", vendor.port is not None),
            )
            if there
        ]
        if unused:
            yield _info(
                vendor.line, "vendor-parts",
                f"{' and '.join(unused)} on the VENDOR line: read and kept, not used; "
                "the vendor daemon is a part of the server, behind the server's port",
            )  # fmt: skip


def _about_order(license: LicenseFile) -> Iterator[Problem]:
    seen_feature = 0
    for line in license.lines:
        if isinstance(line, FeatureLine | PackageLine | UpgradeLine):
            seen_feature = seen_feature or line.line
        elif isinstance(line, ServerLine) and seen_feature:
            yield _warning(line.line, "server-after-feature",
                           f"a SERVER line below the feature line {seen_feature}",
                           "SERVER lines come first; are these two files in one?")  # fmt: skip
        elif isinstance(line, UseServerLine) and not license.servers:
            yield _warning(
                line.line,
                "use-server-alone",
                "USE_SERVER without a SERVER line",
                "take it out, or add the SERVER lines",
            )
        elif isinstance(line, OtherLine) and line.kind is OtherKind.TEXT:
            yield _info(line.line, "prose", "no keyword begins this line, so it is ignored",
                        "begin it with # to say that it is a comment")  # fmt: skip


# --- one line -----------------------------------------------------------------------------------------


def _about_line(
    line: SignableLine, license: LicenseFile, today: datetime.date | None
) -> Iterator[Problem]:
    yield from _about_attributes(line)
    sign = line.attribute("SIGN")
    if sign is None or not sign.value:
        yield _info(line.line, "unsigned", f"{line.name} is not signed",
                    "the publisher signs with flexcore sign")  # fmt: skip
    elif parse_value(sign.value) is None:
        yield _info(sign, "foreign-sign",
                    f"the SIGN value of {line.name} is of another system, or cut short")  # fmt: skip
    if line.legacy_key:
        yield _info(place_of_text(line, line.legacy_key), "legacy-key",
                    "the key behind the count is of another system and has no effect")  # fmt: skip
    if len(line.name) > FEATURE_NAME_MAX or not _CLASSIC_NAME.fullmatch(line.name):
        yield _info(
            place_of_word(line, 1), "name",
            f"{line.name}: tools that read lmstat expect letters, digits, _ and -, at most 30",
        )  # fmt: skip
    supersede = line.attribute("SUPERSEDE")
    if supersede is not None and issue_date(line) is None:
        yield _warning(supersede, "supersede-date", "SUPERSEDE has no effect without ISSUED=",
                       "the publisher writes ISSUED=, the date before which lines are superseded")  # fmt: skip
    if isinstance(line, FeatureLine):
        yield from _about_hostid(line)
        yield from _about_values(line)
        yield from _about_dates(line, today)
    elif isinstance(line, UpgradeLine):
        yield from _about_upgrade(line, license)
    else:
        if not any(
            feature.name == line.name and feature.vendor == line.vendor
            for feature in license.features
        ):
            yield _warning(line.line, "package-alone", f"no feature line for package {line.name}",
                           "a PACKAGE licenses nothing without one of the same name")  # fmt: skip


def _about_attributes(line: SignableLine) -> Iterator[Problem]:
    seen: dict[str, Attribute] = {}
    for attribute in line.attributes:
        key = attribute.key
        first = seen.setdefault(key, attribute)
        if first is not attribute:
            yield _error(attribute, "keyword-twice", f"{key[:40]} stands twice on the line",
                         "take one of them out; the first would be in effect")  # fmt: skip
        elif attribute.value is None and attribute.quoted:
            yield _warning(attribute, "stray-quoted", "a quoted word without a keyword",
                           "write KEYWORD= in front of it, without a blank")  # fmt: skip
        elif is_administrators(key):
            yield from _about_administrators(attribute)
        elif key in WITHOUT_EFFECT:
            yield _info(attribute, "no-effect", f"{key} has no effect here: {WITHOUT_EFFECT[key]}")
        elif key in PACKAGE_KEYS and not isinstance(line, PackageLine):
            yield _warning(
                attribute, "package-keyword", f"{key} belongs on PACKAGE lines", "take it out"
            )
        elif key not in IN_EFFECT | PACKAGE_KEYS | FOREIGN_SIGNATURES:
            known = key.upper() in PUBLISHER_KEYS
            advice = f"write {key.upper()}" if known else "it is signed and kept, without effect"
            yield _warning(
                attribute, "unknown-keyword", f"{key[:40]!r} is no known keyword", advice
            )


def _about_administrators(attribute: Attribute) -> Iterator[Problem]:
    key = attribute.key
    if key not in ADMINISTRATOR_KEYS:
        yield _warning(
            attribute, "lower-case", f"{key[:40]} in lower case has no effect and is not signed",
            "only the publisher sets it, in capitals",
        )  # fmt: skip
    elif attribute.value is None:
        yield _warning(attribute, "lower-case", f"{key} without a value", f"write {key}=...")
    elif key == "sort" and not (
        attribute.value.isascii() and attribute.value.isdigit() and int(attribute.value) <= SORT_MAX
    ):
        yield _warning(attribute, "sort", f"sort={attribute.value[:40]} is out of range",
                       f"write 0 to {SORT_MAX}")  # fmt: skip


def _about_hostid(line: FeatureLine) -> Iterator[Problem]:
    found = line.attribute("HOSTID")
    if found is None:
        if line.is_uncounted:
            yield _error(line.line, "uncounted-hostid", f"{line.name} is uncounted without HOSTID=",
                         "an uncounted line is bound to machines, or to HOSTID=ANY")  # fmt: skip
        return
    hostids = parse_hostids(found.value or "")
    if any(hostid.kind == DEMO for hostid in hostids) and not line.is_uncounted:
        yield _error(found, "hostid-demo", "HOSTID=DEMO is for uncounted lines only", "take it out")


def _about_values(line: FeatureLine) -> Iterator[Problem]:
    for key in ("DUP_GROUP", "SUITE_DUP_GROUP"):
        found = line.attribute(key)
        value = "" if found is None else found.value or ""
        if found is not None and not is_group(value):
            yield _warning(found, "group", f"{key}={value[:40]} groups nobody",
                           "write NONE, SITE, or some of the letters U, H, D and V")  # fmt: skip
        elif found is not None and "V" in value.upper():
            yield _info(found, "group-v", f"V of {key} has no effect here: "
                        "no client sends data of the vendor's own with a checkout")  # fmt: skip
    for key in ("BORROW", "OVERDRAFT", "HOST_BASED", "USER_BASED"):
        found = line.attribute(key)
        value = "" if found is None else found.value or ""
        is_bare = key != "OVERDRAFT" and found is not None and found.value is None
        if found is not None and not is_bare and not (value.isascii() and value.isdigit()):
            yield _warning(found, "number", f"{key}={value[:40]} is no number", f"write {key}=n")


def _about_dates(line: FeatureLine, today: datetime.date | None) -> Iterator[Problem]:
    if line.start is not None and line.expiry is not None and line.start > line.expiry:
        yield _error(
            line.line,
            "start-after-expiry",
            f"{line.name} starts after it has expired",
            "correct START= or the expiry date",
        )
    if today is None or line.expiry is None:
        return
    days = (line.expiry - today).days
    if days < 0:
        yield _warning(place_of_word(line, 4), "expired",
                       f"{line.name} expired on {line.expiry_text}",
                       "ask the publisher for a new licence")  # fmt: skip
    elif days <= timing.EXPIRY_WARNING_DAYS:
        yield _warning(place_of_word(line, 4), "expires-soon",
                       f"{line.name} expires on {line.expiry_text}, in {days} days",
                       "ask the publisher for a new licence")  # fmt: skip


def _about_upgrade(line: UpgradeLine, license: LicenseFile) -> Iterator[Problem]:
    low, high = parse_version(line.from_version), parse_version(line.version)
    if not any(
        feature.name == line.name
        and feature.line < line.line
        and low <= parse_version(feature.version) < high
        for feature in license.features
    ):
        yield _warning(line.line, "upgrade-alone", f"no line above that {line.name} could upgrade",
                       "an UPGRADE takes from a preceding line in its range of versions")  # fmt: skip


def _about_features(license: LicenseFile) -> Iterator[Problem]:
    if license.servers and not any(_is_feature(line) for line in license.lines):
        last = license.servers[-1].line
        yield _warning(
            last,
            "no-features",
            "no feature line: the servers have nothing to serve",
            "add the lines",
        )
    if all(isinstance(line, OtherLine) and not line.keyword for line in license.lines):
        yield _warning(
            1, "no-license-lines", "no line of this file is a licence's", "is this the right file?"
        )
    for ignored in read_entitlements(license.signable_lines, license.hostids).ignored:
        yield _about_ignored(ignored)


def _about_ignored(ignored: Ignored) -> Problem:
    line, because = ignored.line, ignored.because.line
    if ignored.reason == COPY:
        return _warning(
            line.line, "copy",
            f"{line.name}: the same signed content as line {because}, which counts once",
            "take the copy out",
        )  # fmt: skip
    if ignored.reason == SECOND:
        return _warning(
            line.line, "second-feature",
            f"{line.name} has a FEATURE line already, line {because}; only the first of a name counts",
            "the publisher adds licences with INCREMENT lines",
        )  # fmt: skip
    if ignored.reason == SUPERSEDED:
        return _info(line.line, "superseded", f"{line.name} is superseded by line {because}",
                     "it may be taken out")  # fmt: skip
    return _error(line.line, "too-many-components", f"{line.name} enables too many components",
                  "split the file")  # fmt: skip


def _is_feature(line: AnyLine) -> bool:
    if isinstance(line, OtherLine):
        return line.kind is OtherKind.BROKEN and line.keyword not in ("SERVER", "VENDOR", "DAEMON")
    return isinstance(line, FeatureLine)


def format_problems(problems: Sequence[Problem], name: str) -> str:
    """Return one line a problem, each with the file's name in front, as compilers do."""
    return "".join(
        [f"{name}:{problem}\n" if problem.line else f"{name}: {problem}\n" for problem in problems]
    )
