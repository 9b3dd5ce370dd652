"""What takes several steps at the servers, whatever the transport: early returns, and borrowings of a run that died.

Each is a generator. It yields what it waits for; the transport waits until that is so, or its time is over, and goes on
with the generator, which looks by itself which of the two it was. Closing it in between (an exception, a cancellation)
leaves everything in a state that the next run understands.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from flexcore.borrowing import LENT, RETURNING, BorrowRecord, after_return
from flexcore.client import BorrowGivenBack, BorrowKnown, BorrowRefused
from flexcore.codes import ErrorCode, text_of
from flexcore.errors import BorrowError, FlexcoreError
from flexcore_host.application import no_answer

if TYPE_CHECKING:
    from flexcore_host.borrow_files import Use
    from flexcore_host.desk import Desk

__all__ = ["Steps", "resume", "return_borrowed"]

T = TypeVar("T")
Steps: TypeAlias = Generator[Callable[[], bool], None, T]
"""Yields what is to be waited for; returns what came of it."""

_GONE = frozenset({ErrorCode.NEVER_CHECKED_OUT, ErrorCode.SERVER_BUSY})
"""Refusals after which a borrowing may be asked for under the same id: it was never lent, or nobody can say yet."""


def resume(desk: Desk[Any], feature: str, version: str, count: int) -> Steps[None]:
    """A checkout is about to be asked for: find out first what came of a borrowing that an earlier run asked for and
    did not live to see answered. If it was lent it is used, and no second seat is taken. Who learns nothing goes
    on as if there were no such borrowing.

    Raises:
        BorrowError: it was lent, and its file cannot be written. LocalProtocolError: closed, or in a forked child.
    """
    desk.check_usable()
    with desk.lock:
        found = desk.lending.asked_before(feature, version, count)
        if found is None:
            return
        use, site = found
        record = use.record
        try:
            request = desk.machine.resume_borrow(
                record.borrow, record.secret, record.until, site=site, now=desk.now(), wall=desk.wall()
            )
        except BaseException:
            use.close()
            raise
        desk.errands[request] = None
    try:
        yield lambda: desk.errands.get(request) is not None or desk.is_over
        _resumed(desk, record, desk.errands.get(request))
    finally:
        with desk.lock:
            if desk.errands.pop(request) is None and not desk.is_over:
                desk.machine.withdraw(request, now=desk.now(), wall=desk.wall())
        use.close()


def _resumed(desk: Desk[Any], record: BorrowRecord, answer: object) -> None:
    folder = desk.lending.folder
    if isinstance(answer, BorrowKnown):
        folder.write(record.turned(LENT, until=answer.until))
    elif isinstance(answer, BorrowRefused) and answer.certain and answer.code not in _GONE:
        folder.delete(record.borrow)  # it has come to its end, or was given back


def return_borrowed(desk: Desk[Any], feature: str, version: str) -> Steps[int]:
    """Give back before its end what is borrowed of *feature*; returns how many borrowings those were.

    Raises:
        BorrowError: of the first that could not be given back; the others are, all the same.
        NoServerReachable, NoQuorum: nobody serves; it is as it was.
        LocalProtocolError: closed, or in a forked child.
    """
    desk.check_usable()
    count, problem = 0, None
    for record in desk.lending.meant(feature, version):
        try:
            yield from _give_back(desk, record)
            count += 1
        except FlexcoreError as error:
            desk.check_usable()
            problem = problem or error
    if problem is not None:
        raise problem
    return count


def _give_back(desk: Desk[Any], record: BorrowRecord) -> Steps[None]:
    desk.lending.check_machine(record)
    sites = desk.lending.sites_of(record)
    for site in sites:
        is_done = yield from _at(desk, record, site, is_last=site == sites[-1])
        if is_done:
            return


def _at(desk: Desk[Any], record: BorrowRecord, site: int, *, is_last: bool) -> Steps[bool]:
    """Give it back at one alternative of the path; returns False if those are others than lent it, and more follow.
    Only once a server is there that can be told, this client's own use ends and the file stops granting."""
    request, machine = 0, desk.machine
    use: Use | None = None
    with desk.lock:
        since = machine.begin_errand(site, now=desk.now(), wall=desk.wall())
    try:
        yield lambda: machine.is_reached(site, since) or desk.is_over
        desk.check_usable()
        with desk.lock:
            if not machine.is_reached(site, since):
                raise no_answer(machine.trouble(desk.now()))
            desk.end_use(record.borrow)
            use = desk.lending.lock_for_return(record)
            desk.lending.folder.change(record.borrow, lambda known: known.turned(RETURNING))
            request = machine.return_borrow(record, site=site, now=desk.now(), wall=desk.wall())
            desk.errands[request] = None
        yield lambda: desk.errands.get(request) is not None or desk.is_over
        return _answered(desk, use.record, desk.errands.get(request), is_last=is_last)
    finally:
        with desk.lock:
            desk.errands.pop(request, None)
            machine.end_errand(site, request=request, now=desk.now(), wall=desk.wall())
        if use is not None:
            use.close()


def _answered(desk: Desk[Any], record: BorrowRecord, answer: object, *, is_last: bool) -> bool:
    """*record* is as it was before it was to be given back."""
    folder = desk.lending.folder
    if not isinstance(answer, BorrowGivenBack):
        detail = f"{record.feature}: no answer came; it may be back. It is not used any more: return it again"
        raise BorrowError(detail, ErrorCode.BORROW_NOT_RETURNED)
    goes, code = after_return(record, answer.code, has_lent=answer.has_lent)
    if goes:
        folder.delete(record.borrow)
    else:
        folder.change(record.borrow, lambda known: known.turned(record.state))
        if code == ErrorCode.BORROW_UNKNOWN and not is_last:
            return False
    if code:
        raise BorrowError(f"{record.feature}: {answer.detail or text_of(code)}", code)
    return True
