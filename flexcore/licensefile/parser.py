"""Statements to line values. Nothing stops at the first problem: all of them are collected."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TypeVar

from flexcore.errors import HostidError, LicenseError, LicenseTooLarge
from flexcore.hostid import Hostid, parse_hostids
from flexcore.keys import is_vendor_name

from .lexer import (
    BLANKS,
    LICENSE_SIZE_MAX,
    Statement,
    Token,
    has_curly,
    keyword_of,
    read_statement,
    split_physical,
    tokenize,
)
from .lines import (
    AnyLine,
    Attribute,
    Component,
    FeatureLine,
    OtherKind,
    OtherLine,
    PackageLine,
    Problem,
    ServerLine,
    Severity,
    UpgradeLine,
    UseServerLine,
    VendorLine,
)
from .remarks import remark_problem
from .version import parse_count, parse_date, parse_version

PROBLEMS_MAX = 1000
"""Problems that are kept; the last one then says that there are more."""

ATTRIBUTES_MAX = 200
"""Attributes of one line; SIGN counts them in one byte."""

COMPONENTS_MAX = 5000
"""Components of one PACKAGE line."""

NAME_LENGTH_MAX = 128
"""Characters of a feature's or package's name; the classic limit of 30 is a lint matter."""

T = TypeVar("T")

_NAME = re.compile(r'[^\x00-\x20"=#\\\x7f\xa0][^\x00-\x20"=\\\x7f\xa0]*')
_LEGACY_KEY = re.compile(r"[0-9A-Fa-f]{12,20}")
_LOST_CONTINUATION = re.compile(rf"[{BLANKS}]*(?:SIGN2?|AUTH|[A-Z][A-Z_0-9]+)=\S")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f]+")  # the others are blanks, or end a line
_HOSTID_ADVICE = "write what flexcore lmhostid prints on the server"
_LOOK_ALIKES_MAX = 100  # a near miss of a keyword is looked for in so many lines of prose


class _Broken(Exception):
    """A statement cannot be read; what is wrong has been noted."""


class Parser:
    """Reads one text."""

    def __init__(self, text: str, name: str = "") -> None:
        if len(text) > LICENSE_SIZE_MAX:
            raise LicenseTooLarge(
                f"{name or 'the licence file'} has {len(text)} characters, "
                f"more than {LICENSE_SIZE_MAX}"
            )
        self._text = text
        self._physical = split_physical(text)
        self._problems: list[Problem] = []
        self._prose = 0
        self._after_signable = False

    def parse(self) -> tuple[list[AnyLine], list[Problem]]:
        """Return all lines and the problems that were seen on the way."""
        lines: list[AnyLine] = []
        index = 0
        while index < len(self._physical):
            line, index = self._next_line(index)
            lines.append(line)
        return lines, self._problems

    def _next_line(self, index: int) -> tuple[AnyLine, int]:
        start, end, following = self._physical[index]
        content = self._text[start:end]
        bare = content[1:] if start == 0 and content.startswith("\ufeff") else content
        keyword = keyword_of(bare)
        if keyword:
            statement = read_statement(self._text, self._physical, index, keyword)
            text = self._text[start : self._physical[statement.last].next_start]
            return self._statement(statement, text), statement.last + 1
        text = self._text[start:following]
        stripped = bare.strip(BLANKS)
        if not stripped:
            kind = OtherKind.BLANK
        elif stripped.startswith("#"):
            kind = OtherKind.COMMENT
        else:
            kind = OtherKind.TEXT
            self._remark_prose(bare, index + 1)
        if kind is not OtherKind.COMMENT:
            self._after_signable = False
        return OtherLine(kind=kind, text=text, line=index + 1), index + 1

    # --- problems ---------------------------------------------------------------------------------

    def _note(self, problem: Problem) -> None:
        if len(self._problems) < PROBLEMS_MAX:
            self._problems.append(problem)
        elif len(self._problems) == PROBLEMS_MAX:
            self._problems.append(
                Problem(
                    Severity.INFO,
                    0,
                    0,
                    "more-problems",
                    "there are more problems than shown",
                    "correct these first",
                )
            )

    def error(
        self, at: tuple[int, int], code: str, message: str, advice: str = "", *, fatal: bool = False
    ) -> None:
        self._note(Problem(Severity.ERROR, *at, code, message, advice, whole_file=fatal))

    def _warn(self, at: tuple[int, int], code: str, message: str, advice: str = "") -> None:
        self._note(Problem(Severity.WARNING, *at, code, message, advice))

    def _remark_prose(self, content: str, number: int) -> None:
        self._prose += 1
        if self._after_signable and _LOST_CONTINUATION.match(content):
            message = "this looks like the rest of the line above, and is ignored"
            advice = "end the line above with a backslash, or join the two"
            self._warn((number, 1), "lost-continuation", message, advice)
            return
        words = content.split(maxsplit=3)
        if len(words) < 3 or self._prose > _LOOK_ALIKES_MAX or not words[0].isalpha():
            return
        import difflib

        from .lexer import LINE_KEYWORDS

        near = difflib.get_close_matches(words[0].upper(), sorted(LINE_KEYWORDS), 1, 0.8)
        if near and words[0] not in ("Service", "Services", "Servers", "Vendors", "Features"):
            message = f"{words[0]!r} is no keyword, so the line is ignored"
            self._warn((number, 1), "look-alike", message, f"write {near[0]} if that is meant")

    # --- statements -------------------------------------------------------------------------------

    def _statement(self, statement: Statement, text: str) -> AnyLine:
        number = statement.first + 1
        broken = False
        for remark in statement.remarks:
            problem = remark_problem(remark, statement.keyword)
            self._note(problem)
            broken = broken or problem.severity is Severity.ERROR
        self._after_signable = statement.keyword in ("FEATURE", "INCREMENT", "PACKAGE", "UPGRADE")
        try:  # also where a quote is not closed: what else is wrong is told in the same run
            if any(remark.code == "statement-too-long" for remark in statement.remarks):
                raise _Broken
            line = self._read(statement, tokenize(statement.logical), text, number)
            if not broken:
                return line
        except _Broken:
            pass
        return OtherLine(kind=OtherKind.BROKEN, keyword=statement.keyword, text=text, line=number)

    def _read(self, statement: Statement, tokens: list[Token], text: str, number: int) -> AnyLine:
        if tokens[0].key is not None:
            self.error((number, 1), "equals", f"= behind {statement.keyword}", "take it out")
            raise _Broken
        words = tokens[1:]
        if not statement.logical.isprintable():
            self._check_characters(statement)
        match statement.keyword:
            case "SERVER":
                return self._server(statement, words, text, number)
            case "VENDOR" | "DAEMON":
                return self._vendor(statement, words, text, number)
            case "USE_SERVER":
                if words:
                    at = statement.position(words[0].at)
                    self._warn(at, "extra-words", "USE_SERVER takes no arguments", "take them out")
                return UseServerLine(text=text, line=number)
            case "PACKAGE":
                return self._package(statement, words, text, number)
            case "UPGRADE":
                return self._upgrade(statement, words, text, number)
            case _:
                return self._feature(statement, words, text, number)

    def _check_characters(self, statement: Statement) -> None:
        odd = [m.start() for m in _CONTROL.finditer(statement.logical)]
        for at in odd:
            place = statement.position(at)
            self.error(place, "control-character", "a control character", "take it out")
        if odd:
            raise _Broken

    def _server(
        self, statement: Statement, words: list[Token], text: str, number: int
    ) -> ServerLine:
        if len(words) < 2:
            self.error(
                (number, 1), "server-short", "a SERVER line needs a host and a hostid",
                "write SERVER host hostid port", fatal=True,
            )  # fmt: skip
            raise _Broken
        host = self._checked_name(statement, words[0], "host", fatal=True)
        hostids = self._hostids(statement, words[1])
        rest = words[2:]
        port: int | None = None
        if rest and rest[0].key is None and rest[0].text.isdigit():
            port = self._number(statement, rest.pop(0), "port")
        interval: int | None = None
        primary = False
        attributes: list[Attribute] = []
        for token in rest:
            key = (token.key or token.text).upper()
            if key == "PRIMARY_IS_MASTER" and not token.quoted:
                primary = True
            elif token.key is not None and key in ("HEARTBEAT_INTERVAL", "SERVER_TIMEOUT"):
                interval = self._number(statement, token, "interval")
                if key == "SERVER_TIMEOUT":
                    self._note(
                        Problem(
                            Severity.INFO, *statement.position(token.at), "server-timeout",
                            "SERVER_TIMEOUT is the old name of HEARTBEAT_INTERVAL", "rename it",
                        )
                    )  # fmt: skip
            elif token.key is not None and key == "PORT" and port is None:
                port = self._number(statement, token, "port")
            else:
                attributes.append(self._attribute(statement, token))
                if key != "PLAT":
                    self._warn(
                        statement.position(token.at), "server-word",
                        f"{key[:40]!r} means nothing on a SERVER line, and is ignored", "take it out",
                    )  # fmt: skip
        return ServerLine(
            text=text, line=number, host=host, hostid=words[1].whole, hostids=hostids, port=port,
            primary_is_master=primary, heartbeat_interval_s=interval, attributes=tuple(attributes),
        )  # fmt: skip

    def _vendor(
        self, statement: Statement, words: list[Token], text: str, number: int
    ) -> VendorLine:
        if not words or words[0].key is not None or not is_vendor_name(words[0].text):
            self.error(
                (number, 1), "vendor-name", f"a {statement.keyword} line needs a vendor's name",
                "letters, digits, _ and - make one", fatal=True,
            )  # fmt: skip
            raise _Broken
        named: dict[str, Token] = {}
        places = ["PATH", "OPTIONS", "PORT"]
        attributes: list[Attribute] = []
        for token in words[1:]:
            key = token.key.upper() if token.key is not None else ""
            if key in ("OPTIONS", "PORT"):
                named[key] = token
                places = [place for place in places if place not in ("PATH", key)]
            elif token.key is not None and "\\" not in token.key and "/" not in token.key:
                attributes.append(self._attribute(statement, token))
            elif token.text.isdigit() and not token.quoted and "PORT" in places:
                named["PORT"] = token
                places = []
            elif places:
                named[places.pop(0)] = token
            else:
                at = statement.position(token.at)
                advice = "put a path that holds blanks in quotes"
                self._warn(at, "extra-words", "more than path, options and port", advice)
        port = self._number(statement, named["PORT"], "port") if "PORT" in named else None
        return VendorLine(
            text=text, line=number, name=words[0].text, port=port,
            path=named["PATH"].whole if "PATH" in named else "",
            options=named["OPTIONS"].text if "OPTIONS" in named else "",
            attributes=tuple(attributes),
        )  # fmt: skip

    def _feature(
        self, statement: Statement, words: list[Token], text: str, number: int
    ) -> FeatureLine:
        roles = ("name", "vendor", "version", "expiry date", "number of licences")
        fields = self._fields(statement, words, roles)
        legacy, rest = self._legacy_key(words[5:])
        attributes = self._attributes(statement, rest)
        start_text = next((a.value for a in attributes if a.key == "START"), None)
        sound = _Checks(self, statement)
        version = sound.check(words[2], parse_version)
        expiry = sound.check(words[3], parse_date)
        count = sound.check(words[4], parse_count)
        start_at = next((token for token in rest if token.key == "START"), words[0])
        start = sound.check(start_at, parse_date, start_text) if start_text else None
        for token in rest:  # a node lock that cannot be read must not float
            if token.key == "HOSTID" or (token.key is None and token.text == "HOSTID"):
                sound.check(token, parse_hostids, token.text if token.key else "")
        if not sound.all or version is None or count is None:
            raise _Broken
        return FeatureLine(
            text=text, line=number, keyword=statement.keyword, name=fields[0], vendor=fields[1],
            version=fields[2], expiry=expiry, expiry_text=fields[3], count=count,
            count_text=fields[4], start=start, legacy_key=legacy, attributes=attributes,
        )  # fmt: skip

    def _upgrade(
        self, statement: Statement, words: list[Token], text: str, number: int
    ) -> UpgradeLine:
        roles = ("name", "vendor", "old version", "new version", "expiry date", "number")
        fields = self._fields(statement, words, roles)
        legacy, rest = self._legacy_key(words[6:])
        sound = _Checks(self, statement)
        old = sound.check(words[2], parse_version)
        new = sound.check(words[3], parse_version)
        expiry = sound.check(words[4], parse_date)
        count = sound.check(words[5], parse_count)
        if old is not None and new is not None and old >= new:
            at = statement.position(words[2].at)
            self.error(
                at,
                "upgrade-order",
                "an UPGRADE goes from an older to a newer version",
                "swap the two",
            )
            raise _Broken
        if not sound.all or count is None:
            raise _Broken
        return UpgradeLine(
            text=text, line=number, name=fields[0], vendor=fields[1], from_version=fields[2],
            version=fields[3], expiry=expiry, expiry_text=fields[4], count=count,
            count_text=fields[5], legacy_key=legacy, attributes=self._attributes(statement, rest),
        )  # fmt: skip

    def _package(
        self, statement: Statement, words: list[Token], text: str, number: int
    ) -> PackageLine:
        fields = self._fields(statement, words, ("name", "vendor"))
        rest = words[2:]
        version = ""
        if rest and rest[0].key is None and not _LEGACY_KEY.fullmatch(rest[0].text):
            sound = _Checks(self, statement)
            sound.check(rest[0], parse_version)
            if not sound.all:
                raise _Broken
            version = rest.pop(0).text
        legacy, rest = self._legacy_key(rest)
        attributes = self._attributes(statement, rest)
        is_suite = any(a.key == "OPTIONS" and a.value == "SUITE" for a in attributes)
        listed = next((token for token in rest if token.key == "COMPONENTS"), None)
        if listed is None or not listed.text:
            advice = 'write COMPONENTS="feature[:version[:number]] ..."'
            self.error((number, 1), "components", "a PACKAGE line needs COMPONENTS=", advice)
            raise _Broken
        components = self._components(statement, listed, is_suite=is_suite)
        return PackageLine(
            text=text, line=number, name=fields[0], vendor=fields[1], version=version,
            components=components, is_suite=is_suite, legacy_key=legacy, attributes=attributes,
        )  # fmt: skip

    # --- parts of statements ----------------------------------------------------------------------

    def _fields(
        self, statement: Statement, words: list[Token], roles: tuple[str, ...]
    ) -> tuple[str, ...]:
        """Check that the positional fields are there and that name and vendor are sound."""
        for place, role in enumerate(roles):
            if place >= len(words) or words[place].key is not None:
                at = statement.position(words[place].at if place < len(words) else 0)
                form = " ".join([statement.keyword, *(r.replace(" ", "-") for r in roles)])
                self.error(at, "missing-field", f"the {role} is missing", f"write {form} ...")
                raise _Broken
        self._checked_name(statement, words[0], "name")
        if not is_vendor_name(words[1].text):
            at = statement.position(words[1].at)
            message = f"{words[1].text[:40]!r} is no vendor name"
            self.error(at, "vendor-name", message, "letters, digits, _ and - make one")
            raise _Broken
        return tuple(token.text for token in words[: len(roles)])

    def _checked_name(
        self, statement: Statement, token: Token, role: str, *, fatal: bool = False
    ) -> str:
        text = token.whole if role == "host" else token.text
        if len(text) > NAME_LENGTH_MAX or not _NAME.fullmatch(text) or has_curly(text):
            at = statement.position(token.at)
            advice = "write a word without blanks, quotes, # and ="
            self.error(at, f"bad-{role}", f"{text[:40]!r} is no {role}", advice, fatal=fatal)
            raise _Broken
        return text

    def _number(self, statement: Statement, token: Token, what: str) -> int | None:
        """Return a number whose range is checked with the whole file, or None after noting it."""
        text = token.text
        if text.isascii() and text.isdigit() and len(text) <= 9:
            return int(text)
        if text:
            at = statement.position(token.at)
            message = f"{text[:40]!r} is no {what}"
            self.error(at, f"bad-{what}", message, "write a whole number", fatal=True)
        return None

    def _hostids(self, statement: Statement, token: Token) -> tuple[Hostid, ...]:
        try:
            return parse_hostids(token.whole)
        except HostidError as error:
            at = statement.position(token.at)
            self.error(at, "bad-hostid", str(error), _HOSTID_ADVICE, fatal=True)
            raise _Broken from None

    @staticmethod
    def _legacy_key(words: list[Token]) -> tuple[str, list[Token]]:
        if words and words[0].key is None and not words[0].quoted:
            if _LEGACY_KEY.fullmatch(words[0].text):
                return words[0].text, words[1:]
        return "", words

    def _attribute(self, statement: Statement, token: Token) -> Attribute:
        at = statement.position(token.at)
        if token.quoted and has_curly(token.text):
            self._warn(
                at, "mixed-quotes", "a curly quote inside a quoted value", "use straight ones"
            )
        if token.key is None:
            return Attribute(token.text, None, token.quoted, *at)
        return Attribute(token.key, token.text, token.quoted, *at)

    def _attributes(self, statement: Statement, words: Iterable[Token]) -> tuple[Attribute, ...]:
        attributes = tuple([self._attribute(statement, token) for token in words])
        if len(attributes) > ATTRIBUTES_MAX:
            message = f"more than {ATTRIBUTES_MAX} attributes on a line"
            at = attributes[ATTRIBUTES_MAX][3:5]
            self.error(at, "too-many-attributes", message, "split the line")
            raise _Broken
        return attributes

    def _components(
        self, statement: Statement, token: Token, *, is_suite: bool
    ) -> tuple[Component, ...]:
        words = token.text.split()
        at = statement.position(token.at)
        if len(words) > COMPONENTS_MAX:
            self.error(
                at, "components", f"more than {COMPONENTS_MAX} components", "split the package"
            )
            raise _Broken
        components = []
        for word in words:
            name, *more = word.split(":")
            try:
                if not name or len(more) > 2:
                    raise LicenseError(f"{word[:40]!r} is no component")
                version = more[0] if more else ""
                if version:
                    parse_version(version)
                number = parse_count(more[1]) if len(more) == 2 else None
            except LicenseError as error:
                self.error(at, "components", str(error), "write feature[:version[:number]]")
                raise _Broken from None
            if is_suite and number is not None:
                message = f"the component {word[:40]!r} of a suite has a number of licences"
                self.error(at, "components", message, "only a PACKAGE without OPTIONS=SUITE may")
                raise _Broken
            components.append(Component(name, version, number))
        return tuple(components)


class _Checks:
    """Runs all checks of a line's fields before the line is given up."""

    def __init__(self, parser: Parser, statement: Statement) -> None:
        self._parser = parser
        self._statement = statement
        self.all = True

    def check(self, token: Token, read: Callable[[str], T], text: str | None = None) -> T | None:
        """Return what ``read`` makes of the token's text, or note why it cannot and return None."""
        try:
            return read(token.text if text is None else text)
        except LicenseError as error:
            self.all = False
            at = self._statement.position(token.at)
            message, _, advice = str(error).partition(": ")
            code = f"bad-{read.__name__.removeprefix('parse_')}"
            self._parser.error(at, code, message, advice or "correct it")
            return None
