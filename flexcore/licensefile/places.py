"""Where a word of a line stands, for problems that are found after the line was read.

The line is read once more: that costs nothing until something is wrong, and a line value need not
carry the place of each of its words.
"""

from __future__ import annotations

from typing import TypeAlias

from .lexer import Statement, Token, keyword_of, read_statement, split_physical, tokenize
from .lines import Line

Place: TypeAlias = tuple[int, int]
"""Line and column, both from 1."""


def place_of_word(line: Line, number: int) -> Place:
    """Return where the word with this number stands (0: the keyword), or where the line begins."""
    statement, tokens = _read(line)
    return _place(line, statement, tokens[number] if number < len(tokens) else None)


def place_of_key(line: Line, *keys: str) -> Place:
    """Return where the last word with one of these keys stands, or where the line begins."""
    statement, tokens = _read(line)
    for token in reversed(tokens[1:]):
        if (token.text if token.key is None else token.key).upper() in keys:
            return _place(line, statement, token)
    return line.line, 1


def place_of_text(line: Line, text: str) -> Place:
    """Return where the first word that is this text stands, or where the line begins."""
    statement, tokens = _read(line)
    found = (token for token in tokens if token.key is None and token.text == text)
    return _place(line, statement, next(found, None))


def place_of_port(line: Line) -> Place:
    """Return where the port of a SERVER line stands, or where the line begins."""
    statement, tokens = _read(line)
    if len(tokens) > 3 and tokens[3].key is None and tokens[3].text.isdigit():
        return _place(line, statement, tokens[3])
    return place_of_key(line, "PORT")


def _read(line: Line) -> tuple[Statement, list[Token]]:
    physical = split_physical(line.text)
    keyword = keyword_of(line.text[: physical[0].end].lstrip("\ufeff"))
    statement = read_statement(line.text, physical, 0, keyword)
    return statement, tokenize(statement.logical)


def _place(line: Line, statement: Statement, token: Token | None) -> Place:
    if token is None:
        return line.line, 1
    below, column = statement.position(token.at)
    return line.line + below - 1, column
