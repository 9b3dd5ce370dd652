"""Probes: where to look in order to count how often a rule of protocol.md acts.

A probe looks at one method of the real machines from outside: what was asked, what came of it. The machines know
nothing of probes; :func:`flexcore_testing.coverage.probing` puts them around the methods while a seed runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from flexcore.checkout.machine import CheckoutMachine, Denial
from flexcore.client.pursuit import Pursuit
from flexcore.client.session import Session as ClientSession
from flexcore.identity import Rank
from flexcore.ledger import Ledger
from flexcore.quorum.base import Role
from flexcore.quorum.config import SPENT
from flexcore.quorum.machine import QuorumMachine
from flexcore.server.desk import ClientDesk
from flexcore.server.replies import HeldReplies
from flexcore.server.waiting import WaitingRoom
from flexcore.timing import persist_slow_s

Look = Callable[[Any, tuple[Any, ...], Any], Any]
"""Given the object, the arguments, and the result (before the call: None): whether to count, as truth."""


@attrs.frozen
class Probe:
    """Counts *name* at calls of *owner*'s *method*: *before* looks when it is called, *after* when it has returned."""

    owner: type
    method: str
    name: str
    after: Look | None = None
    before: Look | None = None


def _always(owner: type, method: str, name: str) -> Probe:
    return Probe(owner, method, name, after=lambda _it, _args, _result: True)


def _when(owner: type, method: str, name: str, holds: Look) -> Probe:
    return Probe(owner, method, name, after=holds)


def _first(owner: type, method: str, name: str, holds: Look) -> Probe:
    """As :func:`_when`, but looked at before the call changes anything."""
    return Probe(owner, method, name, before=holds)


def _changes(owner: type, method: str, name: str, value: Callable[[Any, tuple[Any, ...]], bool]) -> Probe:
    """Counts calls that make *value* true that was not."""
    seen: list[bool] = []

    def before(it: Any, args: tuple[Any, ...], _result: Any) -> None:
        seen.append(value(it, args))

    def after(it: Any, args: tuple[Any, ...], _result: Any) -> bool:
        return not seen.pop() and value(it, args)

    return Probe(owner, method, name, after=after, before=before)


Q = QuorumMachine


def _vote_by_release(machine: Any, args: tuple[Any, ...], ok: Any) -> bool:
    return bool(ok) and len(args) > 2 and args[2] is not None and not machine.free_for(args[0], args[1])


def _void_by(gone: bool) -> Callable[[Any, tuple[Any, ...]], bool]:
    def value(machine: Any, _args: tuple[Any, ...]) -> bool:
        if not machine.promise_void:
            return False
        promised = machine.hard.promised_to
        if promised is None or promised.rank == machine.rank:
            return False
        return machine.peers[Rank(promised.rank)].gone is gone

    return value


def _slow(machine: Any) -> bool:
    return bool(machine._disk_slow(machine.now, persist_slow_s(machine.config.heartbeat_interval_s)))


def _is_master(machine: Any, _args: tuple[Any, ...], _result: Any) -> bool:
    return machine.role is Role.MASTER


def _partner(machine: Any, args: tuple[Any, ...]) -> Any:
    return args[0].hello


_TELLING: list[bool] = []


def _tells(begins: bool) -> Look:
    """Whether an answer to a pre-vote is given unasked: inside of ``_tell_refused``."""

    def look(_it: Any, _args: tuple[Any, ...], _result: Any) -> None:
        _TELLING[:] = [True] if begins else []

    return look


QUORUM_PROBES: tuple[Probe, ...] = (
    # 1: votes and promises
    _when(Q, "_promise_after_restart", "1 a restart keeps the promise", lambda _m, _a, length: length > 0),
    _always(Q, "_end_candidacy_promise", "1 a candidate's promise to itself ends"),
    _always(Q, "_higher_term_in_reply", "1 a reply teaches a higher term"),
    _first(Q, "_on_vote_reply", "1 a late vote is ignored", lambda m, _a, _r: m.role is not Role.CANDIDATE),
    _when(Q, "free_for", "1 bound: not free for a candidate", lambda _m, _a, free: not free),
    # 2: lengths
    _when(Q, "_extend_lease", "2 the voter names a shorter length", lambda m, a, _r: a[1] < m.config.timeout_s),
    # 3: standing
    _when(Q, "_start_pull", "3 pull before the vote", lambda _m, a, _r: a[1] == "stand"),
    _when(Q, "_put_in_place", "3 the pulled log is put in place", lambda _m, a, _r: a[0].purpose == "stand"),
    _when(Q, "_head_start_s", "3 the other one gets a head start", lambda _m, _a, wait: wait > 0),
    _when(Q, "_head_start_s", "3 after three failures it yields", lambda m, _a, wait: wait > 0 and m.failures >= 3),
    Probe(Q, "_tell_refused", "", after=_tells(False), before=_tells(True)),
    _when(Q, "_answer_prevote", "3 a refusal is taken back", lambda _m, a, _r: a[2] and bool(_TELLING)),
    # 4: voting
    _when(Q, "_log_new_enough", "4 an older log gets no vote", lambda _m, _a, ok: not ok),
    _when(Q, "_vote_is_free", "4 one vote a term", lambda _m, _a, ok: not ok),
    _first(Q, "_on_vote", "4 a vote needs a fresh nonce", lambda _m, a, _r: a[2].nonce not in a[0].voter_nonces),
    # 5: winning and committing
    _when(
        Q, "_held_by_quorum", "5 entries of old terms wait for one of the own",
        lambda m, _a, index: m.ledger.commit < index < m.started_index,
    ),
    _first(
        Q, "_fresh_boot", "5 what another boot held is forgotten",
        lambda _m, a, _r: a[0].boot is not None and a[0].boot.boot_id != a[1].boot_id and a[0].match > 0,
    ),
    _always(Q, "_truncate_log", "5 an overruled tail is taken back"),
    # 6: evidence
    _changes(Q, "_promise_is_void", "6 void by own evidence: refused", _void_by(True)),
    _changes(Q, "_promise_is_void", "6 void by a fresh boot", _void_by(False)),
    _first(
        Q, "_promise", "6 a void promise comes back to life",
        lambda m, a, _r: m.promise_void and m.hard.promised_to == a[0],
    ),
    _changes(Q, "_runs_twice", "6 two processes are one server", lambda _m, a: a[0].twice),
    # 7: boots
    _always(Q, "_become_recovering", "7 it shows less than is remembered"),
    _first(Q, "_raise_counter", "7 a number for the blank server", lambda m, _a, _r: m.hard.counter == 0),
    _when(Q, "_heard", "7 a frame of or for another boot is dropped", lambda _m, _a, peer: peer is None),
    # 8: recovering
    _first(Q, "_bind_after_recovery", "8a bound to the confirmed master", lambda _m, a, _r: a[0] is not None),
    _first(Q, "_bind_after_recovery", "8b copied from both others", lambda _m, a, _r: a[0] is None),
    _when(Q, "_bind_after_recovery", "8b waits", lambda m, a, _r: a[0] is None and m.no_promise_before > a[1]),
    _when(Q, "_vote_is_free", "8 the vote is spent", lambda m, _a, ok: not ok and m.hard.voted_for == SPENT),
    _when(Q, "_may_promise", "8 no promise before the wait is over", lambda _m, _a, ok: not ok),
    _when(Q, "_answer_recover", "8a the third server confirms", lambda _m, a, _r: a[3]),
    # 9: forming
    _always(Q, "_propose_forming", "9 form: proposed"),
    _when(
        Q, "_propose_forming", "9 form: by waiting",
        lambda m, a, _r: not m.first_start and not _partner(m, a).first_start,
    ),
    _when(Q, "_recovery_pulled", "9 form: on the log of the member left", lambda _m, a, _r: a[0].purpose == "form"),
    _always(Q, "_bind_triad", "9 form: done"),
    _always(Q, "_give_up_triad", "9 an unused triad is given up"),
    _when(Q, "_other_triad", "9 another triad is no peer", lambda _m, _a, other: other),
    _when(Q, "_halt", "9 formed anew without it: it stops", lambda _m, a, _r: "formed anew" in a[1]),
    _when(Q, "_notice", "9 --first-start is ignored", lambda _m, a, _r: a[0] == "first_start_ignored"),
    # 10, 11: hand-over
    _always(Q, "_release_to", "10 release"),
    _when(Q, "_on_timeout_now", "10 stands by a release", lambda m, _a, _r: m.role is Role.CANDIDATE),
    _when(Q, "_on_timeout_now", "10 a release that is void", lambda m, _a, _r: m.role is not Role.CANDIDATE),
    _when(Q, "free_for", "10 a vote by release", _vote_by_release),
    _when(Q, "_notice", "10 a hand-over is given up", lambda _m, a, _r: a[0] == "handover" and "given up" in a[1]),
    _first(Q, "_begin_handover", "11 the primary takes over", lambda m, a, _r: a[1] == "PRIMARY_IS_MASTER"),
    _when(
        Q, "_begin_handover", "11 after a doubled wait",
        lambda m, a, _r: a[1] == "PRIMARY_IS_MASTER" and m.primary_failures > 0,
    ),
    # 12, 13: losing
    _when(Q, "_deaf", "12 unbound voter", lambda _m, _a, deaf: deaf),
    _first(Q, "_on_append_reply", "12 an answer without a promise", lambda _m, a, _r: a[2].promise_s <= 0),
    _when(Q, "_notice", "12 the lease is lost", lambda _m, a, _r: a[0] == "lost_quorum"),
    _first(Q, "_higher_term_in_reply", "13 a master steps down for a higher term", _is_master),
    # 19, 20, 21, 22, 23
    _when(Q, "_has_rights", "19 other rights: may not stand", lambda _m, _a, ok: not ok),
    _when(
        Q, "_has_rights", "19 a majority shows new rights",
        lambda m, _a, ok: ok and m.ledger.state.rights not in (*m.known_rights, b""),
    ),
    _always(Q, "_begin_disk_handover", "20 a slow disk hands over"),
    _first(Q, "_renewal", "20 a voter with a slow disk renews nobody", lambda m, _a, _r: _slow(m)),
    _always(Q, "_disk_dead", "20 the disk failed: it stops"),
    _when(Q, "_detector_holds", "21 the detector is off", lambda _m, _a, holds: holds),
    _first(
        Q, "_release_everybody", "22 the master releases everybody",
        lambda m, _a, _r: m.role is Role.MASTER and m.stop_scope == "all",
    ),
    _first(Q, "_on_stop_release", "22 a release is stored", lambda _m, a, _r: a[2].release is not None),
    _first(Q, "distrust", "23 a lease is distrusted", _is_master),
    # catching up
    _when(Q, "_follow_pull", "catch-up: the log does not reach back", lambda m, _a, _r: True),
    _when(Q, "_take_piece", "catch-up: a piece of a snapshot", lambda _m, _a, useful: useful),
    _always(Ledger, "make_snapshot", "catch-up: the log is folded"),
)

D = ClientDesk

CLIENT_PROBES: tuple[Probe, ...] = (
    _when(
        CheckoutMachine, "decide", "14 a freed seat waits for its commit",
        lambda _m, a, verdict: isinstance(verdict, Denial) and verdict.code == -4 and any(
            a[0].freed_uncommitted(pool) for pool in a[0].in_use),
    ),
    _always(HeldReplies, "until_round", "15 an answer waits for a round"),
    _first(
        Q, "note_term_seen", "15 a higher term: answers nobody until a round",
        lambda m, a, _r: m.role is Role.MASTER and a[0] > m.hard.term,
    ),
    _when(D, "_end_session", "15 a lease is over", lambda _d, a, _r: a[1] == "LEASE EXPIRED"),
    _when(D, "_end_session", "16 an end of stream frees", lambda _d, a, _r: a[1] == "CLIENT EXITED"),
    _first(D, "connection_ended", "16 a broken connection frees nothing", lambda _d, a, _r: a[0].session is not None),
    _always(D, "_goodbye", "16 a goodbye frees at once"),
    _always(D, "_welcome_back", "17 a session is resumed"),
    _always(D, "_repeat", "17 a repeat gets the same answer"),
    _when(D, "_deny", "17 a number that was answered is refused", lambda _d, a, _r: "answered before" in a[3].detail),
    _when(D, "_give_back", "17 a request is withdrawn", lambda _d, a, _r: type(a[3]).__name__ == "Withdrawal"),
    _always(D, "_refuse_session", "17 a session is refused"),
    _always(WaitingRoom, "keep_or_redirect", "5 nobody is answered before serving"),
    _when(Pursuit, "_adopt", "17 a client moves its session", lambda _p, _a, _r: True),
    _when(ClientSession, "lost_by_lease", "15 a client ceases to believe", lambda _s, _a, lost: lost),
    _when(Q, "propose", "18 a stamp never goes back", lambda m, _a, _r: m.wall < m.ledger.last_stamp),
)
