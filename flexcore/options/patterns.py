"""Whom a rule is about: names with wildcards, addresses with wildcards, groups.

``*`` stands for any characters and ``?`` for one. Names of users, displays and projects compare
exactly; GROUPCASEINSENSITIVE ON lets the members of groups compare without case. Host names always
compare without case, and a short one equals the first label of a long one (clients send short
names), unless FQDN_MATCHING EXACT, or the pattern has a wildcard and a dot. An address pattern has
``*`` for any part of an IPv4 or IPv6 address; the parts behind a last ``*`` may be left out. A HOST
that looks like an address pattern is one.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeAlias

from .rules import OptionsFile, Subject, SubjectType

_PARTS = {4: 4, 6: 8}


class Requester(NamedTuple):
    """Who asks or holds. *address* is the internet address as text, "" where it is not known."""

    user: str
    host: str
    display: str = ""
    address: str = ""
    project: str = ""

    @property
    def name(self) -> str:
        """``ann@elm``."""
        return f"{self.user}@{self.host}"


Matcher: TypeAlias = Callable[[Requester], bool]


def glob_matches(pattern: str, text: str) -> bool:
    """Say whether *text* is what *pattern* describes. Never slower than their lengths multiplied.

    >>> glob_matches("a*c?", "abbcd"), glob_matches("a*", "ba")
    (True, False)
    """
    at = place = 0
    star, retry = -1, 0
    while place < len(text):
        if at < len(pattern) and pattern[at] == "*":
            star, retry = at, place
            at += 1
        elif at < len(pattern) and pattern[at] in ("?", text[place]):
            at += 1
            place += 1
        elif star >= 0:
            retry += 1
            at, place = star + 1, retry
        else:
            return False
    return pattern[at:].strip("*") == ""


class AddressPattern(NamedTuple):
    """Numbers of an address from the left; None is any. Parts that are missing are any."""

    version: int
    parts: tuple[int | None, ...]

    def matches(self, address: str) -> bool:
        """Say whether a literal address is meant."""
        found = _address_parts(address)
        if found is None or found.version != self.version:
            return False
        return all(
            a is None or a == b for a, b in zip(self.parts, found.parts, strict=False)
        )


def _address_parts(text: str) -> AddressPattern | None:
    try:
        address = ipaddress.ip_address(text.partition("%")[0].strip("[]"))
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return AddressPattern(4, tuple(address.ipv4_mapped.packed))
        raw = address.packed
        return AddressPattern(6, tuple(raw[i] << 8 | raw[i + 1] for i in range(0, 16, 2)))
    return AddressPattern(4, tuple(address.packed))


def parse_address_pattern(text: str) -> AddressPattern | None:
    """Return the pattern that a text is, None if it is none.

    >>> parse_address_pattern("10.0.*")
    AddressPattern(version=4, parts=(10, 0, None))
    >>> parse_address_pattern("elm") is None
    True
    """
    if "*" not in text:
        return _address_parts(text)
    if ":" in text:
        return _ipv6_pattern(text)
    parts: list[int | None] = []
    for word in text.split("."):
        if word == "*":
            parts.append(None)
        elif word.isascii() and word.isdigit() and len(word) <= 3 and int(word) <= 255:
            parts.append(int(word))
        else:
            return None
    return _whole(4, parts)


def _ipv6_pattern(text: str) -> AddressPattern | None:
    head, gap, tail = text.partition("::")
    before = _ipv6_words(head)
    after = _ipv6_words(tail)
    if before is None or after is None:
        return None
    if gap:
        missing = 8 - len(before) - len(after)
        if missing < 1:
            return None
        before = [*before, *[0] * missing, *after]
    return _whole(6, before)


def _ipv6_words(text: str) -> list[int | None] | None:
    parts: list[int | None] = []
    for word in text.split(":") if text else ():
        if word == "*":
            parts.append(None)
        elif 0 < len(word) <= 4 and all(c in "0123456789abcdefABCDEF" for c in word):
            parts.append(int(word, 16))
        else:
            return None
    return parts


def _whole(version: int, parts: list[int | None]) -> AddressPattern | None:
    most = _PARTS[version]
    if len(parts) > most or (len(parts) < most and (not parts or parts[-1] is not None)):
        return None
    if parts == [None] and version == 4:
        return None  # a lone *: any name, not any IPv4 address
    return AddressPattern(version, tuple(parts))


def same_name(pattern: str, text: str, *, ignore_case: bool = False) -> bool:
    """Say whether a user, display or project is meant."""
    if ignore_case:
        pattern, text = pattern.casefold(), text.casefold()
    if "*" in pattern or "?" in pattern:
        return glob_matches(pattern, text)
    return pattern == text


def same_host(pattern: str, host: str, *, full_names: bool = False) -> bool:
    """Say whether a host is meant; see the head of this module."""
    pattern, host = pattern.casefold(), host.casefold()
    if not full_names:
        # *.example.org is not shortened to *, which would be every host.
        if "." not in pattern:
            host = host.partition(".")[0]
        elif "." not in host and "*" not in pattern and "?" not in pattern:
            pattern = pattern.partition(".")[0]
    return same_name(pattern, host)


class Matchers:
    """Makes matchers of the subjects of one options file; each subject's only once."""

    def __init__(self, options: OptionsFile) -> None:
        self._groups = options.groups("GROUP")
        self._host_groups = options.groups("HOST_GROUP")
        self._ignore_case = options.groups_ignore_case
        self._full_names = options.matches_full_names
        self._made: dict[Subject, Matcher] = {}

    def of(self, subject: Subject) -> Matcher:
        """Return the matcher of *subject*; a group that does not exist is nobody."""
        made = self._made.get(subject)
        if made is None:
            made = self._made[subject] = self._make(subject)
        return made

    def _make(self, subject: Subject) -> Matcher:
        name = subject.name
        match subject.type:
            case SubjectType.USER:
                return lambda who: same_name(name, who.user)
            case SubjectType.DISPLAY:
                return lambda who: same_name(name, who.display)
            case SubjectType.PROJECT:
                return lambda who: same_name(name, who.project)
            case SubjectType.HOST:
                return self._host(name)
            case SubjectType.INTERNET:
                pattern = parse_address_pattern(name)
                if pattern is not None:
                    return lambda who: pattern.matches(who.address)
                return lambda who: name == "*" and who.address != ""
            case SubjectType.GROUP:
                return self._group(self._groups.get(name, ()))
            case SubjectType.HOST_GROUP:
                hosts = [self._host(member) for member in self._host_groups.get(name, ())]
                return lambda who: any(host(who) for host in hosts)

    def _host(self, name: str) -> Matcher:
        pattern = parse_address_pattern(name)
        if pattern is not None:
            return lambda who: pattern.matches(who.address) or pattern.matches(who.host)
        full = self._full_names
        return lambda who: same_host(name, who.host, full_names=full)

    def _group(self, members: Iterable[str]) -> Matcher:
        ignore = self._ignore_case
        fold = str.casefold if ignore else str
        plain = frozenset(fold(each) for each in members if "*" not in each and "?" not in each)
        wild = [fold(each) for each in members if "*" in each or "?" in each]
        return lambda who: (
            fold(who.user) in plain or any(glob_matches(each, fold(who.user)) for each in wild)
        )
