"""Text to words: physical lines, continuations, comments, quotes.

A line goes on behind a backslash at its end (blanks or a comment may follow the backslash). ``#`` at
the start of a word begins a comment. A quote opens at the start of a word or behind an ``=``, and is
closed on its line, or on one that a backslash joins to it. Curly quotes count as straight ones.
Blanks inside quotes are kept, a run of them as one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from flexcore.licensefile.lexer import BLANKS, CURLY, split_physical

STATEMENT_SIZE_MAX = 2**17
"""Characters of one line with all of its continuations."""

_CURLY_TO_STRAIGHT = {ord(char): '"' for char in CURLY}
_BLANK_RUN = re.compile(f"[{BLANKS}]+")


class Word(NamedTuple):
    """One word, its quotes taken off."""

    text: str
    quoted: bool
    line: int
    column: int


class Oddity(NamedTuple):
    """Something odd that was seen: where, and the code of a problem."""

    line: int
    column: int
    code: str


class Statement(NamedTuple):
    """The words of one line with its continuations; at least one."""

    words: tuple[Word, ...]
    oddities: tuple[Oddity, ...]
    too_long: bool = False


class _Reader:
    """Puts the words of one statement together, character by character."""

    def __init__(self) -> None:
        self.words: list[Word] = []
        self.oddities: list[Oddity] = []
        self.in_quotes = False
        self.size = 0
        self._text: list[str] = []
        self._quoted = False
        self._opened = (0, 0)
        self._at: tuple[int, int] | None = None

    def take(self, content: str, line: int, column: int) -> None:
        """Take one physical line, without comment and continuation."""
        self.size += len(content) + 1
        for offset, char in enumerate(content):
            at = (line, column + offset)
            if char == '"':
                self._quote(at)
            elif char in BLANKS and not self.in_quotes:
                self.end_word()
            else:
                if self._at is None:
                    self._at = at
                self._text.append(char)
        if self.in_quotes:
            self._text.append(" ")
        else:
            self.end_word()

    def _quote(self, at: tuple[int, int]) -> None:
        if self.in_quotes:
            self.in_quotes = False
        elif self._at is None or self._text[-1:] == ["="]:
            self.in_quotes = self._quoted = True
            self._opened = at
            self._at = self._at or at
        else:
            self.oddities.append(Oddity(*at, "stray-quote"))

    def end_word(self) -> None:
        """A blank, or the end of a line: what was gathered is a word."""
        if self._at is not None:
            text = _BLANK_RUN.sub(" ", "".join(self._text)).strip(" ")
            self.words.append(Word(text, self._quoted, *self._at))
        self._text, self._quoted, self._at = [], False, None

    def end(self) -> None:
        """The statement is over."""
        if self.in_quotes:
            self.oddities.append(Oddity(*self._opened, "quote-not-closed"))
        self.end_word()


def read_statements(text: str, path_keywords: frozenset[str]) -> Iterator[Statement]:
    """Return the statements of a text in order; empty lines and comments are none.

    *path_keywords* begin lines that may end in a Windows folder: there a backslash right behind a
    word is part of it unless it stands alone.
    """
    physical = split_physical(text)
    index = 0
    while index < len(physical):
        reader = _Reader()
        while True:
            start, end, _ = physical[index]
            number = index + 1
            index += 1
            skip = 1 if start == 0 and text.startswith("\ufeff") else 0
            if end - start + reader.size > STATEMENT_SIZE_MAX:
                reader.size = STATEMENT_SIZE_MAX + 1
                content, continued = "", text[start:end].endswith("\\")
            else:
                content, continued = _useful(
                    text[start + skip : end], number, skip, reader, path_keywords
                )
            if reader.size <= STATEMENT_SIZE_MAX:
                reader.take(content, number, skip + 1)
            if not continued:
                break
            if index == len(physical):
                reader.oddities.append(Oddity(number, end - start, "backslash-at-end"))
                break
        reader.end()
        too_long = reader.size > STATEMENT_SIZE_MAX
        words = tuple(reader.words) or ((Word("", False, number, 1),) if too_long else ())
        if words:
            yield Statement(words, tuple(reader.oddities), too_long)


def _useful(
    content: str, number: int, skip: int, reader: _Reader, path_keywords: frozenset[str]
) -> tuple[str, bool]:
    """Return what counts of one physical line, and whether the next one continues it."""
    straight = content.translate(_CURLY_TO_STRAIGHT)
    if straight != content:
        at = next(i for i, (a, b) in enumerate(zip(content, straight, strict=True)) if a != b)
        reader.oddities.append(Oddity(number, at + 1 + skip, "curly-quotes"))
    useful = straight[: _comment_at(straight, reader.in_quotes)].rstrip(BLANKS)
    if not useful.endswith("\\"):
        return useful, False
    first = reader.words[0].text if reader.words else useful.split(None, 1)[0]
    if first.upper() in path_keywords and not useful[:-1].endswith(tuple(BLANKS)):
        return useful, False
    return useful[:-1], True


def _comment_at(content: str, in_quotes: bool) -> int:
    """Return where the comment of a physical line begins, or its length."""
    if "#" not in content:
        return len(content)
    before = " "
    word_is_empty = True
    for at, char in enumerate(content):
        if char == '"':
            if in_quotes:
                in_quotes = False
            elif word_is_empty or before == "=":
                in_quotes = True
            word_is_empty = False
        elif not in_quotes:
            if char == "#" and (word_is_empty or before == "\\"):
                return at
            word_is_empty = char in BLANKS
        before = char
    return len(content)
