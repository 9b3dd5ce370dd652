"""An options file beside real servers: read at start, said in the log, changed by lmreread, kept over a failover."""

from __future__ import annotations

import sys

import pytest

from flexcore.identity import Rank
from flexcore.wire.messages import Denied, Granted
from tests.real.triad import Session, running

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
