"""What every transport of the client has to do, whatever it is made of.

A transport's test module subclasses :class:`ClientTransportSuite` and gives it a fixture
``transport``: an object with ``open(path, **options)``, a context manager of an
:class:`OpenClient`. The blocking client passes as it is (``test_sync_conformance``); the async one is
wrapped so that each call runs in its loop (``test_trio_client_conformance``).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import pytest

from flexcore.errors import (
    CheckoutDenied,
    LicenseLost,
    LocalProtocolError,
    NoQuorum,
    NoServerReachable,
    NotOneTriad,
)
from flexcore.keys import SigningKey
from flexcore.licensefile import parse_license, sign_license
from flexcore.wire import messages as wire
from tests.client_borrowing import BorrowingSuite
from tests.socket_triad import ORDERLY, RESET, SocketTriad

PATIENCE_S = 20.0
"""Generous: the tests assert what happens, not how fast, unless the protocol gives a number."""


class OpenSeat(Protocol):
    handle: int
    held: bool
    lost: LicenseLost | None

    def checkin(self) -> None: ...
    def require(self) -> None: ...


class OpenClient(Protocol):
    def checkout(
        self, feature: str, version: str = "", *, count: int = 1, wait_s: float | None = None
    ) -> Any: ...
    def close(self) -> None: ...


class Transport(Protocol):
    def open(self, path: str, **options: Any) -> contextlib.AbstractContextManager[Any]: ...

    def breathe(self, client: Any) -> None:
        """Let the client do what is due, for a moment; nothing where it does so by itself."""


class ClientTransportSuite(BorrowingSuite):
    """The suite; not collected by itself."""

    @pytest.fixture
    def triad(self) -> Iterator[SocketTriad]:
        with SocketTriad() as triad:
            yield triad

    def until(self, transport: Transport, client: Any, what: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not what():
            assert time.monotonic() < deadline, "it never happens"
            transport.breathe(client)
            time.sleep(0.01)

    # --- the main way -----------------------------------------------------------------------------

    def test_checkout_hold_checkin(self, transport, triad):
        with transport.open(triad.path) as client:
            with client.checkout("f1", "1.0", count=3) as seat:
                assert seat.held
                assert (seat.feature, seat.version, seat.count) == ("f1", "1.0", 3)
                assert seat.started == 1000.0
                assert triad.ledger.free == 7
            assert not seat.held
            with pytest.raises(LicenseLost):
                seat.require()
            self.until(transport, client, lambda: triad.ledger.free == 10)
        assert triad.ledger.sessions == {}

    def test_a_seat_that_is_idle_is_told_with_the_heartbeats(self, transport, triad):
        with transport.open(triad.path) as client, client.checkout("f1") as seat:
            session = client._desk.machine._sites[0].session
            seat.idle()
            assert list(session.idle_since) == [seat.handle]
            seat.active()
            seat.active()
            assert session.idle_since == {}
            seat.checkin()
            seat.idle()  # too late, and harmless

    def test_close_says_goodbye_and_then_ends_in_order(self, transport, triad):
        with transport.open(triad.path) as client:
            seat = client.checkout("f1")
        assert not seat.held
        assert triad.ledger.free == 10
        deadline = time.monotonic() + PATIENCE_S
        while not triad.sockets[0].ends:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert triad.sockets[0].ends == [ORDERLY]
        with pytest.raises(LocalProtocolError):
            client.checkout("f1")
        client.close()

    def test_denial(self, transport, triad):
        with transport.open(triad.path) as client, pytest.raises(CheckoutDenied) as denied:
            client.checkout("f9")
        assert (denied.value.code, denied.value.feature) == (-5, "f9")
        assert str(denied.value) == "No such feature exists. (-5,346) f9"

    def test_impossible_arguments(self, transport, triad):
        with transport.open(triad.path) as client:
            for feature, count in (("", 1), ("f1", 0)):
                with pytest.raises(ValueError):
                    client.checkout(feature, count=count)

    # --- nobody there -----------------------------------------------------------------------------

    def test_no_server(self, transport, triad):
        with triad.lock:
            for server in triad.sockets:
                server.kill()
        with transport.open(triad.path) as client, pytest.raises(NoServerReachable) as silence:
            client.checkout("f1", wait_s=0.5)
        assert silence.value.code == -15
        assert len(silence.value.attempts) == 3
        assert "refused" in str(silence.value)

    def test_no_quorum(self, transport, triad):
        with triad.lock:
            triad.master = None
        with transport.open(triad.path) as client, pytest.raises(NoQuorum) as silence:
            client.checkout("f1", wait_s=0.5)
        assert silence.value.code == -97
        assert "waiting for a quorum" in str(silence.value)

    def test_a_quorum_that_comes_in_time(self, transport, triad):
        with triad.lock:
            triad.master = None
        with transport.open(triad.path) as client:
            with pytest.raises(NoQuorum):
                client.checkout("f1", wait_s=0.3)
            with triad.lock:
                triad.elect(1)
            assert client.checkout("f1").held
        assert len(triad.ledger.results) == 1  # what was given up was never asked

    def test_a_name_that_nobody_knows(self, transport):
        path = "2837@no-such-host.invalid"
        with transport.open(path) as client, pytest.raises(NoServerReachable) as silence:
            client.checkout("f1", wait_s=1.0)
        assert "no-such-host.invalid" in str(silence.value)

    def test_not_one_triad(self, transport):
        with SocketTriad(1) as one, SocketTriad(1) as other:
            path = f"{one.path},{other.path}"
            with transport.open(path) as client, pytest.raises(NotOneTriad):
                client.checkout("f1")

    def test_a_server_that_speaks_something_else(self, transport, triad):
        with triad.lock:
            triad.servers[0].answer = lambda conn, message: [wire.Heartbeat(1, 1, 1)]
            triad.elect(1)
        with transport.open(triad.path) as client:
            assert client.checkout("f1").held

    # --- failover ---------------------------------------------------------------------------------

    def test_kill_of_the_master_loses_nothing(self, transport, triad):
        losses: list[Any] = []
        with transport.open(triad.path, on_loss=lambda *what: losses.append(what)) as client:
            seat = client.checkout("f1")
            with triad.lock:
                triad.sockets[0].kill()
                triad.elect(1)
            second = client.checkout("f1")
            assert seat.held
            assert second.held
            assert losses == []
            assert len(triad.ledger.sessions) == 1
        assert triad.ledger.free == 10

    def test_a_silent_master_is_left_with_a_reset(self, transport, triad):
        """Rules 16, 17: to retry elsewhere the client aborts; an orderly end would be its death."""
        with transport.open(triad.path) as client:
            seat = client.checkout("f1")
            with triad.lock:
                triad.servers[0].frozen = True
                triad.servers[0].triad.elect(1)
            second = client.checkout("f1")
            assert seat.held
            assert second.held
            self.until(transport, client, lambda: triad.sockets[0].ends)
            assert RESET in triad.sockets[0].ends
            assert ORDERLY not in triad.sockets[0].ends

    def test_a_large_answer_in_pieces(self, transport, triad):
        with triad.lock:
            triad.line = "x" * 300_000
        with transport.open(triad.path) as client:
            assert client.checkout("f1").held

    # --- losses -----------------------------------------------------------------------------------

    def test_removal_is_told_at_once(self, transport, triad):
        losses: list[tuple[Any, LicenseLost]] = []
        with transport.open(
            triad.path, on_loss=lambda seat, why: losses.append((seat, why))
        ) as client:
            seat = client.checkout("f1")
            with triad.lock:
                triad.sockets[0].push(wire.SeatsLost(1, (seat.handle,), -63, "removed by root"))
            self.until(transport, client, lambda: losses)
            assert not seat.held
            assert losses[0][0] is seat
            assert losses[0][1].reason == "removed by root"
            assert seat.lost is losses[0][1]
            with pytest.raises(LicenseLost):
                seat.require()
            seat.checkin()

    def test_the_lease_ends_without_servers(self, transport, triad):
        losses: list[tuple[Any, LicenseLost]] = []
        with triad.lock:
            triad.lease_s = 1.5
        with transport.open(
            triad.path, on_loss=lambda seat, why: losses.append((seat, why))
        ) as client:
            seat = client.checkout("f1")
            with triad.lock:
                for server in triad.sockets:
                    server.kill()
            self.until(transport, client, lambda: losses)
            assert not seat.held
            assert seat.lease_left_s == 0.0

    def test_heartbeats_without_a_call(self, transport, triad):
        """A lease of 1.2 s, held for longer than that; the application only breathes where it has to."""
        with triad.lock:
            triad.lease_s = 1.2
        with transport.open(triad.path) as client:
            seat = client.checkout("f1")
            end = time.monotonic() + 2.0
            while time.monotonic() < end:
                transport.breathe(client)
                assert seat.held
                time.sleep(0.02)

    def test_a_callback_that_fails_ends_nothing(self, transport, triad, caplog):
        def fail(*_: object) -> None:
            raise RuntimeError("the application's bug")

        with transport.open(triad.path, on_loss=fail) as client:
            seat = client.checkout("f1")
            kept = client.checkout("f1")
            with triad.lock:
                triad.sockets[0].push(wire.SeatsLost(1, (seat.handle,), -63, "removed"))
            self.until(transport, client, lambda: not seat.held)
            assert client.checkout("f1").held
            assert kept.held
        assert "the application's bug" in caplog.text

    def test_a_callback_may_check_out_again(self, transport, triad):
        """From inside of the callback nobody else drives the client: it must not wait for itself."""
        again: list[Any] = []
        clients: list[Any] = []

        def lost(*_: object) -> None:
            again.append(clients[0].checkout("f1"))

        with transport.open(triad.path, on_loss=lost) as client:
            clients.append(client)
            seat = client.checkout("f1")
            with triad.lock:
                triad.sockets[0].push(wire.SeatsLost(1, (seat.handle,), -63, "removed"))
            self.until(transport, client, lambda: again)
            assert again[0].held

    # --- the queue --------------------------------------------------------------------------------

    def free(self, triad: SocketTriad, count: int) -> None:
        """Somebody else gives seats back: told to whoever waits, with the next word that is said."""
        with triad.lock:
            triad.ledger.free += count
            for server in triad.sockets:
                for conn, message in server.fake.take_pushes():
                    server.say(conn, message)

    def test_queue_by_looking(self, transport, triad):
        with triad.lock:
            triad.ledger.free = 0
        with transport.open(triad.path) as client:
            first = client.queue("f1", count=2)
            self.until(transport, client, lambda: first.is_queued)
            second = client.queue("f1")
            self.until(transport, client, lambda: second.is_queued)
            assert (first.ahead, second.ahead, first.seat) == (0, 1, None)
            assert first.text == "all in use by bob@elm"
            self.free(triad, 2)
            self.until(transport, client, lambda: first.is_over)
            assert first.seat.held
            assert (first.ahead, first.is_queued) == (None, False)
            assert not second.is_over
            first.seat.checkin()
            self.until(transport, client, lambda: second.seat is not None and second.seat.held)

    def test_queue_by_waiting(self, transport, triad):
        with triad.lock:
            triad.ledger.free = 0
        with transport.open(triad.path) as client:
            waiting = client.queue("f1")
            with pytest.raises(CheckoutDenied) as denied:
                waiting.wait(0.3)
            assert denied.value.code == -35
            assert waiting.is_queued
            self.free(triad, 1)
            assert waiting.wait().held

    def test_queue_by_callback(self, transport, triad):
        told: list[Any] = []
        with triad.lock:
            triad.ledger.free = 0
        with transport.open(triad.path) as client:
            waiting = client.queue("f1", on_change=lambda one: told.append((one.ahead, one.is_over)))
            self.until(transport, client, lambda: told)
            self.free(triad, 1)
            self.until(transport, client, lambda: len(told) > 1)
            assert told == [(0, False), (None, True)]
            assert waiting.seat.held

    def test_a_blocking_checkout_queues(self, transport, triad):
        with triad.lock:
            triad.ledger.free = 1
        with transport.open(triad.path) as client:
            assert client.checkout("f1", queue=True).held  # it was free
            with pytest.raises(CheckoutDenied) as denied:
                client.checkout("f1", queue=True, queue_s=0.2)
            assert denied.value.code == -35
            self.until(transport, client, lambda: not triad.ledger.waiting)
            with pytest.raises(CheckoutDenied) as denied:
                client.checkout("f9", queue=True)
            assert denied.value.code == -5

    def test_cancel_leaves_the_queue(self, transport, triad):
        with triad.lock:
            triad.ledger.free = 0
        with transport.open(triad.path) as client:
            waiting = client.queue("f1")
            self.until(transport, client, lambda: waiting.is_queued)
            waiting.cancel()
            waiting.cancel()
            self.until(transport, client, lambda: not triad.ledger.waiting)
            with pytest.raises(LocalProtocolError):
                waiting.wait()
            late = client.queue("f1")
            self.until(transport, client, lambda: late.is_queued)
            self.free(triad, 1)
            self.until(transport, client, lambda: late.seat is not None)
            late.cancel()  # what was granted is given back
            self.until(transport, client, lambda: triad.ledger.free == 1)
            assert not late.seat.held

    def test_the_place_is_kept_when_the_master_dies(self, transport, triad):
        with triad.lock:
            triad.ledger.free = 0
        with transport.open(triad.path) as client:
            waiting = client.queue("f1")
            self.until(transport, client, lambda: waiting.is_queued)
            place = triad.ledger.waiting[0][0]
            with triad.lock:
                triad.sockets[0].kill()
                triad.elect(1)
            self.until(transport, client, lambda: client.is_serving and triad.servers[1].links)
            assert triad.ledger.waiting[0][0] == place
            self.free(triad, 1)
            assert waiting.wait().held

    def test_close_ends_the_wait(self, transport, triad):
        with triad.lock:
            triad.ledger.free = 0
        with transport.open(triad.path) as client:
            waiting = client.queue("f1")
            self.until(transport, client, lambda: waiting.is_queued)
            client.close()
            with pytest.raises(LocalProtocolError):
                waiting.wait()
        assert not triad.ledger.waiting

    # --- verified grants --------------------------------------------------------------------------

    def test_grants_are_verified(self, transport, triad):
        key = SigningKey("demo", b"\x22" * 32)
        text = "SERVER a ID=1 2837\nVENDOR demo\nFEATURE f1 demo 1.0 permanent 10\n"
        line = sign_license(parse_license(text), key).features[0].signed_text
        with triad.lock:
            triad.line, triad.hostids = line, ("ID=1",)
        with transport.open(triad.path, keys=[str(key.verifying_key)]) as client:
            assert client.checkout("f1").held
        with triad.lock:
            triad.line = line.replace("permanent 10", "permanent 11")
        with transport.open(triad.path, keys=[key.verifying_key]) as client:
            with pytest.raises(CheckoutDenied) as denied:
                client.checkout("f1")
            assert denied.value.code == -8
            self.until(transport, client, lambda: triad.ledger.free == 10)
