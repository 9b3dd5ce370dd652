"""``flexcore lmreread`` against real processes: a rolling change, a bad file, a failover in the middle."""

from __future__ import annotations

import sys

import pytest

from flexcore.identity import Rank
from flexcore.wire.messages import Denied, Granted
from tests.ports import HOSTS
from tests.real.triad import Session, running, until

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(sys.platform != "linux", reason="needs 127.0.0.2 and .3, and signals"),
]

P, S, T = Rank
OLD = ("f1 1.0 permanent 3", "f2 1.0 permanent 2")
NEW = ("f1 1.0 permanent 1", "f3 1.0 permanent 5")


def granted(session, feature):
    reply = session.checkout(feature)
    assert isinstance(reply, Granted), reply
    return reply.handle


def denied(session, feature):
    reply = session.checkout(feature)
    assert isinstance(reply, Denied), reply
    return reply.code


def test_licence_files_change_while_everything_runs(tmp_path):
    with running(tmp_path) as triad:
        triad.start(P, S, T)
        triad.until_all_follow(P)
        ann = Session(triad)
        handles = [granted(ann, "f1"), granted(ann, "f1"), granted(ann, "f2")]

        same = triad.flexcore("lmreread", "-c", triad.path)
        assert (same.returncode, same.stdout.count(": no change")) == (0, 3), same.stdout

        # The tertiary's file is damaged: it is named and keeps what it has; the others change.
        triad.write_license(NEW, (P, S))
        triad.license_files[T].write_text(triad.license_text(NEW).replace(" 5 SIGN", " 9 SIGN"))
        said = triad.flexcore("lmreread", "-c", f"{triad.port}@{HOSTS[S]}")
        assert said.returncode == 256 - 8, said.stdout + said.stderr
        assert f"{HOSTS[T]} (tertiary): keeps what it has: 1 of its lines are not" in said.stdout
        assert 'added "f3" v1.0 (5 licenses, permanent)' in said.stdout
        assert 'removed "f2" v1.0 (2 licenses, permanent); the 1 in use stay until they are given back' in said.stdout
        assert triad.master() is P
        assert (denied(ann, "f1"), denied(ann, "f2")) == (-4, -5)
        granted(ann, "f3")

        # The primary dies before the third has the file: the secondary's is in force.
        triad.kill(P)
        triad.until_master(S)
        assert {seat.handle for seat in ann.resume()} >= {*handles}
        granted(ann, "f3")

        triad.write_license(NEW, (T,))
        done = triad.flexcore("lmreread", "-c", triad.path, "--server", "tertiary")
        assert done.returncode == 0, done.stdout
        until("the log says so", lambda: "REREAD: lmreread received from admin" in triad.log(T))
        assert "...Finished rereading" in triad.log(S)
        for handle in handles:
            ann.checkin(handle)
        granted(ann, "f1")
        missing = triad.flexcore("lmreread", "-c", triad.path)
        assert missing.returncode == 256 - 15, missing.stdout
        assert f"{HOSTS[P]} (primary): was not reached; it keeps what it has" in missing.stdout
        ann.goodbye()
