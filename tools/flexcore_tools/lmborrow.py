"""``flexcore lmborrow``: take licences home, show what was taken, and bring it back before its end.

It asks no server to lend anything: what this user's applications check out on the same day is borrowed by them
(LM_BORROW). ``-return`` asks the servers that lent it. Everything goes to stdout.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterable

from flexcore.borrowing import (
    RETURNING,
    BorrowRecord,
    BorrowWish,
    after_return,
    format_wish,
    is_lender,
    is_same_machine,
    judge,
    parse_end,
)
from flexcore.codes import ErrorCode, exit_status
from flexcore.errors import BorrowError, ConfigurationError
from flexcore.licensefile.version import compare_versions, format_date
from flexcore.report.status import SERVING, Failure
from flexcore.wire.messages import BorrowReturned, NotServing, ServerAddress
from flexcore_host import clock
from flexcore_host.borrow_files import BorrowFolder, default_borrow_dir, epoch_of, machine_marks

from ._ask import DEFAULT_TIMEOUT_S, Survey
from ._common import print_anything
from ._link import LinkFailed, open_link
from ._servers import not_reached
from ._where import PATH_HELP, only_one

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

HELP = """\
Take licences home. First say until when, then start the applications on the same day: each
licence of VENDOR that they check out, and whose line has BORROW, is this machine's until then,
and is used without a server.

  lmborrow {VENDOR|all} dd-mmm-yyyy[:hh:mm] [hh:mm]
      borrow what is checked out today until that time (without one: until the day's end);
      LM_BORROW=today:VENDOR:dd-mmm-yyyy:hh:mm in the environment does the same
  lmborrow -status
      what is borrowed, until when, and whether it can be used here
  lmborrow -clear
      borrow nothing more; what is borrowed stays so
  lmborrow -purge
      remove the files of what has ended
  lmborrow -return [-fqdn] [-c PATH] [-d DISPLAY] FEATURE [-bv VERSION]
      give it back before its end, to the servers that lent it or those of PATH

exit status: 0; 245 (-11) or 214 (-42) for a date or time that is none, 152 (-104) for a year that
is too far away; 139 (-117) if it cannot be written down, or lies in the past; with -return 215
(-41) if nothing like that is borrowed, 132 (-124) if it is in use, or the answer got lost (it is
not used any more then: return it again), 128 (-128) if the servers know nothing of it (the file
stays if others lent it), 138 (-118) if its time is over, 247 (-9) on another machine, 241 (-15)
or 159 (-97) if no server serves; 134 (-122) if a file cannot be removed."""

ANSWER_S = 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare lmborrow's flags."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument("-status", action="store_true", help="show what is borrowed")
    which.add_argument("-clear", action="store_true", help="borrow nothing more")
    which.add_argument("-purge", action="store_true", help="remove the files of what has ended")
    which.add_argument("-return", action="store_true", dest="give_back", help="give FEATURE back")
    parser.add_argument("-c", metavar="PATH", dest="path", help=f"of -return: {PATH_HELP}")
    parser.add_argument("-d", metavar="DISPLAY", dest="display", help="of -return: only what was borrowed on it")
    parser.add_argument("-bv", metavar="VERSION", dest="version", help="of -return: only this version")
    parser.add_argument(
        "-fqdn", action="store_true", help="of -return: accepted; the borrow file knows the host's name"
    )
    parser.add_argument("words", nargs="*", metavar="WORD", help="VENDOR and the end; or FEATURE")


def run(args: argparse.Namespace) -> int:
    """Do what the flags say."""
    print_anything()
    folder = BorrowFolder(default_borrow_dir())
    try:
        if args.give_back:
            return _return(args, folder)
        if args.path or args.display or args.version or args.fqdn:
            raise ConfigurationError("-c, -d, -bv and -fqdn go with -return")
        if args.status or args.clear or args.purge:
            if args.words:
                raise ConfigurationError(f"{args.words[0]} does not go with -status, -clear or -purge")
            return _status(folder) if args.status else _clear(folder) if args.clear else _purge(folder)
        return _wish(args.words, folder)
    except BorrowError as error:
        print(error)
        return error.exit_status


def _wish(words: list[str], folder: BorrowFolder) -> int:
    if len(words) not in (2, 3):
        print("usage: lmborrow {VENDOR|all} dd-mmm-yyyy[:hh:mm] [hh:mm]; flexcore lmborrow --help tells all")
        return 2
    date, _, hour = words[1].partition(":")
    end = parse_end(date, hour or "".join(words[2:]))
    if ":" in words[0] or not words[0].isprintable():
        raise BorrowError(f"{words[0]!r} is no vendor name", ErrorCode.INVALID_PARAMETER)
    now = clock.wall()
    wish = BorrowWish(_day(now), words[0], end)
    if epoch_of(wish) <= now:
        raise BorrowError(f"{words[1]} lies in the past", ErrorCode.BORROW_FAILED)
    folder.write_wish(wish)
    whose = "all vendors" if wish.vendor.casefold() == "all" else wish.vendor
    print(f"licences of {whose} that are checked out today are borrowed until {_local(epoch_of(wish))}:")
    print("start the applications now, then lmborrow -clear")
    return 0


def _clear(folder: BorrowFolder) -> int:
    import os

    print("nothing more is borrowed" if folder.clear_wish() else "nothing was to be borrowed")
    if os.environ.get("LM_BORROW"):
        print("LM_BORROW is set in the environment all the same, and counts: unset it")
    return 0


def _status(folder: BorrowFolder) -> int:
    now, marks = clock.wall(), machine_marks()
    found = folder.files()
    if found:
        print(f"{'Vendor':<10} {'Feature':<30} {'Expiration'}")
        print(f"{'______':<10} {'_______':<30} {'__________'}")
    for each in found:
        record = each.record
        if record is None:
            print(each.error)
            continue
        count = f"  ({record.count} licenses)" if record.count > 1 else ""
        print(f"{record.vendor:<10} {record.feature:<30} {_local(record.until)}{count}")
        problem = judge(record, wall=now, machine=marks, user=record.user)
        if problem is not None:
            print(f"    cannot be used: {BorrowError(problem.detail, problem.code)}")
    wish = folder.read_wish(now)
    if not found:
        print("nothing is borrowed")
    if wish is not None:
        why = "not of today" if wish.day != _day(now) else "its end has passed" if epoch_of(wish) <= now else ""
        print(f"LM_BORROW={format_wish(wish)}" + (f"  ({why}: it has no effect)" if why else ""))
    return 0


def _purge(folder: BorrowFolder) -> int:
    now = clock.wall()
    gone = 0
    for record in _records(folder):
        if max(now, record.seen) < record.until:
            continue
        try:
            use = folder.use(record.borrow)
        except BorrowError as error:  # somebody has cleared it up meanwhile, or it cannot be read any more
            print(error)
            continue
        if use is None:
            print(f"{record.feature} has ended, and a process holds its file still")
            continue
        try:
            if max(now, use.record.seen) < use.record.until:
                continue
            folder.delete(record.borrow)
        finally:
            use.close()
        print(f"{record.feature}, borrowed until {_local(record.until)}: removed")
        gone += 1
    if not gone:
        print("nothing has ended")
    return 0


# --- early return -----------------------------------------------------------------------------------


def _return(args: argparse.Namespace, folder: BorrowFolder) -> int:
    if len(args.words) != 1:
        print("usage: lmborrow -return [-fqdn] [-c PATH] [-d DISPLAY] FEATURE [-bv VERSION]")
        return 2
    name = args.words[0].casefold()
    meant = [
        record
        for record in _records(folder)
        if record.feature.casefold() == name
        and (args.display is None or record.display == args.display)
        and (args.version is None or compare_versions(record.version, args.version) == 0)
    ]
    if not meant:
        raise BorrowError(f"nothing like that is borrowed here: {args.words[0]}", ErrorCode.NEVER_CHECKED_OUT)
    status = 0
    for record in meant:
        try:
            said = _give_back(record, folder, args.path)
        except BorrowError as error:
            print(error)
            said = error.exit_status
        status = status or said
    return status


def _give_back(record: BorrowRecord, folder: BorrowFolder, path: str | None) -> int:
    """Give one borrowing back. Its file stops granting *before* the servers are told, and is what it was if they were
    not, or if they are others than those that lent it."""
    if not is_same_machine(record.machine, machine_marks()):
        raise BorrowError(f"{record.feature} was borrowed by {record.host}: return it there", ErrorCode.INVALID_HOST)
    use = folder.use(record.borrow)
    if use is None:
        detail = f"a process on this machine uses {record.feature}: end it first"
        raise BorrowError(detail, ErrorCode.BORROW_NOT_RETURNED)
    try:
        where = _servers_of(record) if path is None else only_one(path, DEFAULT_TIMEOUT_S)
        with Survey(where, DEFAULT_TIMEOUT_S) as survey:
            survey.settle()
            own = survey.vendor_links.get(record.vendor)  # of several vendors of a single server
            master = next((i for i, link in survey.links.items() if (own or link).report.state == SERVING), None)
            if master is None:
                if not survey.links:
                    return not_reached(survey, list(range(len(survey.servers))))
                print(Failure(ErrorCode.VENDOR_DOWN).printed)
                return exit_status(ErrorCode.VENDOR_DOWN)
            return _ask(use.record, folder, survey.servers[master])
    finally:
        use.close()


def _ask(record: BorrowRecord, folder: BorrowFolder, server: ServerAddress) -> int:
    try:
        link = open_link(server, DEFAULT_TIMEOUT_S, vendor=record.vendor)
    except LinkFailed as failed:
        print(failed.failure.printed)
        return failed.exit_status
    try:
        folder.change(record.borrow, lambda known: known.turned(RETURNING))
        answer = link.give_back(record.borrow, record.secret, ANSWER_S)
    except LinkFailed as failed:
        detail = f"{record.feature}: {failed}; it may be back. It is not used any more: return it again"
        raise BorrowError(detail, ErrorCode.BORROW_NOT_RETURNED) from None
    finally:
        link.close()
    if isinstance(answer, BorrowReturned):
        has_lent = is_lender(record, link.hello.vendor, link.hello.membership_digest)
        goes, code = after_return(record, answer.code, has_lent=has_lent)
        if goes:
            folder.delete(record.borrow)
            if code == ErrorCode.BORROW_UNKNOWN:
                detail = f"{record.feature}: {answer.detail}; it cannot be used any more, and its file is removed"
                raise BorrowError(detail, code)
            print(f"{record.feature} is returned" if not code else f"{record.feature}: {answer.text}")
            return exit_status(code) if code else 0
    folder.change(record.borrow, lambda known: known.turned(record.state))
    if isinstance(answer, BorrowReturned):
        raise BorrowError(f"{record.feature}: {answer.detail}", answer.code)
    known = ErrorCode.VENDOR_DOWN if isinstance(answer, NotServing) else ErrorCode.BAD_DATA_FROM_SERVER
    print(Failure(known).printed)
    return exit_status(known)


def _servers_of(record: BorrowRecord) -> tuple[ServerAddress, ...]:
    return tuple(
        ServerAddress(host, int(port)) for port, _, host in (each.partition("@") for each in record.servers)
    )


def _records(folder: BorrowFolder) -> Iterable[BorrowRecord]:
    for each in folder.files():
        if each.record is not None:
            yield each.record
        else:
            print(each.error)


def _day(wall: float) -> datetime.date:
    return datetime.date(*time.localtime(wall)[:3])


def _local(wall: float) -> str:
    when = time.localtime(wall)
    return f"{format_date(_day(wall))} {when.tm_hour:02}:{when.tm_min:02}"
