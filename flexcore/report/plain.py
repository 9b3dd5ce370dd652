"""What other people chose as a name, made fit to stand in a line that tools read.

Users, hosts, displays and vendor strings come from clients and licence files. A line end in one of
them would forge a line of a log or of lmstat, an escape sequence would act on the terminal, a lone
surrogate would stop the printing program: all of these become ``?``. Blanks in the middle stay, as
in the logs of real installations (D10); letters of any script stay as well.
"""

from __future__ import annotations

import re

# Control characters of ASCII and Latin-1, line and paragraph separators, marks that turn the
# direction of a terminal's text, lone surrogates.
_BAD = "\\x00-\\x08\\x0a-\\x1f\\x7f-\\x9f\\u2028\\u2029\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u2069\\ud800-\\udfff"
_NOT_IN_LINE = re.compile(f"[{_BAD}]")
_NOT_IN_WORD = re.compile(f"[\\t{_BAD}]")


def line_of(text: str) -> str:
    """Return *text* as part of one line: tabs stay, what would break or forge becomes ``?``."""
    if text.isascii() and text.isprintable():  # nearly always, and cheap
        return text
    return _NOT_IN_LINE.sub("?", text)


def word_of(text: str) -> str:
    """Return *text* as a name inside a line: as :func:`line_of`, and tabs become ``?`` too."""
    if text.isascii() and text.isprintable():
        return text
    return _NOT_IN_WORD.sub("?", text)
