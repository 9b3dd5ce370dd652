"""What the log says of an options file that was read (observed formats, D6)."""

from __future__ import annotations

from flexcore.licensefile.lines import Severity

from .rules import AccessRule, CountRule, FeatureNumber, OptionsFile, Rule, Setting, Subject

LINES_MAX = 200
"""So many lines are logged; the file has them all."""

_GROUP_NAMES = {"GROUP": "USER_GROUP"}


def echo_lines(options: OptionsFile) -> list[str]:
    """Return one line a rule that the field's logs repeat, and one for each error and warning."""
    lines = [line for rule in options.rules if (line := _line(rule))]
    lines += [
        f"WARNING: {options.name}:{problem}"
        for problem in options.problems if problem.severity is not Severity.INFO
    ]  # fmt: skip
    if len(lines) > LINES_MAX:
        return [*lines[:LINES_MAX], f"... and {len(lines) - LINES_MAX} more lines about options"]
    return lines


def _line(rule: Rule) -> str:
    match rule:
        case AccessRule():
            where = "ALL FEATURES" if rule.feature is None else rule.feature.printed()
            keyword = rule.keyword.replace("ALL", "", 1) if rule.feature is None else rule.keyword
            return f"{keyword} {_subject(rule.subject)} in {where}"
        case CountRule():
            noun = "license" if rule.number == 1 else "licenses"
            if rule.keyword == "RESERVE":
                return (f"RESERVING {rule.number} {rule.feature.printed()} {noun} for"
                        f" {_subject(rule.subject)}")  # fmt: skip
            return (f"MAX {rule.number} {rule.feature.printed()} {noun} for"
                    f" {_subject(rule.subject)}")  # fmt: skip
        case FeatureNumber(keyword="TIMEOUT"):
            return f"{rule.feature.printed()}: INACTIVITY TIMEOUT set to {rule.number} seconds"
        case FeatureNumber():
            return f"{rule.feature.printed()}: {rule.keyword} set to {rule.number}"
        case Setting(keyword="TIMEOUTALL"):
            return f"ALL FEATURES: INACTIVITY TIMEOUT set to {rule.value} seconds"
        case _:
            return ""


def _subject(subject: Subject) -> str:
    return f"{_GROUP_NAMES.get(subject.type, subject.type)} {subject.name}"
