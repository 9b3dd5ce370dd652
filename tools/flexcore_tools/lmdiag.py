"""``flexcore lmdiag``: what could be checked out from here, and what is wrong with the servers.

The master decides, with the machine that decides checkouts, and takes no seat; every server is asked
what it is and what it sees of the others (:mod:`flexcore.report.diagnosis` compares).
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from flexcore.codes import ErrorCode, exit_status
from flexcore.report.diagnosis import FAIL, Finding, Measured, answer_lines, findings, worst
from flexcore.report.status import Failure, Status
from flexcore.wire.messages import CanCheckOut, CheckoutAnswer, CheckoutAnswers, ServerDetails

from ._ask import DEFAULT_TIMEOUT_S, PAGES_MAX, Survey
from ._common import print_anything
from ._link import Link, LinkFailed
from ._where import PATH_HELP, find

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

HELP = """\
Say for each feature whether it could be checked out from here, by this user, now, and if not, why;
nothing is checked out. Walk the servers: who is reached and how fast, what they say of each other,
who is promised to whom, whether their files, options, versions and clocks agree.

With --bundle, write all of it, the licence and options files and the end of the logs into one
archive for whoever is to help. It holds no keys, signatures or session secrets; users' names it
does.

exit status: 0; 1 if something is to be mended; 241 if no server answers; 159 if none serves; else
256 + the code of the first feature that was named and cannot be checked out."""

LINES_KEPT_MAX = 100_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare lmdiag's flags."""
    parser.add_argument("feature", nargs="?", default="", metavar="FEATURE[:VERSION]",
                        help="only this one (default: all of the licence file)")  # fmt: skip
    parser.add_argument("-c", metavar="PATH", dest="path", help=PATH_HELP)
    parser.add_argument("-n", action="store_true", dest="no_prompt", help="accepted: it never asks")
    parser.add_argument("--bundle", metavar="FILE", help="write an archive (.tar.gz) for support")
    parser.add_argument("--log", metavar="FILE", action="append", default=[],
                        help="with --bundle: the end of this log, too; may be repeated")  # fmt: skip
    parser.add_argument("--state-dir", metavar="DIR",
                        help="with --bundle: names and sizes of what is in this state folder")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Diagnose every alternative of the path; the first that is not well gives the exit status."""
    print_anything()
    places = find(args.path, DEFAULT_TIMEOUT_S)
    status = 0
    report = Report()
    for where in places:
        with Survey(where, DEFAULT_TIMEOUT_S) as survey:
            survey.settle()
            status = _one(survey, args.feature, report) or status
            if args.bundle and where is places[-1]:
                from ._bundle import write_bundle

                names = write_bundle(args.bundle, survey, report.lines, report.details,
                                     logs=args.log, state_dir=args.state_dir)  # fmt: skip
                print(f"{args.bundle}: {len(names)} files for support; look through them before "
                      "you send them")  # fmt: skip
    return status


class Report:
    """What was printed, and the answers that it rests on."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.details: dict[int, ServerDetails] = {}

    def say(self, line: str) -> None:
        """Print a line, and keep it for the archive."""
        print(line)
        if len(self.lines) < LINES_KEPT_MAX:
            self.lines.append(line)


def _one(survey: Survey, feature: str, report: Report) -> int:
    report.details, measured = _details(survey)
    status = survey.status(time.time())
    found = [*findings(status, report.details, measured), *_files(survey, report.details)]
    for finding in found:
        report.say(finding.printed())
    failing = status.failing
    answered = 0
    if status.is_serving:
        answered = _features(survey, feature, report)
    if failing is not None:
        return exit_status(failing.code)
    return answered or int(worst(found) == FAIL)


def _details(survey: Survey) -> tuple[dict[int, ServerDetails], dict[int, Measured]]:
    """Ask every server that answers what it is, one after the other: latency is measured."""
    details: dict[int, ServerDetails] = {}
    measured: dict[int, Measured] = {}
    for rank, link in sorted(survey.links.items()):
        began, wall = time.monotonic(), time.time()
        try:
            said = link.status("details", "", "", survey.timeout_s)
        except LinkFailed:
            continue  # an older server: it has no such answer, and ends the connection
        if isinstance(said, ServerDetails):
            took = time.monotonic() - began
            details[rank] = said
            measured[rank] = Measured(took, said.wall - (wall + took / 2))
    if len(details) < len(survey.links):
        survey.reopen()
    return details, measured


def _files(survey: Survey, details: dict[int, ServerDetails]) -> Iterator[Finding]:
    """Files of the servers of this machine that are on a network file system."""
    from flexcore_host.filesystem import network_mount

    for rank, link in sorted(survey.links.items()):
        if not link.is_local:
            continue
        options = details[rank].options_path if rank in details else ""
        for what, path in (("licence file", link.report.license_path), ("options file", options)):
            mount = network_mount(path) if path else None
            if mount is not None:
                yield Finding(FAIL, f"the {what} {path} is on a network file system ({mount.kind} at "
                                    f"{mount.mount_point}): put it on a local disk, or that file "
                                    "server stops this one")  # fmt: skip


# --- features -------------------------------------------------------------------------------------


def _features(survey: Survey, wanted: str, report: Report) -> int:
    feature, _, version = wanted.partition(":")
    first = 0
    try:
        for answer in _answers(survey, feature, version):
            report.say("-" * 40)
            for line in answer_lines(answer):
                report.say(line)
            if wanted and answer.code and not first:
                first = exit_status(answer.code)
    except LinkFailed as failed:
        report.say(f"the features could not be asked for: {failed.failure.printed}")
        return exit_status(failed.failure.code)
    return first


def _answers(survey: Survey, feature: str, version: str) -> Iterator[CheckoutAnswer]:
    master = survey.master
    links = list(survey.vendor_links.values()) or ([] if master is None else [master])
    for link in links:
        yield from _answers_of(link, feature, version, survey.timeout_s)


def _answers_of(link: Link, feature: str, version: str, timeout_s: float) -> Iterator[CheckoutAnswer]:
    from flexcore_host import whoami
    from flexcore_host.hostids import shown_hostids

    question = CanCheckOut(
        0, feature, version, 1, whoami.user(), whoami.host(), whoami.display(),
        whoami.project(), shown_hostids(), whoami.platform(),
    )  # fmt: skip
    for _ in range(PAGES_MAX):
        answers = link.can_check_out(question, timeout_s)
        if not isinstance(answers, CheckoutAnswers):
            raise LinkFailed(Failure(ErrorCode.VENDOR_DOWN))
        yield from answers.answers
        if not answers.cursor:
            return
        question = question._replace(cursor=answers.cursor)


def status_of(survey: Survey) -> Status:
    """Return the status with features, for the archive."""
    features = survey.features() if survey.master is not None else ()
    return survey.status(time.time(), features=features)
