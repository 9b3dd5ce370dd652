"""Text to words: physical lines, continuations, comments, quotes.

A statement is one logical line. It goes on behind a backslash at the end of a physical line, also
where blanks or a comment follow the backslash; behind a quote or brace that is still open, where
one of the next lines closes it. A ``#`` at the start of a word outside quotes begins a comment.
Curly quotes, as a word processor makes them, are quotes.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import NamedTuple

LICENSE_SIZE_MAX = 32 * 2**20
"""Characters of a licence file; 10,000 signed lines have about 4 million."""

STATEMENT_SIZE_MAX = 2**17
"""Characters of one logical line, with all of its continuations."""

OPEN_LINES_MAX = 64
"""How many physical lines ahead the end of an open quote is looked for."""

KEY_LENGTH_MAX = 128
"""Characters of the key of a quoted value."""

GAP_MAX = 64
"""Blanks on either side of the ``=`` before a quoted value."""

BLANKS = " \t\f\v\xa0"
CURLY = "“”„‟″\x93\x94"
"""Characters that stand for a straight quote in pasted text; the last two are Windows code page 1252."""

LINE_KEYWORDS = frozenset(
    {"SERVER", "VENDOR", "DAEMON", "USE_SERVER", "FEATURE", "INCREMENT", "PACKAGE", "UPGRADE"}
)

_QUOTES = f'"{CURLY}'
_PHYSICAL = re.compile(r"([^\r\n]*)(\r\n|\n|\r|\Z)")
_SPECIAL = re.compile(f"[{_QUOTES}#{{}}]")
_SPECIAL_OR_EQUALS = re.compile(f"[{_QUOTES}{{=]")
_QUOTE_CHAR = re.compile(f"[{_QUOTES}]")
_BRACE_CHAR = re.compile("[{}]")
_CURLY_CHAR = re.compile(f"[{CURLY}]")
_WINDOW = KEY_LENGTH_MAX + 2 * GAP_MAX + 4
_BLANK = re.compile(f"[{BLANKS}]")
_UNEVEN_BLANKS = re.compile(f"[{BLANKS.strip(' ')}]|  |^ | $")
_BLANK_RUN = re.compile(f"[{BLANKS}]+")
_NOT_BLANK = re.compile(f"[^{BLANKS}]")
_WORD = re.compile(f"[^{BLANKS}]+")
_FIRST_WORD = re.compile(rf"[{BLANKS}]*([A-Za-z_]+)(?=[{BLANKS}]|\\?$)")
_KEY = rf"([^{BLANKS}={{{_QUOTES}]{{1,{KEY_LENGTH_MAX}}})"
_GAP = rf"[{BLANKS}]{{0,{GAP_MAX}}}"
# A brace has no blanks round its =, so that it opens on one physical line or not at all.
_KEY_OPENING = re.compile(rf"{_KEY}(?:{_GAP}={_GAP}(?=[{_QUOTES}])|=(?={{))")
_EQUALS_WORD = re.compile(f"[{BLANKS}]=")
_KEY_WORD = re.compile(rf"{_KEY}=(.*)", re.DOTALL)
_LONE_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Physical(NamedTuple):
    """One physical line: where its content begins and ends, and where the next line begins."""

    start: int
    end: int
    next_start: int


class Token(NamedTuple):
    """One word of a statement: ``text``, or ``key=text``; quotes are taken off."""

    key: str | None
    text: str
    quoted: bool
    at: int
    """Offset in the statement's logical text."""

    @property
    def whole(self) -> str:
        """The word with its key, as a hostid needs it (``ID=77``)."""
        return self.text if self.key is None else f"{self.key}={self.text}"


class Remark(NamedTuple):
    """Something odd that was seen and understood, or not: line, column, code of a problem."""

    line: int
    column: int
    code: str


class Statement(NamedTuple):
    """A logical line whose first word is a line keyword."""

    keyword: str
    first: int
    """Index of its first physical line."""
    last: int
    """Index of its last physical line."""
    logical: str
    """The joined text without comments and continuations."""
    pieces: tuple[tuple[int, int, int], ...]
    """For each joined piece: offset in ``logical``, line number from 1, column from 1."""
    comments: tuple[str, ...]
    remarks: tuple[Remark, ...]

    def position(self, at: int) -> tuple[int, int]:
        """Return line and column of an offset in ``logical``, both from 1."""
        if len(self.pieces) == 1:
            start, line, column = self.pieces[0]
        else:
            start, line, column = self.pieces[bisect_right(self.pieces, (at, 2**62)) - 1]
        return line, column + at - start


def split_physical(text: str) -> list[Physical]:
    """Return the physical lines of a text; ``\\n``, ``\\r\\n`` and a lone ``\\r`` end them."""
    lines = [Physical(m.start(), m.end(1), m.end()) for m in _PHYSICAL.finditer(text)]
    if lines and lines[-1].start == len(text):
        lines.pop()
    return lines


def keyword_of(content: str) -> str:
    """Return the line keyword that a physical line begins with, in capitals, or ""."""
    found = _FIRST_WORD.match(content)
    word = found[1].upper() if found is not None else ""
    return word if word in LINE_KEYWORDS else ""


class _Scan:
    """The state while a statement is put together from physical lines."""

    def __init__(self) -> None:
        self.closers = ""  # of the quote that is open, or ""
        self.depth = 0  # of open braces
        self.opened = (0, 0)  # line and column of what is open
        self.backslash = 0  # the column of the last continuation
        self.comments: list[str] = []
        self.remarks: list[Remark] = []

    @property
    def is_open(self) -> bool:
        return bool(self.closers) or self.depth > 0

    def take(self, content: str, number: int) -> tuple[str, bool]:
        """Return the useful part of one physical line, and whether a backslash continues it."""
        if self.is_open or _SPECIAL.search(content) is not None:
            content = content[: self._useful_end(content, number)]
        useful = content.rstrip(BLANKS)
        if useful.endswith("\\"):
            self.backslash = len(useful)
            return useful[:-1], True
        return useful, False

    def _useful_end(self, content: str, number: int) -> int:
        """Follow quotes and braces; return where the comment begins, or the length."""
        after_close = 0  # a word may begin here without a blank before it
        for found in _SPECIAL.finditer(content):
            at, char = found.start(), found[0]
            if self.closers:
                if char in self.closers:
                    self.closers = ""
                    after_close = at + 1
            elif self.depth:
                self.depth += (char == "{") - (char == "}")
                after_close = at + 1 if self.depth == 0 else after_close
            elif char == "#":
                if at == after_close or content[at - 1] in BLANKS:
                    self.comments.append(content[at:])
                    return at
            elif char == "{":
                is_value = (
                    at > 0 and content[at - 1] == "=" and _is_value(content, at, after_close, 0)
                )
                self.depth = 1 if is_value else 0
                self.opened = (number, at + 1)
            elif char != "}" and (_is_word(content, at, after_close)):
                self.closers = _closers(char)
                self.opened = (number, at + 1)
                if char != '"':
                    self.remarks.append(Remark(number, at + 1, "curly-quotes"))
        if self.closers == '"' and not content.rstrip(BLANKS).endswith("\\"):
            self._close_with_curly(content)
        return len(content)

    def _close_with_curly(self, content: str) -> None:
        """Take a curly quote as the end of a straight one that nothing else closes on its line."""
        if _CURLY_CHAR.search(content, content.rfind('"') + 1) is not None:
            self.closers = ""


def _is_word(content: str, at: int, after_close: int) -> bool:
    """Say whether a word, or the value of a key, begins at ``at``: there a quote opens."""
    return at == after_close or content[at - 1] in BLANKS or _is_value(content, at, after_close)


def _is_value(content: str, at: int, after_close: int, gap_max: int = GAP_MAX) -> bool:
    """Say whether ``KEY=`` stands before ``at``, as _KEY_OPENING has it."""
    # A window, so that a hostile line of nothing but quotes takes linear time.
    before = content[max(after_close, at - _WINDOW) : at]
    head = before.rstrip(BLANKS)
    if not head.endswith("=") or len(before) - len(head) > gap_max:
        return False
    words = head[:-1].rstrip(BLANKS)
    if len(head) - 1 - len(words) > gap_max:
        return False
    key = _BLANK.split(words)[-1]
    return 0 < len(key) <= KEY_LENGTH_MAX and _SPECIAL_OR_EQUALS.search(key) is None


def _closers(opening: str) -> str:
    return '"' if opening == '"' else _QUOTES


def read_statement(text: str, physical: list[Physical], index: int, keyword: str) -> Statement:
    """Put together the statement that begins at physical line ``index``."""
    scan = _Scan()
    parts: list[str] = []
    pieces: list[tuple[int, int, int]] = []
    length = 0
    first = index
    while True:
        start, end, _ = physical[index]
        content = text[start:end]
        skip = 1 if start == 0 and content.startswith("\ufeff") else 0
        if end - start > STATEMENT_SIZE_MAX:
            content = ""
            length = STATEMENT_SIZE_MAX
        useful, continued = scan.take(content[skip:], index + 1)
        pieces.append((length, index + 1, skip + 1))
        parts.append(useful)
        length += len(useful) + 1
        if length > STATEMENT_SIZE_MAX:
            scan.remarks.append(Remark(index + 1, 0, "statement-too-long"))
            break
        if not _goes_on(text, physical, index, continued=continued, scan=scan, keyword=keyword):
            if (
                continued
                and keyword in ("VENDOR", "DAEMON")
                and useful
                and useful[-1] not in BLANKS
            ):
                parts[-1] += "\\"  # the end of a Windows folder, not a continuation
            break
        index += 1
    return Statement(
        keyword,
        first,
        index,
        " ".join(parts),
        tuple(pieces),
        tuple(scan.comments),
        tuple(scan.remarks),
    )


def _goes_on(
    text: str, physical: list[Physical], index: int, *, continued: bool, scan: _Scan, keyword: str
) -> bool:
    if continued:
        if index + 1 >= len(physical):
            if scan.is_open:
                scan.remarks.append(Remark(*scan.opened, "quote-not-closed"))
            else:
                scan.remarks.append(Remark(index + 1, scan.backslash, "backslash-at-end"))
            return False
        start, end, _ = physical[index + 1]
        if not scan.is_open and keyword_of(text[start:end]):
            scan.remarks.append(Remark(index + 1, scan.backslash, "backslash-before-line"))
            return False
        return True
    if not scan.is_open:
        return False
    if _closes_soon(text, physical, index + 1, scan):
        scan.remarks.append(Remark(*scan.opened, "quote-without-backslash"))
        return True
    scan.remarks.append(Remark(*scan.opened, "quote-not-closed"))
    return False


def _closes_soon(text: str, physical: list[Physical], index: int, scan: _Scan) -> bool:
    closers = scan.closers or "}"
    for start, end, _ in physical[index : index + OPEN_LINES_MAX]:
        content = text[start:end]
        bare = content.strip(BLANKS)
        if not bare or bare.startswith("#") or keyword_of(content):
            return False
        if any(char in content for char in closers):
            return True
    return False


def tokenize(logical: str) -> list[Token]:
    """Return the words of a statement's joined text, its keyword first."""
    tokens: list[Token] = []
    at = 0
    length = len(logical)
    while at < length:
        start = _NOT_BLANK.search(logical, at)
        if start is None:
            break
        at = start.start()
        key: str | None = None
        body = at
        named = _KEY_OPENING.match(logical, at)
        if named is not None:
            key, body = named[1], named.end()
        first = logical[body]
        if first in _QUOTES:
            inner, at_next = _quoted(logical, body)
            tokens.append(Token(key, inner, True, at))
        elif key is not None:
            inner, at_next = _braced(logical, body)
            tokens.append(Token(key, inner, False, at))
        else:
            found = _WORD.match(logical, at)
            assert found is not None
            word = found[0]
            parts = _KEY_WORD.fullmatch(word)
            if parts is not None:
                tokens.append(Token(parts[1], parts[2], False, at))
            else:
                tokens.append(Token(None, word, False, at))
            at_next = found.end()
        at = at_next
    return _join_lone_equals(tokens) if _EQUALS_WORD.search(logical) is not None else tokens


def has_curly(text: str) -> bool:
    """Say whether a curly quote stands in a text."""
    return _CURLY_CHAR.search(text) is not None


def _quoted(logical: str, at: int) -> tuple[str, int]:
    """Return the collapsed text of the quoted word at ``at``, and where it ends."""
    if logical[at] == '"':
        end = logical.find('"', at + 1)
        if end < 0:  # a straight quote that a curly one closes, or nothing
            closing = _CURLY_CHAR.search(logical, at + 1)
            end = closing.start() if closing is not None else len(logical)
    else:
        closing = _QUOTE_CHAR.search(logical, at + 1)
        end = closing.start() if closing is not None else len(logical)
    return _collapse(logical[at + 1 : end]), end + 1


def _braced(logical: str, at: int) -> tuple[str, int]:
    depth = 0
    for found in _BRACE_CHAR.finditer(logical, at):
        depth += 1 if found[0] == "{" else -1
        if depth == 0:
            return _collapse(logical[at : found.end()]), found.end()
    return _collapse(logical[at:]), len(logical)


def _collapse(text: str) -> str:
    if _UNEVEN_BLANKS.search(text) is None:
        return text
    return _BLANK_RUN.sub(" ", text).strip(" ")


def _join_lone_equals(tokens: list[Token]) -> list[Token]:
    """Join ``KEY = value`` and ``KEY =value``, which is three or two words by blanks."""
    joined: list[Token] = []
    index = 0
    while index < len(tokens):
        token = tokens[index]
        index += 1
        previous = joined[-1] if len(joined) > 1 else None
        if previous is not None and _is_lone_equals(token) and _is_lone_key(previous):
            value = token.text[1:]
            following = tokens[index] if index < len(tokens) else None
            takes_next = not value and following is not None and _is_word_alone(following)
            if takes_next and following is not None:
                value = following.text
            if not _SPECIAL_OR_EQUALS.search(value):
                joined[-1] = Token(previous.text, value, False, previous.at)
                index += takes_next
                continue
        joined.append(token)
    return joined


def _is_word_alone(token: Token) -> bool:
    return token.key is None and not token.quoted


def _is_lone_equals(token: Token) -> bool:
    return _is_word_alone(token) and token.text.startswith("=")


def _is_lone_key(token: Token) -> bool:
    return _is_word_alone(token) and _LONE_KEY.fullmatch(token.text) is not None
