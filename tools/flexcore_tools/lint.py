"""``flexcore lint``: say everything that is wrong with a licence file."""

from __future__ import annotations

import argparse
from collections import Counter

from flexcore.errors import ConfigurationError
from flexcore.licensefile import LicenseFile, Problem, Severity, lint_license
from flexcore.licensefile.lint import format_problems

from ._files import read_bytes, read_license, today

HELP = """\
Say all problems of a licence file at once, each with line, column and what to do: errors, warnings,
and what is worth knowing (info). The exit status is 1 if there is an error.

With --options, say all problems of an options file: unknown keywords, features that the licence
file does not have, groups that do not exist, rules that can never match, reservations beyond the
count."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument("file", metavar="FILE", help="the licence file (- for stdin)")
    parser.add_argument("--options", metavar="FILE",
                        help="check this options file instead, beside the licence file")  # fmt: skip
    parser.add_argument("--vendor", metavar="NAME",
                        help="whose options they are (default: of the first VENDOR line)")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Run it."""
    license = read_license(args.file)
    name, problems = license.name, lint_license(license, today())
    if args.options is not None:
        name, problems = args.options, _options_problems(args, license)
    print(format_problems(problems, name), end="")
    numbers = Counter(problem.severity for problem in problems)
    counts = ", ".join(_plural(numbers[severity], severity) for severity in Severity)
    print(f"{name}: {counts}")
    return 1 if numbers[Severity.ERROR] else 0


def _options_problems(args: argparse.Namespace, license: LicenseFile) -> tuple[Problem, ...]:
    from flexcore.options import lint_options, parse_options
    from flexcore.options.parser import OPTIONS_SIZE_MAX

    vendors = [line.name for line in license.vendors]
    if args.vendor and args.vendor.casefold() not in [name.casefold() for name in vendors]:
        raise ConfigurationError(
            f"{license.name} has no VENDOR line of {args.vendor}, but of {', '.join(vendors) or 'nobody'}"
        )
    options = parse_options(read_bytes(args.options, OPTIONS_SIZE_MAX), name=args.options)
    return lint_options(options, license, args.vendor or "")


def _plural(number: int, severity: Severity) -> str:
    if severity is Severity.INFO:
        return f"{number} to know"
    return f"{number} {severity}{'s' * (number != 1)}"
