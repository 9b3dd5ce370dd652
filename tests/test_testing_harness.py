"""flexcore_testing.Triad: the simulated triad that products test against."""

from __future__ import annotations

import datetime
import inspect
import subprocess
import sys

import pytest

import flexcore_sync
import flexcore_testing
from flexcore import timing
from flexcore.errors import (
    BorrowError,
    CheckoutDenied,
    LicenseError,
    LicenseLost,
    LocalProtocolError,
    NoQuorum,
    NoServerReachable,
)
from flexcore.identity import Rank
from flexcore.keys import SigningKey
from flexcore.licensefile import format_license, parse_license, sign_license
from flexcore.quorum.machine import QuorumMachine
from flexcore_testing import Client, Seat, Triad, Violation
from flexcore_testing.harness_waiting import Waiting

OWN = """\
SERVER hall 001122334455 5001 HEARTBEAT_INTERVAL=2
SERVER lab 001122334456 5002
SERVER yard 001122334457 5003
VENDOR acme
FEATURE editor acme 3.0 31-dec-2026 2 SIGN=0
INCREMENT editor acme 3.0 permanent 1 ISSUED=1-jan-2025 SIGN=0
FEATURE free acme 1.0 permanent uncounted HOSTID=ANY SIGN=0
"""
KEY = SigningKey("acme", bytes(range(32)))


# --- the two stories ----------------------------------------------------------------------------------------------


def test_the_issue_s_example():
    triad = Triad()
    seat = triad.client("user1").checkout("f1")
    triad.cut("primary", "secondary", one_way=True)
    triad.crash("primary")
    triad.advance(seconds=80)
    triad.check()
    assert triad.master == "secondary"
    assert seat.held
    assert triad.in_use("f1") == 1
    triad.heal()
    triad.restart("primary")
    triad.advance(200)
    assert triad.master == "secondary"
    seat.checkin()
    assert triad.in_use("f1") == 0
    triad.check()


def test_a_licence_that_is_lost_is_told_at_once():
    triad = Triad()
    told = []
    user = triad.client("user1", on_loss=lambda seat, error: told.append((triad.now, seat, error)))
    seat = user.checkout("f1")
    began = triad.now
    triad.crash("primary")
    triad.crash("secondary")
    triad.advance(triad.lease_s - 11)
    assert seat.held
    assert not told
    triad.advance(12)
    assert not seat.held
    assert isinstance(seat.lost, LicenseLost)
    ((at, which, error),) = told
    assert which is seat
    assert error is seat.lost
    assert at - began <= triad.lease_s
    with pytest.raises(LicenseLost, match="no licence server has confirmed it in time"):
        seat.require()
    with pytest.raises(NoQuorum, match="no quorum"):
        user.checkout("f1")
    triad.restart("secondary")
    triad.wait_for_master()
    assert user.checkout("f1").held
    assert not seat.held
    triad.check()


def test_everything_can_be_forgotten():
    triad = Triad(heartbeat_interval_s=1)
    seat = triad.client("user1").checkout("f1")
    triad.forget_everything()
    triad.advance(5)
    assert seat.lost is not None
    assert triad.client("user1").checkout("f1").held
    triad.check()


def test_after_a_failover_what_is_forgotten_is_told_when_the_lease_ends():
    """The terms begin anew: to the client the new master is one of the past, until it believes in nothing any more."""
    triad = Triad(heartbeat_interval_s=1)
    seat = triad.client("user1").checkout("f1")
    triad.crash("primary")
    triad.wait_for_master()
    triad.restart("primary")
    triad.advance(10)
    triad.forget_everything()
    triad.advance(5)
    assert seat.held
    triad.advance(triad.lease_s)
    assert seat.lost is not None
    assert triad.client("user1").checkout("f1").held
    triad.check()


def test_a_goodbye_to_an_old_master_frees_the_seat_at_its_successor():
    """The master and the product's machine slept, another serves; the first word after waking is the goodbye. The old
    master's "I do not serve" was ignored, and the seat stayed taken for the lease."""
    triad = Triad(heartbeat_interval_s=1)
    user = triad.client("user1")
    user.checkout("f1")
    triad.pause("primary")
    user.pause()
    triad.wait_for_master()
    triad.advance(5)
    triad.resume("primary")
    user.resume()
    user.close()
    triad.advance(1)
    assert triad.in_use("f1") == 0
    triad.check()


# --- servers ------------------------------------------------------------------------------------------------------


def test_states_of_servers():
    triad = Triad(start=False)
    assert triad.master is None
    assert [triad.state(rank) for rank in Rank] == ["down"] * 3
    with pytest.raises(TimeoutError, match=r"2 simulated seconds.*\n  primary: down"):
        triad.wait_for_master(within_s=2)
    triad.start("secondary")
    triad.start("tertiary")
    assert triad.wait_for_master() == "secondary"
    triad.start("PRIMARY")
    triad.advance(1)
    assert [triad.state(name) for name in ("pat", "lee", "terry")] == ["follower", "serving", "follower"]
    triad.pause("lee")
    assert triad.state("secondary") == "paused"
    triad.advance(1.1 * triad.timeout_s)
    assert triad.master == "primary"
    triad.resume("lee")
    triad.advance(1)
    assert triad.state("lee") == "follower"
    triad.check()


def test_an_orderly_stop_hands_over_at_once():
    triad = Triad()
    seat = triad.client("user1").checkout("f1")
    began = triad.now
    triad.stop("primary")
    assert triad.wait_for_master() == "secondary"
    assert triad.now - began < 1
    assert seat.held
    assert triad.state("primary") == "down"
    triad.restart("secondary")  # stops it first
    assert triad.state("secondary") != "down"


def test_power_disk_and_calendar():
    triad = Triad(heartbeat_interval_s=1)
    seat = triad.client("user1").checkout("f1")
    triad.power_off("primary")
    triad.advance(10)
    assert triad.master == "secondary"
    triad.lose_disk("primary")
    triad.start("primary")
    triad.jump_wall_clock("secondary", -3600)
    triad.advance(10)
    assert triad.state("primary") == "follower"
    assert seat.held
    triad.check()
    assert triad._sim.checks.only is None, "one lost disk is within the assumptions"
    triad.crash("primary")
    triad.crash("tertiary")
    triad.lose_disk("tertiary")
    assert triad._sim.checks.only is not None, "the other servers do not both take part"


def test_primary_is_master_comes_back():
    triad = Triad(heartbeat_interval_s=1, primary_is_master=True)
    triad.crash("primary")
    triad.advance(10)
    assert triad.master == "secondary"
    triad.restart("primary")
    triad.advance_until(lambda: triad.master == "primary", within_s=60)
    triad.check()


def test_isolation_and_healing():
    triad = Triad(heartbeat_interval_s=1)
    user = triad.client("user1")
    seat = user.checkout("f1")
    triad.isolate("primary")
    triad.advance(10)
    assert triad.master == "secondary"
    assert seat.held
    assert user.is_serving
    triad.heal("primary", "secondary")
    triad.heal("primary", "tertiary")
    triad.heal()
    for server in Rank:
        triad.cut("user1", server)
    triad.advance(triad.lease_s)
    assert not seat.held
    with pytest.raises(NoServerReachable):
        user.checkout("f1", wait_s=5)
    triad.heal()
    triad.advance(5)
    assert user.checkout("f1").held
    triad.check()


def test_lmstat_and_the_debug_log():
    triad = Triad(features={"f1": 3})
    user = triad.client("user1")
    user.checkout("f1", count=2)
    text = triad.lmstat()
    assert "pat: license server UP (MASTER) v0.1" in text
    assert "Users of f1:  (Total of 3 licenses issued;  Total of 2 licenses in use)" in text
    assert "user1 user1-host /dev/tty (v1.0) (pat/2837 1), start Thu 1/1 12:00, 2 licenses" in text
    assert "Users of" not in triad.lmstat(usage=False)
    assert 'OUT: "f1" user1@user1-host  (2 licenses)' in triad.log("primary")
    triad.crash("primary")
    triad.pause("tertiary")
    began = triad.now
    text = triad.lmstat()
    assert triad.now - began == pytest.approx(3, abs=0.1)
    assert 'pat: Cannot connect to license server system. (-15,570:111 "Connection refused")' in text
    assert 'terry: Cannot connect to license server system. (-15,570:110 "Connection timed out")' in text
    triad.check()


# --- clients ------------------------------------------------------------------------------------------------------


LENDING = """\
SERVER pat id=1 2837
SERVER lee id=2 2837
SERVER terry id=3 2837
VENDOR demo
HEARTBEAT_INTERVAL=1
FEATURE f1 demo 1.0 permanent 2 BORROW=48
"""


def public_names(kind):
    return {name for name in dir(kind) if not name.startswith("_")}


@pytest.mark.parametrize(("real", "simulated"), [
    (flexcore_sync.Client, Client), (flexcore_sync.Seat, Seat), (flexcore_sync.Waiting, Waiting),
])
def test_clients_and_seats_have_the_real_surface(real, simulated):
    assert public_names(real) <= public_names(simulated)
    for name in sorted(public_names(real)):
        theirs, ours = getattr(real, name), getattr(simulated, name)
        assert isinstance(theirs, property) == isinstance(ours, property), name
        if callable(theirs):
            here = [str(each).partition(":")[0] for each in inspect.signature(theirs).parameters.values()]
            assert here == [str(each).partition(":")[0] for each in inspect.signature(ours).parameters.values()], name


def test_a_licence_that_is_taken_home():
    """It is held where no server answers, to its end, and the servers count it for as long."""
    triad = Triad(LENDING)
    told: list[LicenseLost] = []
    ann = triad.client("ann", on_loss=lambda _seat, loss: told.append(loss))
    seat = ann.checkout("f1")
    until = ann._run.wall() + 7200.0
    seat.borrow(until)
    assert (seat.held, seat.borrowed) == (True, True)
    with pytest.raises(LocalProtocolError, match="borrowed already"):
        seat.borrow(until)
    seat.checkin()
    assert ann.return_borrowed("F1", "1.0") == 1
    with pytest.raises(BorrowError, match="nothing like that"):
        ann.return_borrowed("f1")
    seat = ann.checkout("f1")
    seat.borrow(until)
    for server in ("primary", "secondary", "tertiary"):
        triad.crash(server)
    with pytest.raises(NoServerReachable):
        ann.return_borrowed("f1")
    triad.advance(seconds=7000)
    assert seat.held
    assert 0.0 < seat.lease_left_s <= 200.0
    triad.advance(seconds=300)
    assert not seat.held
    assert [loss.code for loss in told] == [-118]


def test_a_licence_that_is_not_lent_is_held_as_before():
    triad = Triad(features={"f1": 2})
    seat = triad.client("ann").checkout("f1")
    with pytest.raises(CheckoutDenied) as caught:
        seat.borrow(seat._client._run.wall() + 3600.0)
    assert caught.value.code == -68
    assert (seat.held, seat.borrowed) == (True, False)


def test_a_checkout_that_waits():
    triad = Triad(features={"f1": 2})
    told = []
    ann, bob = triad.client("ann"), triad.client("bob")
    seat = ann.checkout("f1", count=2)
    with pytest.raises(CheckoutDenied) as caught:
        bob.checkout("f1", queue=True, queue_s=5.0)
    assert caught.value.code == -35
    waiting = bob.queue("f1", on_change=lambda one: told.append(one.is_over))
    triad.advance(1.0)
    assert waiting.is_queued
    assert "bob bob-host /dev/tty 1.0 (v1.0) (pat/2837 " in triad.lmstat()
    triad.crash("primary")
    triad.advance(30.0)
    seat.checkin()
    assert waiting.wait().held
    triad.advance(0.0)
    assert told == [False, True]
    waiting.cancel()
    assert bob.seats == ()
    triad.check()


def test_denials():
    triad = Triad(features={"f1": 2})
    seat = triad.client("user1").checkout("f1", "1.0", count=2)
    with pytest.raises(CheckoutDenied, match="Licensed number of users already reached") as caught:
        triad.client("user2").checkout("f1")
    assert caught.value.code == -4
    with pytest.raises(CheckoutDenied) as caught:
        triad.client("user2").checkout("f9")
    assert (caught.value.code, caught.value.feature) == (-5, "f9")
    seat.checkin()
    seat.checkin()
    with pytest.raises(LicenseLost, match="given back"):
        seat.require()
    with triad.client("user2").checkout("f1") as other:
        assert (other.count, other.version, other.handle != seat.handle) == (1, "1.0", True)
        assert other.lease_left_s > 100
        assert other.started == pytest.approx(1767268800 + triad.now, abs=1)
    assert triad.in_use("f1") == 0


def test_how_a_client_ends():
    triad = Triad()
    for how, after_s in (("close", 0.0), ("crash", 3.0), ("power_off", 400.0)):
        user = triad.client("user1")
        assert triad.client("user1") is user
        seat = user.checkout("f1")
        assert user.seats == (seat,)
        getattr(user, how)()
        assert not seat.held
        assert len(user.seats) == 0
        assert not user.running
        with pytest.raises(LicenseLost, match=r"the client (is|has) (closed|crashed|powered off)"):
            seat.require()
        with pytest.raises(LocalProtocolError, match=r"triad.client\('user1'\) starts another"):
            user.checkout("f1")
        seat.checkin()
        triad.advance(after_s)
        assert triad.in_use("f1") == 0, how
        assert triad.client("user1") is not user
    with triad.client("user2") as user:
        user.checkout("f1")
    assert triad.in_use("f1") == 0
    user.close()
    triad.check()


def test_a_client_that_sleeps_too_long_finds_its_seat_lost():
    triad = Triad()
    user = triad.client("user1")
    seat = user.checkout("f1")
    user.pause()
    with pytest.raises(LocalProtocolError, match="is paused"):
        user.checkout("f1")
    triad.advance(60)
    assert seat.held, "the lease still runs, whether or not the process does"
    triad.advance(300)
    assert not seat.held
    user.resume()
    triad.advance(1)
    assert seat.lost is not None
    with pytest.raises(LocalProtocolError, match="not paused"):
        user.resume()
    triad.check()


def test_a_callback_may_use_the_triad():
    triad = Triad()
    again = []
    user = triad.client("user1", on_loss=lambda seat, error: again.append(user.checkout("f2")))
    user.checkout("f1")
    triad.forget_everything()
    triad.advance(5)
    assert [seat.feature for seat in user.seats] == ["f2"]


def test_the_same_story_twice():
    def story():
        triad = Triad(seed=3, jitter_s=0.01)
        triad.client("user1").checkout("f1")
        triad.crash("primary")
        triad.advance(100)
        return triad.chart(200)

    assert story() == story()


def test_the_story_is_told_without_messages():
    triad = Triad()
    triad.client("user1").checkout("f1")
    triad.crash("primary")
    triad.advance(1)
    head, *lines = triad.story(1000).splitlines()
    assert head.startswith("What happened")
    assert not [line for line in lines if " -> " in line or " -x " in line]
    assert [line for line in lines if line.endswith("user1 holds f1 handle 1")]
    assert [line for line in lines if line.endswith("P killed while serving")]
    assert triad.story(2).splitlines()[1:] == lines[-2:]


# --- licence files ------------------------------------------------------------------------------------------------


def test_an_own_licence_file(tmp_path):
    path = tmp_path / "acme.lic"
    path.write_text(OWN)
    for given in (OWN, str(path), path, parse_license(OWN)):
        triad = Triad(given)
        assert triad.timeout_s == 7
        user = triad.client("ann")
        assert user.checkout("editor", "2.5").version == "2.5"
        user.checkout("editor")
        triad.client("bob").checkout("editor")
        with pytest.raises(CheckoutDenied):
            triad.client("bob").checkout("editor")
        assert triad.client("bob").checkout("free").held
        assert "ann ann-host /dev/tty (v2.5) (hall/5001 1), start" in triad.lmstat()
        triad.crash("hall")
        triad.advance(10)
        assert triad.in_use("editor") == 3
        triad.check()
    assert str(path) in Triad(path).lmstat()
    assert Triad(OWN, heartbeat_interval_s=0).timeout_s == 79


def test_counts_of_several_lines_add_up_in_one_checkout():
    triad = Triad(OWN)
    assert triad.client("ann").checkout("editor", count=3).count == 3
    triad.crash("primary")
    triad.advance(10)
    assert triad.in_use("editor") == 3
    triad.check()


def test_a_file_that_the_publisher_signed():
    text = format_license(sign_license(parse_license(OWN), KEY))
    triad = Triad(text, keys=str(KEY.verifying_key), heartbeat_interval_s=5)
    assert triad.keys == (KEY.verifying_key,)
    assert triad.client("ann").checkout("editor").held
    with pytest.raises(LicenseError, match=r"does not verify.*\n  line 5: editor"):
        Triad(text.replace("3.0 31-dec-2026 2", "3.0 31-dec-2027 2"), keys=[KEY.verifying_key])
    with pytest.raises(LicenseError, match="of vendor acme, and the keys are of other"):
        Triad(text, keys=SigningKey("other", KEY.seed).verifying_key)


def test_the_calendar_is_the_test_s():
    triad = Triad(OWN, date="2026-12-31")
    assert triad.date == datetime.date(2026, 12, 31)
    for name in ("ann", "bob", "cid"):
        triad.client(name).checkout("editor")
    later = Triad(OWN, date=datetime.date(2027, 1, 1))
    later.client("ann").checkout("editor")
    with pytest.raises(CheckoutDenied, match="Licensed number"):
        later.client("bob").checkout("editor")
    gone = Triad(OWN.replace("acme 3.0 permanent 1", "acme 3.0 2-jan-2026 1"), date="2028-01-01")
    with pytest.raises(CheckoutDenied) as caught:
        gone.client("ann").checkout("editor")
    assert caught.value.code == -10
    assert "2028-01-01" in caught.value.__notes__[0]


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"license": "no/such/file.lic"}, LicenseError, "no/such/file.lic cannot be read: No such file"),
        ({"license": 7}, TypeError, "not int"),
        ({"license": "SERVER one ANY 5000\nVENDOR demo\nFEATURE f1 demo 1.0 permanent 1 SIGN=0\n"}, LicenseError,
         "has 1 SERVER line: a triad has three"),
        ({"license": OWN.replace("VENDOR acme\n", "")}, LicenseError, r"no server starts with(.|\n)*no VENDOR line"),
        ({"license": OWN, "features": {"f1": 1}}, ValueError, "not both"),
        ({"features": {"f1": 0}}, ValueError, "'f1' needs a number of licences, 1 to"),
        ({"features": {"f 1": 1}}, ValueError, "cannot be licensed"),
        ({"features": {}}, LicenseError, "no line is of vendor"),
        ({"keys": str(KEY.verifying_key)}, ValueError, "give that as well"),
        ({"heartbeat_interval_s": 121}, ValueError, "from 0 to 120, not 121"),
        ({"heartbeat_interval_s": 1.5}, ValueError, "whole number"),
        ({"date": "tomorrow"}, ValueError, "'tomorrow' is no date"),
        ({"date": 7}, TypeError, "datetime.date"),
        ({"latency_s": -1}, ValueError, "latency_s=-1"),
        ({"jitter_s": "1"}, TypeError, "jitter_s is a number"),
    ],
)  # fmt: skip
def test_wrong_arguments(arguments, error, text):
    with pytest.raises(error, match=text):
        Triad(**arguments)


# --- wrong calls --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def quiet():
    return Triad()


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda t: t.crash("quaternary"), ValueError, r"'quaternary' is no server of this triad: primary \(pat\)"),
        (lambda t: t.crash(None), ValueError, "nobody serves"),
        (lambda t: t.start("primary"), LocalProtocolError, "runs already"),
        (lambda t: t.resume("primary"), LocalProtocolError, "the primary is not paused"),
        (lambda t: t.lose_disk("tertiary"), LocalProtocolError, "crash or stop it before"),
        (lambda t: t.cut("primary", "pat"), ValueError, "are one machine"),
        (lambda t: t.cut("primary", "nobody"), ValueError, "nor is it one of its clients: none yet"),
        (lambda t: t.heal("primary"), TypeError, "heal"),
        (lambda t: t.advance(-1), ValueError, "seconds=-1"),
        (lambda t: t.advance(float("nan")), ValueError, "seconds=nan"),
        (lambda t: t.advance("80"), TypeError, "number of simulated seconds"),
        (lambda t: t.advance(1e12), ValueError, "from 0 to"),
        (lambda t: t.client("P"), ValueError, "name of a server"),
        (lambda t: t.client("terry"), ValueError, "name of a server"),
        (lambda t: t.client("two words"), ValueError, "no user name"),
        (lambda t: t.client(7), TypeError, "named by a text"),
        (lambda t: t.in_use("f9"), ValueError, "'f9' is not in the licence file: f1, f2"),
    ],
)
def test_wrong_calls(quiet, call, error, text):
    with pytest.raises(error, match=text):
        call(quiet)


def test_calls_at_the_wrong_time():
    triad = Triad()
    triad.crash("primary")
    for call in (triad.crash, triad.stop, triad.pause, triad.power_off, triad.resume):
        with pytest.raises(LocalProtocolError, match="the primary: it is down"):
            call("primary")
    triad.pause("tertiary")
    with pytest.raises(LocalProtocolError, match="paused already"):
        triad.pause("tertiary")
    with pytest.raises(LocalProtocolError, match="resume it, or crash it"):
        triad.stop("tertiary")
    triad.crash("secondary")
    with pytest.raises(NoQuorum, match=r"nobody serves:\n  primary: down"):
        triad.in_use("f1")


# --- a promise that is broken -------------------------------------------------------------------------------------


def test_a_rule_that_is_taken_out_is_noticed_with_the_last_messages(monkeypatch):
    """What one server holds counts as committed: its grant is lost with it."""
    monkeypatch.setattr(QuorumMachine, "_held_by_quorum", lambda self: self.durable_index)
    triad = Triad(heartbeat_interval_s=1)
    user = triad.client("user1")
    user.checkout("f1")
    triad.cut("primary", "secondary")
    triad.cut("primary", "tertiary")
    user.checkout("f1")
    triad.check()
    with pytest.raises(Violation) as caught:
        triad.advance(60)
    assert caught.value.name in ("I4", "log")
    assert "The last messages" in str(caught.value)
    assert " S -> T " in str(caught.value)
    for call in (triad.check, triad.lmstat, lambda: triad.advance(1), lambda: triad.client("user2")):
        with pytest.raises(Violation, match=caught.value.name):
            call()


def test_a_failed_assertion_of_the_core_shows_the_last_messages(monkeypatch):
    monkeypatch.setattr(timing, "shrunk_s", lambda duration: 3 * duration)
    with pytest.raises(AssertionError) as caught:
        Triad(heartbeat_interval_s=1)
    assert "The last messages" in caught.value.__notes__[0]


def test_check_sees_what_no_turn_has_shown():
    triad = Triad()
    seat = triad.client("user1").checkout("f1", count=10)
    triad.check()
    run = triad._sim.master()
    assert run is not None
    row = run.ledger.state.seats.pop(seat.handle)
    with pytest.raises(Violation, match="I4: user1 believes in handle 1"):
        triad.check()
    triad._violation = None
    run.ledger.state.seats[seat.handle] = row._replace(seats=11) if hasattr(row, "_replace") else row
    with pytest.raises(Violation, match=r"I3|I9"):
        triad.check()


# --- the package --------------------------------------------------------------------------------------------------


def test_the_package_needs_neither_pytest_nor_trio():
    code = (
        "import sys\n"
        "for name in ('pytest', 'trio', 'hypothesis', 'pytest_trio'): sys.modules[name] = None\n"
        "import flexcore_testing\n"
        "triad = flexcore_testing.Triad()\n"
        "triad.client('user1').checkout('f1')\n"
        "print(triad.master, sorted(set(flexcore_testing.__all__) - set(dir(flexcore_testing))))\n"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert told.stdout == "primary []\n"


def test_names_are_loaded_when_used():
    assert flexcore_testing.Triad is Triad
    with pytest.raises(AttributeError, match="has no attribute 'Tirad'"):
        flexcore_testing.Tirad  # noqa: B018
