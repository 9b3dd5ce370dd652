"""Named users and hosts: whom the INCLUDE lines of a pool with USER_BASED or HOST_BASED name, and how
many of them the licence lets them name.

The manuals say that users (hosts) have to be named in INCLUDE lines, and up to how many; the rest is
decided here:

* USER_BASED counts the names of ``USER`` and of the members of a ``GROUP``; HOST_BASED those of ``HOST``,
  of the members of a ``HOST_GROUP`` and of ``INTERNET``. INCLUDEALL lines name too.
* A pattern with ``*`` or ``?`` names nobody: it would name any number.
* A name counts once, however often it stands there, and so do names of which one means all whom the others
  mean: ``elm`` and ``elm.site.com``, or ``ann`` in any case (GROUPCASEINSENSITIVE) and ``ann``.
* The first ones in the order of the file count, up to the limit; those behind are as if they stood in no
  INCLUDE line (-39).
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from .patterns import Requester, parse_address_pattern, same_host, same_name
from .rules import AccessRule, OptionsFile, SubjectType


class Naming(enum.StrEnum):
    """Whose names are meant."""

    USERS = "USER_BASED"
    HOSTS = "HOST_BASED"

    @property
    def noun(self) -> str:
        """``users`` or ``hosts``."""
        return "users" if self is Naming.USERS else "hosts"


_TYPES = {
    Naming.USERS: (SubjectType.USER, SubjectType.GROUP),
    Naming.HOSTS: (SubjectType.HOST, SubjectType.HOST_GROUP, SubjectType.INTERNET),
}
_GROUPS = {SubjectType.GROUP: "GROUP", SubjectType.HOST_GROUP: "HOST_GROUP"}


class Name(NamedTuple):
    """A name, and the line that names it first."""

    text: str
    rule: AccessRule
    is_he: Callable[[Requester], bool]


class NamedList:
    """All names of one kind, in the order of the file, each once."""

    def __init__(self, options: OptionsFile, rules: Iterable[AccessRule], naming: Naming) -> None:
        self.names: tuple[Name, ...] = tuple(_names(options, rules, naming))

    def __len__(self) -> int:
        return len(self.names)

    def place_of(self, who: Requester) -> int | None:
        """Return where *who* stands among the names, counted from 0, or None."""
        return next((place for place, name in enumerate(self.names) if name.is_he(who)), None)


def _names(options: OptionsFile, rules: Iterable[AccessRule], naming: Naming) -> Iterator[Name]:
    names: list[Name | None] = []
    alike: dict[object, dict[str, int]] = {}
    """Where names stand in *names*, those that may mean the same one together; "" is one that means them all."""
    for rule in sorted(rules, key=lambda rule: (rule.line, rule.column)):
        kind = rule.subject.type
        if rule.is_exclude or kind not in _TYPES[naming]:
            continue
        members: tuple[str, ...] = (rule.subject.name,)
        if kind in _GROUPS:
            members = options.groups(_GROUPS[kind]).get(rule.subject.name, ())
        folds = kind is SubjectType.GROUP and options.groups_ignore_case
        for text in members:
            if "*" in text or "?" in text:
                continue
            key, narrow = _key(options, naming, text, folds)
            places = alike.setdefault(key, {})
            if "" in places or narrow in places:
                continue
            name = Name(text, rule, _matcher(options, naming, text, folds))
            if narrow or not places:
                places[narrow] = len(names)
                names.append(name)
                continue
            first, *others = places.values()
            narrower = names[first]
            assert narrower is not None
            names[first] = narrower._replace(is_he=name.is_he)
            for place in others:
                names[place] = None
            places[""] = first
    return (name for name in names if name is not None)


def _key(options: OptionsFile, naming: Naming, text: str, folds: bool) -> tuple[object, str]:
    """Return what names have in common that may mean the same one, and which of them *text* means; "": all."""
    folded = text.casefold()
    if naming is Naming.USERS:
        return folded, "" if folds else text
    address = parse_address_pattern(text)
    if address is not None:
        return address, ""
    if options.matches_full_names:
        return folded, ""
    short, dot, _ = folded.partition(".")
    return short, folded if dot else ""


def _matcher(
    options: OptionsFile, naming: Naming, text: str, folds: bool
) -> Callable[[Requester], bool]:
    if naming is Naming.USERS:
        return lambda who: same_name(text, who.user, ignore_case=folds)
    address = parse_address_pattern(text)
    if address is not None:
        return lambda who: address.matches(who.address) or address.matches(who.host)
    full = options.matches_full_names
    return lambda who: same_host(text, who.host, full_names=full)
