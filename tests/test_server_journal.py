"""What a server says of itself in the debug log: the triad's words with their why, and the end (D7, D8)."""

from __future__ import annotations

import re

import pytest

from flexcore.identity import Rank
from flexcore_testing import Triad


def lines_of(triad: Triad, server: str) -> list[str]:
    return triad.log(server).splitlines()


def texts_of(triad: Triad, server: str) -> list[str]:
    return [line.partition(") ")[2] for line in lines_of(triad, server)]


def test_each_word_of_the_triad_is_followed_by_why():
    triad = Triad(heartbeat_interval_s=20)
    triad.isolate("primary")
    triad.advance(100.0)
    texts = texts_of(triad, "primary")
    words = [text for text in texts if text.startswith(("Connected to", "CONNECTED", "Lost "))]
    assert words == [
        "Connected to lee", "Connected to terry", "CONNECTED, master is pat", "Lost connection to lee",
        "Lost connection to terry", "Lost quorum",
    ]  # fmt: skip
    for number, text in enumerate(texts):
        if text in words:
            assert re.match(r"Why: .+; term \d+", texts[number + 1]), text
    (why,) = [texts[number + 1] for number, text in enumerate(texts) if text == "Lost quorum"]
    heard = [float(ago) for ago in re.findall(r"(?:lee|terry) last heard ([\d.]+) s ago", why)]
    assert len(heard) == 2
    assert all(70.0 < ago <= 80.0 for ago in heard)


def test_a_follower_that_reaches_nobody_says_that_its_quorum_is_lost_once():
    triad = Triad(heartbeat_interval_s=20)
    triad.isolate("tertiary")
    triad.advance(300.0)
    texts = texts_of(triad, "tertiary")
    assert texts.count("Lost quorum") == 1
    assert texts.count("Lost connection to pat") == 1
    triad.heal()
    triad.advance(100.0)
    triad.isolate("tertiary")
    triad.advance(300.0)
    assert texts_of(triad, "tertiary").count("Lost quorum") == 2
    assert "Lost quorum" not in texts_of(triad, "primary"), "two of three are one"


def test_whoever_comes_into_a_running_group_says_so():
    triad = Triad(heartbeat_interval_s=20)
    triad.crash("primary")
    triad.wait_for_master()
    triad.start("primary")
    triad.advance(10.0)
    texts = texts_of(triad, "primary")
    at = texts.index("Selected (EXISTING) master lee")
    assert texts[at + 1] == "CONNECTED, master is lee"
    assert "Selected (EXISTING) master pat" not in texts_of(triad, "secondary"), "it voted for it"


@pytest.mark.parametrize(("by", "number"), [("SIGTERM", 15), ("SIGINT", 2)])
def test_an_end_by_a_signal_has_its_own_words(by, number):
    triad = Triad(heartbeat_interval_s=20)
    run = triad._sim.run_of(Rank.PRIMARY)
    assert run is not None
    run.post(("stop", "one", by))
    triad.advance(20.0)
    texts = texts_of(triad, "primary")
    assert f"Shutting down demo pid=0 because of signal {number}" in texts
    assert texts[-2:] == [
        f"EXITING DUE TO SIGNAL {number} Exit reason 4", "License server manager (lmgrd) exiting"
    ]  # fmt: skip
    assert not any(text.startswith("Shutdown requested") for text in texts)
