"""An options file beside real servers: read at start, said in the log, changed by lmreread, kept over a failover."""

from __future__ import annotations

import sys
import time

import pytest

from flexcore.identity import Rank
from flexcore.wire.messages import AdminReply, AdminRequest, Denied, Granted, SeatsLost
from tests.ports import HOSTS
from tests.real.triad import Session, Wire, running

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(sys.platform != "linux", reason="needs 127.0.0.2 and .3, and signals"),
]

P, S, T = Rank


def test_options_decide_change_and_survive_a_failover(tmp_path):
    with running(tmp_path, features=("f1 1.0 permanent 3",)) as triad:
        options = triad.license_files[P].parent / "demo.opt"
        options.write_text("GROUP dev bob\nRESERVE 2 f1 GROUP dev\nEXCLUDE f1 USER carl\nTIMEOUTALL 3600\n")
        triad.start(P, S, T)
        triad.until_all_follow(P)
        log = triad.log(P)
        assert f'(demo) Using options file: "{options}"' in log
        assert "(demo) RESERVING 2 f1 licenses for USER_GROUP dev" in log
        assert "(demo) ALL FEATURES: INACTIVITY TIMEOUT set to 3600 seconds" in log
        ann, carl = Session(triad, "ann"), Session(triad, "carl")
        assert isinstance(ann.checkout("f1"), Granted)
        reserved, excluded = ann.checkout("f1"), carl.checkout("f1")
        assert isinstance(reserved, Denied)
        assert (reserved.code, reserved.detail) == (
            -101, f"1 of 3 in use by ann@elm; 2 reserved by {options}:2: RESERVE 2 f1 GROUP dev"
        )  # fmt: skip
        assert isinstance(excluded, Denied)
        assert (excluded.code, f"{options}:3: EXCLUDE f1 USER carl" in excluded.detail) == (-38, True)

        options.write_text("EXCLUDE f1 INTERNET 127.*\n")
        assert triad.flexcore("lmreread", "-c", triad.path).returncode == 0
        outside = carl.checkout("f1")
        assert isinstance(outside, Denied)
        assert outside.code == -38
        options.write_text("MAX 1 f1 USER ann\n")
        said = triad.flexcore("lmreread", "-c", triad.path)
        assert said.returncode == 0, said.stdout
        assert said.stdout.count("1 rules of options are in effect now") == 3, said.stdout
        assert isinstance(carl.checkout("f1"), Granted)
        triad.kill(P)
        triad.until_master(S)
        ann.resume()
        over = ann.checkout("f1")
        assert isinstance(over, Denied)
        assert over.code == -87
        carl.resume()
        assert isinstance(carl.checkout("f1"), Granted)
        ann.goodbye()
        carl.goodbye()


def test_lmremove_by_way_of_a_follower_and_what_lingers(tmp_path):
    """The follower passes it on; the client is told and gives it back; a restart of the master keeps what lingers."""
    with running(tmp_path, features=("f1 1.0 permanent 2",)) as triad:
        (triad.license_files[P].parent / "demo.opt").write_text("LINGER f1 3600\n")
        triad.extra = ("--lmremove-min", "0.2")
        triad.start(P, S, T)
        triad.until_all_follow(P)
        ann, bob = Session(triad, "ann"), Session(triad, "bob")
        held, given_back = ann.checkout("f1"), bob.checkout("f1")
        assert isinstance(held, Granted)
        assert isinstance(given_back, Granted)
        bob.checkin(given_back.handle)
        time.sleep(0.3)
        follower = Wire(HOSTS[T], triad.port)
        said = follower.ask(AdminRequest(1, "remove", ("user", "f1", "ann", "elm", ":0"), "root", "elm"))
        follower.close()
        assert isinstance(said, AdminReply)
        assert (said.code, said.lines) == (0, (f"f1: ann elm :0 (handle {held.handle})",))
        assert ann.wire is not None
        lost = ann.wire.receive()
        assert isinstance(lost, SeatsLost)
        assert lost.handles == (held.handle,)
        triad.kill(P)
        triad.until_master(S)
        ann.resume()
        assert [each.handle for each in ann.held] == [held.handle], "the client has not answered yet"
        assert ann.wire is not None
        assert isinstance(ann.wire.receive(), SeatsLost)
        ann.checkin(held.handle)
        (row,) = triad.seats()
        assert (row.user, row.linger_s) == ("bob", 3600.0)
        assert row.linger_left_s is not None
        assert 3590.0 < row.linger_left_s <= 3600.0
        removed = triad.flexcore("lmremove", "-c", triad.path, "f1", "bob", "elm", ":0")
        assert (removed.returncode, "(-100,483)" in removed.stdout) == (156, True), removed.stdout
        assert '(demo) IN: "f1" ann@elm  (REMOVED)' in triad.log(S)
        bob.resume()
        assert isinstance(bob.checkout("f1"), Granted)
        ann.goodbye()
        bob.goodbye()
