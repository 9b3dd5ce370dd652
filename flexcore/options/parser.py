"""Text to an :class:`~flexcore.options.rules.OptionsFile`: every problem is collected, none stops it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from flexcore.errors import LicenseTooLarge
from flexcore.licensefile.lines import Problem, Severity
from flexcore.licensefile.reader import decode_license

from .rules import (
    AccessRule,
    CountRule,
    FeatureNumber,
    FeatureSpec,
    Group,
    OptionsFile,
    Rule,
    Setting,
    Subject,
    SubjectType,
)
from .vocabulary import KEYWORDS, REDUNDANCY_WORDS, TYPES, Keyword, Shape
from .words import Oddity, Statement, Word, read_statements

OPTIONS_SIZE_MAX = 8 * 2**20
"""Characters of an options file; 100,000 rules have about 4 million."""

RULES_MAX = 200_000
PROBLEMS_MAX = 1_000
NAME_MAX = 1_024
WORD_SHOWN_MAX = 40
"""Characters of a name, a pattern or a value; a path may have as many."""

NUMBER_MAX = 1_000_000_000
TIMEOUT_MIN_S = 900
"""A shorter TIMEOUT counts as this (reference, a13)."""

_PATH_KEYWORDS = frozenset(k.name for k in KEYWORDS.values() if k.shape is Shape.PATH)
_SPEC = re.compile(r"(.*?)[: ]+([A-Za-z_]+)=(.*)\Z", re.DOTALL)
_ODDITIES = {
    "quote-not-closed": (Severity.ERROR, "this quote is not closed on its line", "close it"),
    "stray-quote": (Severity.WARNING, "a quote in the middle of a word is left out",
                    "put the whole word in quotes"),
    "curly-quotes": (Severity.INFO, "curly quotes are read as straight ones",
                     "paste without a word processor"),
    "backslash-at-end": (Severity.WARNING, "nothing follows this backslash",
                         "take it out, or add the line that is missing"),
}  # fmt: skip


class _Unreadable(Exception):
    """A line cannot be used; caught by the parser."""

    def __init__(self, word: Word, code: str, message: str, advice: str) -> None:
        super().__init__(message)
        self.problem = Problem(Severity.ERROR, word.line, word.column, code, message, advice)


def parse_options(text: str | bytes, *, name: str = "") -> OptionsFile:
    """Read an options file. Every problem is collected; none stops the reading.

    Args:
        text: the file's text, or its bytes: UTF-8, or else Latin-1 (which every byte is).
        name: what messages call the file.

    Raises:
        LicenseTooLarge: more than ``OPTIONS_SIZE_MAX`` characters or ``RULES_MAX`` rules.
    """
    what = name or "the options file"
    if len(text) > OPTIONS_SIZE_MAX:
        raise LicenseTooLarge(f"{what} has more than {OPTIONS_SIZE_MAX} characters")
    if isinstance(text, bytes):
        text = decode_license(text)[0]
    parser = _Parser()
    for statement in read_statements(text, _PATH_KEYWORDS):
        parser.take(statement)
        if len(parser.rules) > RULES_MAX:
            raise LicenseTooLarge(f"{what} has more than {RULES_MAX} rules")
    problems = sorted(parser.problems, key=lambda problem: (problem.line, problem.column))
    if parser.problems_left_out:
        problems.append(
            Problem(Severity.WARNING, 0, 0, "more-problems",
                    f"{parser.problems_left_out} more problems are not shown",
                    "is this an options file?")
        )  # fmt: skip
    return OptionsFile(name=name, rules=tuple(parser.rules), problems=tuple(problems))


class _Parser:
    def __init__(self) -> None:
        self.rules: list[Rule] = []
        self.problems: list[Problem] = []
        self.problems_left_out = 0

    def take(self, statement: Statement) -> None:
        """Read one statement into rules and problems."""
        first = statement.words[0]
        if statement.too_long:
            self._add(Problem(Severity.ERROR, first.line, first.column, "line-too-long",
                              "this line, with what a backslash joins to it, is too long",
                              "write several GROUP lines of one name: they add up"))  # fmt: skip
            return
        for oddity in statement.oddities:
            self._add(_oddity(oddity))
        if any(oddity.code == "quote-not-closed" for oddity in statement.oddities):
            return
        keyword = KEYWORDS.get(first.text.upper())
        if keyword is None:
            self._add(_unknown(first))
            return
        for word in statement.words[1:]:
            if len(word.text) > NAME_MAX:
                self._add(Problem(Severity.ERROR, word.line, word.column, "word-too-long",
                                  f"a word of {len(word.text)} characters",
                                  f"{NAME_MAX} are the most"))  # fmt: skip
                return
        try:
            self.rules.extend(self._read(keyword, first, statement.words[1:]))
        except _Unreadable as unreadable:
            self._add(unreadable.problem)

    def _add(self, problem: Problem) -> None:
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(problem)
        else:
            self.problems_left_out += 1

    def _remark(self, word: Word, code: str, message: str, advice: str = "",
                severity: Severity = Severity.WARNING) -> None:  # fmt: skip
        self._add(Problem(severity, word.line, word.column, code, message, advice))

    def _read(self, keyword: Keyword, first: Word, words: Sequence[Word]) -> Sequence[Rule]:
        name, line, column = keyword.name, first.line, first.column
        match keyword.shape:
            case Shape.ACCESS:
                self._expect(keyword, first, words, 3)
                return [AccessRule(keyword=name, line=line, column=column,
                                   feature=_spec(words[0]), subject=self._subject(words[1:]))]  # fmt: skip
            case Shape.ACCESS_ALL:
                self._expect(keyword, first, words, 2)
                return [AccessRule(keyword=name, line=line, column=column, feature=None,
                                   subject=self._subject(words))]  # fmt: skip
            case Shape.COUNT:
                self._expect(keyword, first, words, 4)
                return [CountRule(keyword=name, line=line, column=column,
                                  number=_number(words[0], keyword), feature=_spec(words[1]),
                                  subject=self._subject(words[2:]))]  # fmt: skip
            case Shape.FEATURE_NUMBER:
                self._expect(keyword, first, words, 2, most=2)
                number = self._at_least(keyword, words[1], _number(words[1], keyword))
                return [FeatureNumber(keyword=name, line=line, column=column,
                                      feature=_spec(words[0]), number=number)]  # fmt: skip
            case Shape.NUMBER:
                self._expect(keyword, first, words, 1, most=1)
                number = self._at_least(keyword, words[0], _number(words[0], keyword))
                return [Setting(keyword=name, line=line, column=column, value=str(number))]
            case Shape.GROUP:
                self._expect(keyword, first, words, 1)
                return [self._group(keyword, first, words)]
            case Shape.PATH | Shape.FREE:
                self._expect(keyword, first, words, 1 if keyword.shape is Shape.PATH else 0)
                value = " ".join(word.text for word in words).strip(" ")
                if keyword.shape is Shape.PATH and not value.removeprefix("+"):
                    raise _Unreadable(words[0], "no-name", f"{name} names no file", "name one")
                return [Setting(keyword=name, line=line, column=column, value=_sized(value, first))]
            case Shape.CHOICE:
                return self._choice(keyword, first, words)

    def _expect(
        self, keyword: Keyword, first: Word, words: Sequence[Word], least: int, most: int = 0
    ) -> None:
        """Complain of too few words; warn of more than *most*, which are ignored."""
        if len(words) < least:
            raise _Unreadable(first, "too-few-words", f"{keyword.name} lacks something",
                              f"it reads: {keyword.name} {keyword.shape.value}")  # fmt: skip
        if most and len(words) > most:
            self._remark(words[most], "too-many-words",
                         f"{keyword.name} ignores what stands from {words[most].text!r} on",
                         "begin a comment with #")  # fmt: skip

    def _at_least(self, keyword: Keyword, word: Word, number: int) -> int:
        if keyword.name in ("TIMEOUT", "TIMEOUTALL") and 0 < number < TIMEOUT_MIN_S:
            self._remark(word, "timeout-too-short",
                         f"{number} seconds count as {TIMEOUT_MIN_S}, the least",
                         f"write {TIMEOUT_MIN_S}")  # fmt: skip
            return TIMEOUT_MIN_S
        return number

    def _subject(self, words: Sequence[Word]) -> Subject:
        kind = words[0].text.upper()
        if kind not in TYPES:
            close = difflib.get_close_matches(kind, TYPES, 1)
            raise _Unreadable(words[0], "unknown-type", f"{words[0].text!r} is no type of subject",
                              f"did you mean {close[0]}?" if close
                              else f"the types are {', '.join(TYPES)}")  # fmt: skip
        if len(words) > 2:
            self._remark(words[2], "name-with-blanks",
                         f"the whole rest of the line is taken for one {kind}",
                         "put a name with blanks in quotes; a comment begins with #")  # fmt: skip
        name = " ".join(word.text for word in words[1:]).strip(" ")
        if not name:
            raise _Unreadable(words[1], "no-name", f"{kind} names nobody", "name somebody, or *")
        return Subject(SubjectType(kind), _sized(name, words[1]))

    def _group(self, keyword: Keyword, first: Word, words: Sequence[Word]) -> Group:
        members: list[str] = []
        for word in words[1:]:
            parts = [word.text] if word.quoted else word.text.split(",")
            members.extend(part for part in parts if part)
        if not words[0].text:
            raise _Unreadable(words[0], "no-name", "a group without a name", "give it one")
        if not members:
            self._remark(words[0], "empty-group",
                         f"{keyword.name} {words[0].text} has no members",
                         "no rule about it matches anybody")  # fmt: skip
        return Group(keyword=keyword.name, line=first.line, column=first.column,
                     name=words[0].text, members=tuple(members))  # fmt: skip

    def _choice(self, keyword: Keyword, first: Word, words: Sequence[Word]) -> Sequence[Rule]:
        if not words and keyword.name == "AUTOMATIC_REREAD":
            words = [first._replace(text="ON")]
        self._expect(keyword, first, words, 1)
        rules = []
        for word in words if keyword.name == "NOLOG" else words[:1]:
            value = word.text.upper()
            if value not in keyword.choices:
                raise _Unreadable(word, "unknown-word",
                                  f"{keyword.name} does not know {word.text!r}",
                                  f"it takes {' or '.join(keyword.choices)}")  # fmt: skip
            rules.append(Setting(keyword=keyword.name, line=first.line, column=first.column,
                                 value=value))  # fmt: skip
        if keyword.name == "NOLOG" and len(words) > 1:
            self._remark(words[1], "one-a-line", "NOLOG takes one kind a line by the manual",
                         "all of them are taken here; write a line for each", Severity.INFO)  # fmt: skip
        elif len(words) > 1:
            self._expect(keyword, first, words, 1, most=1)
        return rules


def _oddity(oddity: Oddity) -> Problem:
    severity, message, advice = _ODDITIES[oddity.code]
    return Problem(severity, oddity.line, oddity.column, oddity.code, message, advice)


def _unknown(word: Word) -> Problem:
    said = word.text[:64]
    if word.text.partition("=")[0].upper() in REDUNDANCY_WORDS:
        return Problem(Severity.WARNING, word.line, word.column, "redundancy",
                       f"{said} is no option: no option changes the redundancy, and the line is"
                       " ignored", "it stands on the SERVER lines of the licence file")  # fmt: skip
    close = difflib.get_close_matches(said.upper(), list(KEYWORDS), 1)
    return Problem(Severity.WARNING, word.line, word.column, "unknown-keyword",
                   f"there is no option {said!r}; the line is ignored",
                   f"did you mean {close[0]}?" if close else "take it out")  # fmt: skip


def _spec(word: Word) -> FeatureSpec:
    found = _SPEC.match(word.text)
    name, key, value = (found[1], found[2].upper(), found[3]) if found else (word.text, "", "")
    name, value = name.strip(" "), value.strip(" ")
    if not name:
        raise _Unreadable(word, "no-name", "a feature without a name", "name one")
    if ":" in name and not key:
        raise _Unreadable(word, "bad-specification", f"{word.text!r} specifies no pool",
                          "write feature:KEYWORD=value, such as f1:VERSION=2.0")  # fmt: skip
    return FeatureSpec(name, key, value)


def _number(word: Word, keyword: Keyword) -> int:
    text = word.text
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= NUMBER_MAX):
        raise _Unreadable(word, "not-a-number", f"{text[:WORD_SHOWN_MAX]!r} is no number of {keyword.unit}",
                          f"write digits, at most {NUMBER_MAX}")  # fmt: skip
    return int(text)


def _sized(text: str, word: Word) -> str:
    if len(text) > NAME_MAX:
        raise _Unreadable(word, "word-too-long", f"{len(text)} characters",
                          f"{NAME_MAX} are the most")  # fmt: skip
    return text
