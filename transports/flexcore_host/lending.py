"""What a client borrows, and what it uses of that: between the client machine, which decides, and the borrow folder.

A borrowing is written down *before* the servers are asked, with the secret by which it can be given back: whatever dies
in between, a licence that was lent is never without its file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from flexcore.borrowing import (
    ASKED,
    LENT,
    BorrowProblem,
    BorrowRecord,
    check_end,
    fits,
    is_same_machine,
    is_shared,
)
from flexcore.client import (
    BorrowNoted,
    BorrowRefused,
    ClientConfig,
    LicenseClient,
    Seat,
    SeatBorrowed,
)
from flexcore.codes import ErrorCode
from flexcore.errors import BorrowError, LicenseError
from flexcore.licensefile.version import compare_versions

from .borrow_files import BorrowFolder, Use, default_borrow_dir, machine_marks
from .lazylog import logger

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Lending"]

BORROW_BYTES, SECRET_BYTES = 16, 32

_LOG = "flexcore_host"


class Lending:
    """The borrowed licences of one client."""

    def __init__(
        self, config: ClientConfig, machine: LicenseClient, *, now: Callable[[], float], wall: Callable[[], float],
        draw: Callable[[int], bytes], folder: BorrowFolder | None = None,
        marks: Callable[[], tuple[str, ...]] = machine_marks,
    ) -> None:  # fmt: skip
        self.folder = BorrowFolder(default_borrow_dir()) if folder is None else folder
        self._config = config
        self._machine = machine
        self._now = now
        self._wall = wall
        self._draw = draw
        self._marks = marks
        self._uses: dict[int, Use] = {}
        """Of the seats in use, by the number in place of the site."""
        self._asked: dict[int, tuple[BorrowRecord, Use]] = {}
        """Borrowings that are not answered, by request."""
        self._problems: dict[str, BorrowProblem] = {}
        self._remarks: dict[str, str] = {}

    # --- using what is here -------------------------------------------------------------------------

    def take(self, feature: str, version: str, count: int) -> Seat | None:
        """Return a borrowed seat for a checkout, which is held at once; None if nothing here grants it."""
        self._problems.pop(feature, None)
        self._remarks.pop(feature, None)
        for found in self.folder.files():
            if found.error is not None:
                self._remarks[feature] = found.error.message
            record = found.record
            if record is None or not fits(record, self._config.vendor, feature, version, count):
                continue
            seat = self._locked(record, count)
            if isinstance(seat, Seat):
                return seat
            if seat is not None:
                self._note_problem(feature, seat)
        return None

    def _locked(self, record: BorrowRecord, count: int) -> Seat | BorrowProblem | None:
        """Use what the file of *record* holds under its lock; None if that is nothing any more."""
        try:
            use = self.folder.use(record.borrow, shared=is_shared(record, self._config.display))
        except BorrowError as error:
            gone = error.code == ErrorCode.NEVER_CHECKED_OUT
            return None if gone else BorrowProblem(ErrorCode(error.code), error.message)
        if use is None:
            detail = f"another process here uses what was borrowed of {record.feature}"
            return BorrowProblem(ErrorCode.USERS_REACHED, detail)
        return self._adopt(use.record, count, use)

    def _adopt(self, record: BorrowRecord, count: int, use: Use) -> Seat | BorrowProblem:
        seat = self._machine.adopt(
            record, count=count, machine=self._marks(), now=self._now(), wall=self._wall()
        )
        if isinstance(seat, Seat):
            self._uses[seat.site] = use
        else:
            use.close()
        return seat

    def _note_problem(self, feature: str, problem: BorrowProblem) -> None:
        if problem.code == ErrorCode.BORROW_EXPIRED:
            self._remarks[feature] = problem.detail
        else:
            self._problems.setdefault(feature, problem)

    def problem_of(self, feature: str) -> BorrowProblem | None:
        """Why what is borrowed of *feature* granted nothing to the last checkout, None if nothing is borrowed."""
        return self._problems.get(feature)

    def remark_on(self, feature: str) -> str:
        """What a person should know of the borrow folder whose last checkout of *feature* nobody answered: what has
        ended, or cannot be read (and may be of another feature); '' if there is nothing."""
        return self._remarks.get(feature, "")

    def release(self, site: int) -> None:
        """A borrowed seat is not used any more."""
        use = self._uses.pop(site, None)
        if use is not None:
            use.close()

    def note(self, action: BorrowNoted) -> None:
        """Write down when it was used last."""
        try:
            self.folder.note_seen(action.borrow, action.seen)
        except BorrowError as error:
            logger(_LOG).warning("%s", error)

    def forget(self) -> None:
        """In a forked child: its parent holds what it held."""
        for use in (*self._uses.values(), *(use for _, use in self._asked.values())):
            use.forget()
        self._uses.clear()
        self._asked.clear()

    # --- borrowing ----------------------------------------------------------------------------------

    def wished_until(self, line: str) -> float | None:
        """Until when LM_BORROW wants a licence of *line* borrowed, None if it does not.

        Raises:
            BorrowError: LM_BORROW makes no sense.
        """
        wall = self._wall()
        if self.folder.read_wish(wall) is None:
            return None
        return self.folder.wish(_vendor_of(line) or self._config.vendor, wall)

    def begin(self, granted: Seat, until: float) -> int:
        """Ask for *granted* to be lent until *until*; returns the request's number.

        Raises:
            BorrowError: -117: it cannot be written down or locked; -42, -104: no such end.
            LocalProtocolError: it is not held.
        """
        check_end(until)
        wall = self._wall()
        config = self._config
        addresses = config.path[granted.site]
        record = BorrowRecord(
            vendor=_vendor_of(granted.line) or config.vendor, feature=granted.feature, version=granted.version,
            count=granted.count, handle=granted.handle, user=config.user, host=config.host, display=config.display,
            started=granted.started, line=granted.line, hostids=granted.hostids, machine=self._marks(),
            borrow=self._draw(BORROW_BYTES), secret=self._draw(SECRET_BYTES),
            servers=tuple(f"{address.port}@{address.host}" for address in addresses),
            borrowed_at=wall, until=until, seen=wall, state=ASKED,
        )  # fmt: skip
        is_for_several, use = is_shared(record, config.display), self._unheard(record)
        try:
            if use is not None:  # what an earlier run asked for may be lent: not a second time, under its id
                record = record.known_as(use.record)
                if is_for_several:
                    use.close()
                    use = None
            self.folder.write(record)
            if use is None:
                use = self.folder.use(record.borrow, shared=is_for_several)
            if use is None:
                raise BorrowError(f"another process has locked what {granted.feature} is to be written in",
                                  ErrorCode.BORROW_FAILED)  # fmt: skip
            request = self._machine.borrow(
                granted.handle, until, borrow=record.borrow, secret=record.secret, site=granted.site,
                now=self._now(), wall=wall,
            )  # fmt: skip
        except BaseException:
            self._drop(record, use)
            raise
        self._asked[request] = record, use
        return request

    def _unheard(self, wanted: BorrowRecord) -> Use | None:
        """Lock what was asked for just as *wanted*, by a run that has died, and nobody confirmed; None if nothing
        was."""
        for found in self.folder.files():
            known = found.record
            if known is not None and known.state == ASKED and wanted.seen < known.until and _is_alike(known, wanted):
                use = self._use_alone(known)
                if use is not None:
                    return use
        return None

    def _use_alone(self, record: BorrowRecord) -> Use | None:
        """Lock what nobody confirmed; None if its process lives, or it is what it was no more."""
        try:
            use = self.folder.use(record.borrow)
        except BorrowError:
            return None
        if use is not None and use.record.state == record.state:
            return use
        if use is not None:
            use.close()
        return None

    # --- finding out what came of an earlier one ----------------------------------------------------

    def asked_before(self, feature: str, version: str, count: int) -> tuple[Use, int] | None:
        """Lock what an earlier run of this user asked to borrow, would be enough for this checkout, and was never
        confirmed; with the place in the path of the servers that it asked. None: there is nothing like that, or
        something is lent that needs no server."""
        wall = self._wall()
        fitting = [
            found.record
            for found in self.folder.files()
            if found.record is not None
            and found.record.user == self._config.user
            and found.record.until > wall
            and fits(found.record, self._config.vendor, feature, version, count)
        ]
        if any(record.state == LENT for record in fitting):
            return None
        for record in fitting:
            if record.state != ASKED:
                continue
            sites = self.sites_of(record)
            if len(sites) == 1 and is_same_machine(record.machine, self._marks()):
                use = self._use_alone(record)
                if use is not None:
                    return use, sites[0]
        return None

    def sites_of(self, record: BorrowRecord) -> list[int]:
        """Return the places in the path where it may have been lent: those of its servers, else all."""
        path = self._config.path
        names = [{f"{each.port}@{each.host}" for each in addresses} for addresses in path]
        return [i for i, each in enumerate(names) if not each.isdisjoint(record.servers)] or list(range(len(path)))

    # --- early return -------------------------------------------------------------------------------

    def meant(self, feature: str, version: str) -> list[BorrowRecord]:
        """Return what is borrowed of *feature* (of *version*, if that is given), by this user of these licences.

        Raises:
            BorrowError: -41: nothing like that is.
        """
        vendor = self._config.vendor.casefold()
        meant = [
            found.record
            for found in self.folder.files()
            if found.record is not None
            and found.record.feature.casefold() == feature.casefold()
            and vendor in ("", found.record.vendor.casefold())
            and (not version or compare_versions(found.record.version, version) == 0)
        ]
        if not meant:
            raise BorrowError(f"nothing like that is borrowed here: {feature}", ErrorCode.NEVER_CHECKED_OUT)
        return meant

    def check_machine(self, record: BorrowRecord) -> None:
        """Raise BorrowError (-9) where *record* is of another machine."""
        if not is_same_machine(record.machine, self._marks()):
            raise BorrowError(f"{record.feature} was borrowed by {record.host}: return it there",
                              ErrorCode.INVALID_HOST)  # fmt: skip

    def lock_for_return(self, record: BorrowRecord) -> Use:
        """Lock what is to be given back.

        Raises:
            BorrowError: -124: a process uses it; else as :meth:`BorrowFolder.use`.
        """
        use = self.folder.use(record.borrow)
        if use is None:
            detail = f"a process on this machine uses {record.feature}: end it first"
            raise BorrowError(detail, ErrorCode.BORROW_NOT_RETURNED)
        return use

    def uses(self, site: int, borrow: bytes) -> bool:
        """Whether the seat of this number is a use of that borrowing."""
        use = self._uses.get(site)
        return use is not None and use.record.borrow == borrow

    def lent(self, action: SeatBorrowed) -> Seat | BorrowProblem:
        """The servers lent it: from now on it is held by its file."""
        asked = self._asked.pop(action.request, None)
        if asked is None:  # closed meanwhile: its file may be somebody else's business by now
            return BorrowProblem(ErrorCode.BORROW_FAILED, "the client was closed before the answer came")
        record, use = asked
        record = record.turned(LENT, until=action.until)
        try:
            self.folder.write(record)
        except BorrowError as error:
            use.close()
            return BorrowProblem(ErrorCode.BORROW_FAILED, error.message)
        return self._adopt(record, record.count, use)

    def refused(self, action: BorrowRefused) -> None:
        """It is not lent, or nobody knows (then its file stays, and ``lmborrow -return`` finds out)."""
        asked = self._asked.pop(action.request, None)
        if asked is None:
            return
        record, use = asked
        if action.certain:
            self._drop(record, use)
        else:
            use.close()

    def _drop(self, record: BorrowRecord, use: Use | None) -> None:
        try:
            self.folder.delete(record.borrow)
        except BorrowError as error:
            logger(_LOG).warning("%s", error)
        if use is not None:
            use.close()

    def close(self, sites: Iterable[int]) -> None:
        """The client closes: these seats are not used any more, and what is not answered never will be: ``lmborrow
        -return`` finds out."""
        for site in sites:
            self.release(site)
        for _, use in self._asked.values():
            use.close()
        self._asked.clear()


def _is_alike(one: BorrowRecord, other: BorrowRecord) -> bool:
    """Whether both are about as many licences of one thing, for one user on one machine, from the same servers."""
    return (
        (one.vendor, one.feature, one.version, one.count, one.user, one.display, one.hostids)
        == (other.vendor, other.feature, other.version, other.count, other.user, other.display, other.hostids)
        and is_same_machine(one.machine, other.machine)
    )  # fmt: skip


def _vendor_of(line: str) -> str:
    from flexcore.licensefile import parse_license

    try:
        lines = parse_license(line.encode(), name="the granted line").features
    except LicenseError:
        return ""
    return lines[0].vendor if lines else ""
