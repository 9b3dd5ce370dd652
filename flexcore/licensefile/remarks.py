"""What the lexer noticed, as problems in words."""

from __future__ import annotations

from .lexer import Remark
from .lines import Problem, Severity

_WORDS: dict[str, tuple[Severity, str, str]] = {
    "curly-quotes": (
        Severity.INFO,
        "curly quotes are taken for straight ones",
        'write " so that other programs read the file, too',
    ),
    "statement-too-long": (
        Severity.ERROR,
        "the line, with its continuations, is too long",
        "look for a backslash or a quote that should not be there",
    ),
    "backslash-at-end": (
        Severity.WARNING,
        "the last line ends with a backslash",
        "take it out, or add the line that should follow",
    ),
    "backslash-before-line": (
        Severity.WARNING,
        "a backslash joins this line to the next, which is a line of its own",
        "take the backslash out; they are read as two lines",
    ),
    "quote-without-backslash": (
        Severity.WARNING,
        "a quoted value goes on in the next line without a backslash",
        "end this line with a backslash",
    ),
    "quote-not-closed": (
        Severity.ERROR,
        "a quote or brace is never closed",
        "add the closing one",
    ),
}


def remark_problem(remark: Remark, keyword: str) -> Problem:
    """Return the problem that a remark is; on SERVER and VENDOR lines errors are the file's."""
    severity, message, advice = _WORDS[remark.code]
    whole_file = severity is Severity.ERROR and keyword in ("SERVER", "VENDOR", "DAEMON")
    return Problem(
        severity,
        remark.line,
        max(1, remark.column),
        remark.code,
        message,
        advice,
        whole_file=whole_file,
    )
