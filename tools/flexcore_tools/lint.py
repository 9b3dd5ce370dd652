"""``flexcore lint``: say everything that is wrong with a licence file."""

from __future__ import annotations

import argparse
from collections import Counter

from flexcore.licensefile import Severity, lint_license
from flexcore.licensefile.lint import format_problems

from ._files import read_license, today

HELP = """\
Say all problems of a licence file at once, each with line, column and what to do: errors, warnings,
and what is worth knowing (info). The exit status is 1 if there is an error."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument("file", metavar="FILE", help="the licence file (- for stdin)")


def run(args: argparse.Namespace) -> int:
    """Run it."""
    license = read_license(args.file)
    problems = lint_license(license, today())
    print(format_problems(problems, license.name), end="")
    numbers = Counter(problem.severity for problem in problems)
    counts = ", ".join(_plural(numbers[severity], severity) for severity in Severity)
    print(f"{license.name}: {counts}")
    return 1 if numbers[Severity.ERROR] else 0


def _plural(number: int, severity: Severity) -> str:
    if severity is Severity.INFO:
        return f"{number} to know"
    return f"{number} {severity}{'s' * (number != 1)}"
