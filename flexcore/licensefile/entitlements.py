"""What the lines of a file let people have: after SUPERSEDE, UPGRADE and PACKAGE have had their effect
(reference, a5 and a6).

The server asks this about a whole file, the client about the lines that came with a grant: both count
by the same rules (tests/test_entitlements.py).

* UPGRADE takes up to its number from the closest line above it whose version is at least *from* and
  less than *to*, and makes them anew at *to*: with its own expiry, and with the attributes of that
  line (but OVERDRAFT, which stays) where it has none of its own. A further UPGRADE may upgrade what this one made.
* PACKAGE gives each component in the number of the package's own FEATURE or INCREMENT line (times the
  component's number where that is given), in the component's version (the line's where it has none),
  with the line's expiry and attributes. With OPTIONS=SUITE a component also takes one licence of that
  line. The package's name itself cannot be checked out (-125).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs

from .lines import FeatureLine, PackageLine, SignableLine, UpgradeLine, print_line
from .selection import Ignored, effective_lines, line_start, sort_key
from .version import COUNT_MAX, parse_version

ENTITLEMENTS_MAX = 100_000
"""What PACKAGE lines may make of one file; a file that says more is cut there, with a remark."""

TOO_MANY = "too-many"

SUITE_GROUP = "UHD"
"""How a suite is shared where neither SUITE_DUP_GROUP nor DUP_GROUP says: a suite that a second
component of the same user, host and display could not share would be none."""


def is_group(text: str) -> bool:
    """Say whether *text* is a value that DUP_GROUP and SUITE_DUP_GROUP may have."""
    word = text.strip().upper()
    return word in ("SITE", "NONE") or (bool(word) and all(letter in "UHDV" for letter in word))


@attrs.frozen(kw_only=True)
class Entitlement:
    """A line as it counts. *line* is the line itself, or what UPGRADE or PACKAGE made of it;
    *sources* are the signed lines that say so, in an order in which they say it again."""

    line: FeatureLine
    sources: tuple[SignableLine, ...]
    package: PackageLine | None = None
    """The line enables this package: its own name cannot be checked out."""
    suite: FeatureLine | None = None
    """Of a component of a suite: the line that enables the suite."""
    factor: int = 1
    """Of a component: its number, by which OVERDRAFT is multiplied as the count is."""

    @property
    def seats(self) -> int:
        """Licences with OVERDRAFT=; 0: uncounted."""
        line = self.line
        return line.count and min(line.count + _overdraft(line) * self.factor, COUNT_MAX)

    @property
    def overdraft(self) -> int:
        """How many of these OVERDRAFT= adds."""
        return self.seats - self.line.count

    @property
    def pool_key(self) -> str:
        """Name the pool; components of a suite are apart from the same feature by itself."""
        if self.suite is None:
            return self.line.pool_key
        version = parse_version(self.suite.version)
        return (
            f"{self.line.pool_key}\x1fSUITE={self.suite.name}"
            f" {version.whole}.{version.fraction or '0'}"
        )

    @property
    def signed_text(self) -> str:
        """The signed lines, one a line."""
        if len(self.sources) == 1:
            return print_line(self.sources[0])
        return "\n".join(print_line(source) for source in self.sources)


@attrs.frozen
class Entitlements:
    """In the order in which checkouts try them, and the lines that do not count."""

    items: tuple[Entitlement, ...]
    ignored: tuple[Ignored, ...]


def read_entitlements(lines: Iterable[SignableLine], hostids: Sequence[str]) -> Entitlements:
    """Return what *lines*, which stand in the order of their file, let people have.

    Pass only verified lines.
    """
    kept, ignored = effective_lines(lines, hostids)
    packages = [line for line in kept if isinstance(line, PackageLine)]
    found = _upgraded(line for line in kept if not isinstance(line, PackageLine))
    if packages:
        found = _unpacked(found, packages, ignored)
    found.sort(key=lambda each: sort_key(each.line))
    return Entitlements(tuple(found), tuple(ignored))


# --- UPGRADE ------------------------------------------------------------------------------------------


def _upgraded(lines: Iterable[FeatureLine | UpgradeLine]) -> list[Entitlement]:
    found: list[Entitlement] = []
    for line in lines:
        if isinstance(line, FeatureLine):
            found.append(Entitlement(line=line, sources=(line,)))
            continue
        place = _closest(found, line)
        if place is None:
            continue
        old = found[place]
        taken = min(line.count or COUNT_MAX, old.line.count or COUNT_MAX)
        left = old.line.count - taken
        new = _remade(old, line, 0 if taken == COUNT_MAX else taken)
        if old.line.count and left:
            found[place] = attrs.evolve(old, line=attrs.evolve(old.line, count=left))
        elif old.line.count or not line.count:
            del found[place]
        found.append(new)
    return found


def _closest(found: list[Entitlement], line: UpgradeLine) -> int | None:
    low, high = parse_version(line.from_version), parse_version(line.version)
    for place in range(len(found) - 1, -1, -1):
        other = found[place].line
        if (
            other.name == line.name
            and other.vendor == line.vendor
            and low <= parse_version(other.version) < high
        ):
            return place
    return None


def _remade(old: Entitlement, line: UpgradeLine, count: int) -> Entitlement:
    own = {attribute.key for attribute in line.attributes}
    attributes = line.attributes + tuple(
        attribute for attribute in old.line.attributes if attribute.key not in own | {"OVERDRAFT"}
    )
    made = attrs.evolve(
        old.line, keyword="INCREMENT", version=line.version, expiry=line.expiry,
        expiry_text=line.expiry_text, count=count, count_text=str(count),
        start=line_start(line) or old.line.start, attributes=attributes,
    )  # fmt: skip
    return Entitlement(line=made, sources=(*old.sources, line))


def _overdraft(line: FeatureLine) -> int:
    text = line.value("OVERDRAFT") or ""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 9 else 0


# --- PACKAGE ------------------------------------------------------------------------------------------


def _unpacked(
    found: list[Entitlement], packages: list[PackageLine], ignored: list[Ignored]
) -> list[Entitlement]:
    """Give each line that enables a package its components. Of two PACKAGE lines that fit a line the
    first counts."""
    result: list[Entitlement] = []
    by_name: dict[tuple[str, str], list[PackageLine]] = {}
    for package in packages:
        by_name.setdefault((package.vendor, package.name), []).append(package)
    for each in found:
        line = each.line
        chosen = next(
            (
                package
                for package in by_name.get((line.vendor, line.name), ())
                if not package.version
                or parse_version(package.version) == parse_version(line.version)
            ),
            None,
        )
        if chosen is None:
            result.append(each)
            continue
        result.append(attrs.evolve(each, package=chosen))
        if len(result) + len(chosen.components) > ENTITLEMENTS_MAX:
            ignored.append(Ignored(line, chosen, TOO_MANY))
            continue
        result += _components(each, chosen)
    return result


def _components(each: Entitlement, package: PackageLine) -> list[Entitlement]:
    line = each.line
    made = []
    for component in package.components:
        number = 1 if component.number is None else component.number
        count = min(line.count * number, COUNT_MAX)
        made.append(
            Entitlement(
                line=attrs.evolve(
                    line, name=component.name, version=component.version or line.version,
                    count=count, count_text=str(count),
                ),
                sources=(package, *each.sources),
                suite=line if package.is_suite else None,
                factor=number,
            )
        )  # fmt: skip
    return made
