"""CheckoutMachine: what is granted, what is denied and with which of the manual's codes.

It decides on the *appended* state of the ledger and on the rights of the day, and changes neither: a
verdict either carries the command that whoever drives it has to append, or says why there is none.
Two requests of one batch see each other because the command of the first is appended before the
second is decided (protocol.md rule 14: decisions are made on the appended state).

The rules that live here, each with its test:

* Rule 14, seats: a seat whose freeing is appended but not committed is not given out again
  (``tests/test_checkout_machine.py::test_freed_seat_waits_for_commit``). Otherwise a truncated
  freeing would leave two holders of one seat.
* Rule 17, requests: the result of a request number stays until the client says that it has it; a
  repeat gets the same result and changes nothing (``test_repeat_is_the_same_checkout``); numbers
  that were answered or withdrawn are refused (``test_answered_number_is_refused``), because an old
  duplicate would otherwise take a seat that nobody knows.

What a line asks beside its count stands in :mod:`flexcore.checkout.terms`; the options file is asked
(:mod:`flexcore.checkout.regulations`) about a pool that would do otherwise. What comes later has its
room. Who waits, and who may pass them, stands in :mod:`flexcore.checkout.claims`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from flexcore.codes import ErrorCode
from flexcore.ledger.commands import (
    Command,
    LingerResumed,
    RequestWithdrawn,
    SeatBorrowed,
    SeatGranted,
    SeatReturned,
    Share,
)
from flexcore.ledger.lingering import enough_of, owner_of, without
from flexcore.ledger.state import RESULTS_MAX
from flexcore.licensefile.version import Version
from flexcore.wire.messages import Checkin, Checkout, Withdraw

from .claims import Claims
from .durations import NO_DURATIONS, Durations
from .holders import HolderLists
from .regulations import Regulations
from .rights import Offer, Rights, offers_on, proof_of, version_key
from .terms import Terms

if TYPE_CHECKING:
    from flexcore.ledger.sessions import Queued
    from flexcore.ledger.state import LedgerState, Seat, Session
    from flexcore.options.policy import Policy, Refusal

SEATS_PER_SESSION_MAX = 10_000
"""One session cannot fill the ledger; a render farm's controller holds some hundreds."""

COUNT_MAX = 1_000_000_000
FEATURE_NAME_MAX = 256

_new = tuple.__new__  # a third of the time of a NamedTuple's own constructor

Request: TypeAlias = Checkout | Checkin | Withdraw


class Grant(NamedTuple):
    """Append *command*; the seat's start is the stamp of that entry. *proof*, the signed lines that
    it is granted from, goes to the client."""

    command: SeatGranted | LingerResumed
    proof: str


class Return(NamedTuple):
    """Append *command*: the seat *handle* of *feature* comes back."""

    command: SeatReturned
    seat: Seat


class Withdrawal(NamedTuple):
    """Append *command*; *seat* is what the withdrawn request had been granted, if it was; *queued*
    where it waited."""

    command: RequestWithdrawn
    seat: Seat | None
    queued: Queued | None = None


class Repeat(NamedTuple):
    """The request was carried out before, by the entry *entry* with *stamp*: answer the same again.

    *proof* are the signed lines for a repeated grant, '' if its pool is no longer in the file.
    """

    entry: int
    stamp: float
    command: SeatGranted | SeatReturned | RequestWithdrawn | SeatBorrowed
    proof: str


class Denial(NamedTuple):
    """No, with a number of :mod:`flexcore.codes` and what a person needs to know."""

    code: int
    detail: str


Verdict: TypeAlias = Grant | Return | Withdrawal | Repeat | Denial


class CheckoutMachine:
    """Decides requests against the rights in force and the ledger's appended state.

    *day* arguments are day ordinals (see :mod:`flexcore.checkout.rights`).
    """

    def __init__(
        self, rights: Rights, regulations: Regulations | None = None,
        durations: Durations = NO_DURATIONS,
    ) -> None:  # fmt: skip
        """*regulations* is what the options file says about these rights, None for nothing."""
        self._rights = rights
        self.policy: Policy | None = None
        """All that the options file says about these rights."""
        self._regulations = regulations
        self.durations = durations
        self._day = 0
        self._offers: dict[str, tuple[Offer, ...]] = {}
        self._holders = HolderLists()

    @property
    def rights(self) -> Rights:
        """The rights that it decides by."""
        return self._rights

    @property
    def regulations(self) -> Regulations | None:
        """What the options file says about them."""
        return self._regulations

    def copy(self) -> CheckoutMachine:
        """Return a twin."""
        rules = self._regulations
        twin = CheckoutMachine(self._rights, None if rules is None else rules.copy(), self.durations)
        twin.policy = self.policy
        twin._day, twin._offers, twin._holders = self._day, self._offers, self._holders.copy()
        return twin

    def fingerprint(self, now: float) -> Hashable:
        """Return what its verdicts depend on beside the ledger and the day."""
        return self._rights.digest

    def offers(self, day: int) -> dict[str, tuple[Offer, ...]]:
        """Return what is on offer on *day*, by feature."""
        if day != self._day:
            rules = self._regulations
            self._offers = offers_on(self._rights, day, {} if rules is None else rules.overdrafts)
            self._day = day
        return self._offers

    @contextmanager
    def passing_over(self, feature: str, pools: Collection[str], day: int) -> Iterator[None]:
        """For the time of a decision: *feature* as it were without *pools*."""
        offers = self.offers(day)
        all_of_it = offers[feature]
        offers[feature] = tuple(offer for offer in all_of_it if offer.pool not in pools)
        try:
            yield
        finally:
            offers[feature] = all_of_it

    def decide(
        self, state: LedgerState, session: Session, request: Request, *, day: int, now: float,
        claims: Claims | None = None,
    ) -> Verdict:  # fmt: skip
        """Return the verdict on one request of *session*; the caller appends before the next. *claims*
        are those of requests that wait and came earlier."""
        kind = type(request)
        if kind is Checkout:
            if state.lingering:
                return self._checkout_again(state, session, request, day, now, claims)  # type: ignore[arg-type]
            return self._checkout(state, session, request, day, now, claims)  # type: ignore[arg-type]
        if kind is Checkin:
            return self._checkin(state, session, request)  # type: ignore[arg-type]
        return self._withdraw(state, session, request)  # type: ignore[arg-type]

    def decide_batch(
        self,
        state: LedgerState,
        requests: Iterable[tuple[bytes, Request]],
        append: Callable[[Command], int],
        *,
        day: int,
        now: float,
    ) -> list[tuple[int, Verdict]]:
        """Decide *requests* (session, request) in order, calling *append* for each command.

        Returns one (index, verdict) a request: the entry's index, or 0 where nothing was appended.
        *append* has to apply the command to *state* before it returns. A session that *state* does
        not know is denied with -41.
        """
        done: list[tuple[int, Verdict]] = []
        for session_id, request in requests:
            session = state.sessions.get(session_id)
            if session is None:
                done.append((0, Denial(ErrorCode.NEVER_CHECKED_OUT, "no such session")))
                continue
            verdict = self.decide(state, session, request, day=day, now=now)
            kind = type(verdict)
            changes = kind is not Denial and kind is not Repeat
            done.append((append(verdict.command) if changes else 0, verdict))  # type: ignore[union-attr]
        return done

    # --- rule 17: numbers -----------------------------------------------------------------------

    def seen_before(self, session: Session, number: int) -> Repeat | Denial | None:
        """Return what request *number* came to before, or why it may not be made (rule 17)."""
        return self._seen_before(session, number)

    def _seen_before(self, session: Session, number: int) -> Repeat | Denial | None:
        result = session.results.get(number)
        if result is not None:
            command = result.command
            proof = ""
            if type(command) is SeatGranted:
                proof = self.proof_of(command.feature, command.pool, command.count)
            return Repeat(result.index, result.stamp, command, proof)
        if number <= session.answered:
            return Denial(ErrorCode.INVALID_PARAMETER, f"request {number} was answered before")
        if number in session.withdrawn:
            return Denial(ErrorCode.INVALID_PARAMETER, f"request {number} was withdrawn")
        if session.outstanding >= RESULTS_MAX:
            return Denial(
                ErrorCode.SERVER_BUSY, f"{RESULTS_MAX} answers wait for the client's word"
            )
        return None

    def proof_of(self, feature: str, pool: str, count: int) -> str:
        """Return the signed lines of *count* seats of *pool*, '' where the lines are gone."""
        for offer in self._offers.get(feature, ()):
            if offer.pool == pool:
                return offer.proof(count)
        for other in self._rights.pools:
            if other.key == pool:
                return proof_of(other.first, other.lines, count)
        return ""

    # --- checkout -------------------------------------------------------------------------------

    def _checkout(
        self, state: LedgerState, session: Session, request: Checkout, day: int, now: float,
        claims: Claims | None,
    ) -> Verdict:  # fmt: skip
        if session.results or session.withdrawn or request.request <= session.answered:
            seen = self._seen_before(session, request.request)
            if seen is not None and request.request not in session.queued:
                return seen
        offers = (self._offers if day == self._day else self.offers(day)).get(request.feature)
        if not offers:
            return Denial(ErrorCode.NO_SUCH_FEATURE, "")
        count = request.count
        if not 0 < count <= COUNT_MAX:
            return Denial(ErrorCode.INVALID_PARAMETER, f"{count} licences were asked for")
        wanted = request.version
        key: Version | None = None
        if wanted:
            key = version_key(wanted)
            if key is None:
                return Denial(ErrorCode.BAD_VERSION, f"asked for version {wanted[:64]}")
        if len(session.seats) >= SEATS_PER_SESSION_MAX:
            return Denial(ErrorCode.USERS_REACHED,
                          f"this session holds {SEATS_PER_SESSION_MAX} checkouts")  # fmt: skip
        refused: Refusal | None = None
        overtakes = False
        for offer in offers:
            if offer.refusal or (key is not None and key > offer.version_key):
                continue
            pool = offer.pool
            shares: tuple[Share, ...] = ()
            if offer.terms is not None:
                found = self._shares(state, session, offer, offer.terms, count)
                if found is None:
                    continue
                shares = found
            elif not (offer.uncounted or count <= state.available(pool, offer.seats)):
                continue
            if self._regulations is not None:
                no = self._regulations.refusal(state, session, offer, count, shares)
                if no is not None:
                    refused = refused or no
                    continue
            if claims is not None and not claims.lets_pass(state, session, offer, count, shares):
                overtakes = True
                continue
            # The offer's own texts where they are the same: a seat keeps them, and a request's are made anew each time.
            version = wanted if wanted and wanted != offer.version else offer.version
            command = _new(SeatGranted, (
                session.session, request.request, request.answered, state.next_handle,
                offer.feature, pool, version, count, shares,
            ))  # fmt: skip
            return _new(Grant, (command, offer.proof(count)))
        if overtakes:
            ahead = state.queue.length(request.feature)
            return Denial(ErrorCode.USERS_QUEUED, f"{ahead} wait for {request.feature}")
        return self._why_not(state, session, offers, key, request, now, refused)

    def _checkout_again(
        self, state: LedgerState, session: Session, request: Checkout, day: int, now: float,
        claims: Claims | None,
    ) -> Verdict:  # fmt: skip
        """A checkout while something lingers: whoever has it lingering takes it over, and is asked
        as if it were free for him (``tests/test_linger_server.py``)."""
        mine = enough_of(state.lingering.of(owner_of(request.feature, session)), request.count)
        if mine:
            with without(state, mine) as back:
                besides = None if claims is None else claims.besides(back)
                verdict = self._checkout(state, session, request, day, now, besides)
            if type(verdict) is Grant and type(verdict.command) is SeatGranted:
                ended = tuple(seat.handle for seat in mine)
                return Grant(LingerResumed(*verdict.command, ended), verdict.proof)
            if type(verdict) is not Denial:
                return verdict
        return self._checkout(state, session, request, day, now, claims)

    def may_ever(
        self, session: Session, feature: str, version: str, count: int, day: int
    ) -> tuple[Offer, ...]:
        """Return the offers out of which *session* could have *count* seats if nobody held any."""
        key = version_key(version) if version else None
        return tuple(
            [
                offer for offer in self.offers(day).get(feature, ())
                if not offer.refusal and (key is None or key <= offer.version_key)
                and (offer.uncounted or count <= offer.seats)
                and (offer.terms is None or offer.terms.may_have(count))
                and self._refusal(session, offer) is None
                and (self._regulations is None
                     or self._regulations.never(session, offer, count) is None)
            ]
        )  # fmt: skip

    def claim(
        self, claims: Claims, state: LedgerState, session: Session, queued: Queued, day: int
    ) -> bool:
        """Add to *claims* what *queued* waits for; returns whether there is anything it may get."""
        offers = self.may_ever(session, queued.feature, queued.version, queued.count, day)
        for offer in offers:
            shares = () if offer.terms is None else offer.terms.shares(offer.pool, session)
            claims.add(state, session, offer, queued.count, shares)
        return bool(offers)

    def make_claims(self) -> Claims:
        """Return claims of nobody."""
        return Claims(self._regulations)

    def is_plain(self, feature: str, day: int) -> bool:
        """Whether nobody can pass whoever waits for all pools of *feature*: no groups, no RESERVE or MAX."""
        rules = self._regulations
        return all(
            (offer.terms is None or not (offer.terms.group or offer.terms.suite))
            and (rules is None or not rules.policy.counts(offer.pool))
            for offer in self.offers(day).get(feature, ())
        )

    def in_use_text(self, state: LedgerState, feature: str, day: int, now: float) -> str:
        """Return how many of *feature* are in use, and by whom."""
        offers = [offer for offer in self.offers(day).get(feature, ()) if not offer.refusal]
        return self._in_use(state, offers, now) if offers else ""

    def _refusal(self, session: Session, offer: Offer) -> tuple[int, str] | None:
        if offer.terms is None:
            return None
        rules = self._regulations
        return offer.terms.refusal(session, offer.pool, None if rules is None else rules.policy)

    def _shares(
        self, state: LedgerState, session: Session, offer: Offer, terms: Terms, count: int
    ) -> tuple[Share, ...] | None:
        """Return what *count* seats of an offer with *terms* take, None if they may not or do not
        fit."""
        if self._refusal(session, offer) is not None:
            return None
        shares = terms.shares(offer.pool, session)
        if not shares:
            fits = offer.uncounted or count <= state.available(offer.pool, offer.seats)
        else:
            fits = terms.has_room(state, shares, 0 if offer.uncounted else offer.seats, count)
        return shares if fits else None

    def _why_not(
        self, state: LedgerState, session: Session, offers: tuple[Offer, ...],
        key: Version | None, request: Checkout, now: float, refused: Refusal | None,
    ) -> Denial:  # fmt: skip
        """Say why none of *offers* fits, in the order in which a person would ask; *refused* is what
        the options file said of the first that would have had room."""
        fit = [offer for offer in offers if key is None or key <= offer.version_key]
        if not fit:
            highest = max(offers, key=lambda offer: offer.version_key)
            return Denial(ErrorCode.VERSION_NOT_SERVED,
                          f"asked for version {request.version}, the highest is {highest.version}")  # fmt: skip
        good = [offer for offer in fit if not offer.refusal]
        if not good:
            early = [offer for offer in fit if offer.refusal == ErrorCode.NOT_STARTED_YET]
            if early:
                return Denial(ErrorCode.NOT_STARTED_YET, "")
            package = next((offer for offer in fit if offer.line.package and offer.seats), None)
            if package is not None:
                return Denial(ErrorCode.PACKAGE_CHECKOUT,
                              f"{package.feature} is a package: check out one of its components")  # fmt: skip
            last = max(fit, key=lambda offer: offer.line.expiry_day or 0)
            return Denial(ErrorCode.EXPIRED, f"on {last.line.expiry_text}")
        mine = [offer for offer in good if self._refusal(session, offer) is None]
        if not mine:
            return Denial(*(self._refusal(session, good[0]) or (ErrorCode.INVALID_HOST, "")))
        if self._regulations is not None and (refused is None or refused.is_access):
            refused = self._regulations.shut_out(session, mine)  # also where nothing is free
        if refused is not None:
            more = f"; {self._in_use(state, mine, now)}" if refused.is_access else ""
            return Denial(refused.code, refused.detail + more)
        most = max(offer.seats for offer in mine)
        if request.count > most:
            return Denial(ErrorCode.TOO_MANY_ASKED,
                          f"asked for {request.count} of {most} issued{self._kept_back(mine)}")  # fmt: skip
        return Denial(ErrorCode.USERS_REACHED, self._in_use(state, mine, now) + self._kept_back(mine))

    def _kept_back(self, offers: list[Offer]) -> str:
        return "" if self._regulations is None else self._regulations.kept_back(offers)

    def _in_use(self, state: LedgerState, offers: list[Offer], now: float) -> str:
        held = sum(offer.seats - state.available(offer.pool, offer.seats) for offer in offers)
        issued = sum(offer.seats for offer in offers)
        who = self._holders.text(state, offers[0].feature, [offer.pool for offer in offers], now)
        suite = next((said for offer in offers if offer.terms is not None
                      and (said := offer.terms.suite_text(state))), "")  # fmt: skip
        return f"{held} of {issued} in use" + (f": {who}" if who else "") + suite

    # --- checkin and withdrawal -----------------------------------------------------------------

    def _checkin(self, state: LedgerState, session: Session, request: Checkin) -> Verdict:
        seen = self._seen_before(session, request.request)
        if seen is not None:
            return seen
        seat = session.seats.get(request.handle)
        if seat is None:
            return Denial(
                ErrorCode.NEVER_CHECKED_OUT, f"this session does not hold handle {request.handle}"
            )
        command = _new(
            SeatReturned, (session.session, request.request, request.answered, request.handle, "")
        )
        return _new(Return, (command, seat))

    def _withdraw(self, state: LedgerState, session: Session, request: Withdraw) -> Verdict:
        seen = self._seen_before(session, request.request)
        if seen is not None:
            return seen
        if not 0 < request.target < request.request:
            return Denial(ErrorCode.INVALID_PARAMETER, "only an earlier request can be withdrawn")
        queued = session.queued.get(request.target)
        if (
            request.target <= session.answered
            and queued is None
            and session.seat_of(request.target) is None
        ):
            return Denial(
                ErrorCode.INVALID_PARAMETER, f"request {request.target} was answered before"
            )
        seat: Seat | None = None
        result = session.results.get(request.target)
        if result is not None and type(result.command) is SeatGranted:
            seat = session.seats.get(result.command.handle)
        elif queued is None:
            seat = session.seat_of(request.target)  # it had waited for it
        return Withdrawal(
            RequestWithdrawn(session.session, request.request, request.answered, request.target),
            seat, queued,
        )  # fmt: skip
