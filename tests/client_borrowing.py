"""What every transport of the client does about borrowing: taken home, given back early, found again after a death.
Part of the suite for transports (:mod:`tests.client_conformance`)."""

from __future__ import annotations

import time

import pytest

from flexcore.borrowing import ASKED, LENT, RETURNING
from flexcore.errors import (
    BorrowError,
    CheckoutDenied,
    LocalProtocolError,
    NoQuorum,
    NoServerReachable,
)
from flexcore.licensefile.signature import membership_digest_of
from flexcore.record import replace
from flexcore.wire import messages as wire
from flexcore_host.borrow_files import BorrowFolder
from tests.borrow_kit import HOUR
from tests.socket_triad import SocketTriad


class BorrowingSuite:
    """Needs the fixtures ``transport`` and ``triad`` of the whole suite."""

    @pytest.fixture
    def lenders(self, triad: SocketTriad) -> SocketTriad:
        with triad.lock:
            triad.line, triad.hostids = "FEATURE f1 demo 1.0 permanent 10 BORROW=48", ("ID=1",)
            triad.digests = dict.fromkeys(range(3), membership_digest_of("demo", ("ID=1",)))
        return triad

    @pytest.fixture
    def folder(self, tmp_path, monkeypatch) -> BorrowFolder:
        monkeypatch.setenv("FLEXCORE_BORROW_DIR", str(tmp_path / "borrow"))
        return BorrowFolder(str(tmp_path / "borrow"))

    def test_a_borrowing_is_given_back_before_its_end(self, transport, lenders, folder):
        with transport.open(lenders.path) as client:
            with pytest.raises(BorrowError) as told:
                client.return_borrowed("f1")
            assert told.value.code == -41
            seat = client.checkout("f1")
            seat.borrow(time.time() + HOUR)
            assert (seat.borrowed, lenders.ledger.free) == (True, 9)
            with pytest.raises(BorrowError):
                client.return_borrowed("f1", "2.0")
            assert client.return_borrowed("F1", "1.0") == 1  # also what this client uses itself
            assert not seat.held
            assert (lenders.ledger.free, lenders.ledger.lent, folder.files()) == (10, {}, [])
            assert not client.checkout("f1").borrowed

    def test_by_another_run_and_after_the_master_died(self, transport, lenders, folder):
        for _ in range(2):
            with transport.open(lenders.path) as client, client.checkout("f1") as seat:
                if not seat.borrowed:
                    seat.borrow(time.time() + HOUR)
        with lenders.lock:
            lenders.sockets[0].kill()
            lenders.elect(1)
        with transport.open(lenders.path) as client:
            assert client.return_borrowed("f1") == 1
        assert (lenders.ledger.free, folder.files()) == (10, [])

    def test_a_return_that_reaches_nobody_changes_nothing(self, transport, lenders, folder):
        with transport.open(lenders.path) as client:
            client.checkout("f1").borrow(time.time() + HOUR)
            with lenders.lock:
                lenders.elect(None)
        with transport.open(lenders.path) as client:
            seat = client.checkout("f1")
            with pytest.raises(NoQuorum):
                client.return_borrowed("f1", wait_s=0.5)
            assert [found.record.state for found in folder.files()] == [LENT]
            assert seat.borrowed
            assert seat.held
            with lenders.lock:
                lenders.elect(2)
            assert client.return_borrowed("f1") == 1
        assert lenders.ledger.free == 10

    def test_a_connection_to_a_server_that_is_silent_is_nobody(self, transport, lenders, folder):
        with transport.open(lenders.path) as client:
            other = client.checkout("f1")
            seat = client.checkout("f1")
            seat.borrow(time.time() + HOUR)
            with lenders.lock:
                lenders.servers[0].frozen = True
            with pytest.raises(NoServerReachable):
                client.return_borrowed("f1", wait_s=0.7)
            assert [found.record.state for found in folder.files()] == [LENT]
            assert seat.held
            assert other.held
            with lenders.lock:
                lenders.elect(1)
            assert client.return_borrowed("f1") == 1
        assert not any(isinstance(each, wire.ReturnBorrow) for each in lenders.servers[0].heard)

    def test_a_return_whose_answer_got_lost_is_done_again(self, transport, lenders, folder):
        with transport.open(lenders.path) as client:
            client.checkout("f1").borrow(time.time() + HOUR)
            with lenders.lock:
                lenders.keeps_answers = True
            with pytest.raises(BorrowError) as told:
                client.return_borrowed("f1", wait_s=0.5)
            assert told.value.code == -124
            assert [found.record.state for found in folder.files()] == [RETURNING]
            assert lenders.ledger.free == 10
            with lenders.lock:
                lenders.keeps_answers = False
            assert client.return_borrowed("f1") == 1  # they do not know it any more, and lent it once
        assert folder.files() == []

    def test_others_than_lent_it_know_nothing_and_it_stays(self, transport, lenders, folder):
        with transport.open(lenders.path) as client:
            client.checkout("f1").borrow(time.time() + HOUR)
        with lenders.lock:
            lenders.ledger.lent.clear()
            lenders.digests = {}
        with transport.open(lenders.path) as client:
            with pytest.raises(BorrowError) as told:
                client.return_borrowed("f1")
            assert told.value.code == -128
            assert [found.record.state for found in folder.files()] == [LENT]
            with lenders.lock:
                lenders.digests = dict.fromkeys(range(3), membership_digest_of("demo", ("ID=1",)))
        with transport.open(lenders.path) as client:
            with pytest.raises(BorrowError) as told:
                client.return_borrowed("f1")
            assert told.value.code == -128  # those that lent it have given it to somebody else
            assert folder.files() == []
            client.close()
            with pytest.raises(LocalProtocolError):
                client.return_borrowed("f1")

    def test_what_another_process_uses_is_not_given_back(self, transport, lenders, folder):
        with transport.open(lenders.path) as client:
            client.checkout("f1").borrow(time.time() + HOUR)
            with transport.open(lenders.path) as other, pytest.raises(BorrowError) as told:
                other.return_borrowed("f1")
            assert told.value.code == -124
            assert "uses f1" in str(told.value)
        assert lenders.ledger.lent

    # --- the answer to a borrowing that nobody lived to hear ----------------------------------------

    def die_unheard(self, transport, lenders, folder, *, lent: bool) -> None:
        """What is there when the machine dies before (*lent*: behind) the servers' lending: a file that says ASKED."""
        with transport.open(lenders.path) as client:
            client.checkout("f1").borrow(time.time() + HOUR)
        (found,) = folder.files()
        with lenders.lock:
            folder.write(found.record.turned(ASKED))
            if not lent:
                lenders.ledger.lent.clear()
                lenders.ledger.free = 10

    def test_what_was_lent_unheard_is_used_by_the_next_checkout(self, transport, lenders, folder):
        self.die_unheard(transport, lenders, folder, lent=True)
        with lenders.lock:
            lenders.ledger.free = 0  # others have the rest
        with transport.open(lenders.path) as client, client.checkout("f1") as seat:
            assert seat.borrowed
            assert (lenders.ledger.free, len(lenders.ledger.seats)) == (0, 0)
        assert [found.record.state for found in folder.files()] == [LENT]

    def test_what_was_not_lent_is_asked_for_again_under_its_id(self, transport, lenders, folder):
        self.die_unheard(transport, lenders, folder, lent=False)
        (asked,) = folder.files()
        with transport.open(lenders.path) as client, client.checkout("f1") as seat:
            assert not seat.borrowed
            seat.borrow(time.time() + 2 * HOUR)
            assert seat.borrowed
        (found,) = folder.files()
        assert (found.record.borrow, found.record.secret) == (asked.record.borrow, asked.record.secret)
        assert found.record.state == LENT
        assert list(lenders.ledger.lent) == [asked.record.borrow]
        assert lenders.ledger.free == 9

    def test_what_is_asked_for_again_is_shared_as_its_line_has_it(self, transport, lenders, folder):
        with lenders.lock:
            lenders.line += " DUP_GROUP=UH"
        self.die_unheard(transport, lenders, folder, lent=False)
        with transport.open(lenders.path) as client, client.checkout("f1") as seat:
            seat.borrow(time.time() + HOUR)
            with transport.open(lenders.path) as other, other.checkout("f1") as shared:
                assert (seat.borrowed, shared.borrowed) == (True, True)
        assert lenders.ledger.free == 9

    def test_a_lending_that_comes_to_light_only_then_takes_no_second_seat(self, transport, lenders, folder):
        """The dead run's question arrives late: between the next run's asking what became of it, and its borrowing."""
        self.die_unheard(transport, lenders, folder, lent=False)
        (asked,) = folder.files()
        with transport.open(lenders.path) as client, client.checkout("f1") as seat:
            until = time.time() + HOUR
            with lenders.lock:
                old = wire.HeldSeat(1, "f1", "1.0", 1, 1000.0)
                lenders.ledger.lent[asked.record.borrow] = asked.record.secret, until, old
                lenders.ledger.free -= 1
            seat.borrow(until + HOUR)
            assert seat.borrowed
            assert 0.0 < seat.lease_left_s <= HOUR
        assert (lenders.ledger.free, len(lenders.ledger.seats), len(lenders.ledger.lent)) == (9, 0, 1)

    def test_where_nobody_answers_it_is_said_and_changes_nothing(self, transport, lenders, folder):
        self.die_unheard(transport, lenders, folder, lent=True)
        before = folder.files()
        with lenders.lock:
            lenders.elect(None)
        began = time.monotonic()
        with transport.open(lenders.path) as client:
            with pytest.raises(CheckoutDenied) as told:
                client.checkout("f1", wait_s=0.5)
            assert told.value.code == -117
            assert "no server confirmed it" in str(told.value)
        assert time.monotonic() - began < 5.0  # what is waited for first is part of the patience
        assert folder.files() == before

    def test_what_is_of_another_machine_or_too_small_is_left_alone(self, transport, lenders, folder):
        self.die_unheard(transport, lenders, folder, lent=True)
        (found,) = folder.files()
        folder.write(replace(found.record, machine=("HOSTNAME=oak", "00163e777777")))
        with transport.open(lenders.path) as client, client.checkout("f1") as seat:
            assert not seat.borrowed
        folder.write(found.record)
        with transport.open(lenders.path) as client, client.checkout("f1", count=2) as seat:
            assert not seat.borrowed
        assert [each.record for each in folder.files()] == [found.record]
