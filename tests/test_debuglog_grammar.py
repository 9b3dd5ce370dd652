"""The debug log of a day with a failover is read back, line by line, into what clients were told."""

from __future__ import annotations

import argparse
import itertools
import os
import re

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flexcore.codes import minor_of, text_of
from flexcore.errors import CheckoutDenied
from flexcore.licensefile import format_license, parse_license, sign_license
from flexcore.options import parse_options
from flexcore.report import log_line, logline
from flexcore.report.logline import dated_log_line
from flexcore_testing import Triad, harness
from flexcore_testing.harness_licence import epoch_of
from flexcore_tools import _setup, cli, lmgrd
from tests.budget import examples
from tests.debuglog_grammar import LICENCES, Line, NoShape, read
from tests.ports import free_port
from tests.test_lmgrd import KEY, SERVERS

OPTIONS = """\
LINGER f2 600
MAX 1 f3 USER bob
GROUP staff ann bob eve
RESERVE 1 f3 GROUP staff
EXCLUDE f9 USER mallory
TIMEOUTALL 7200
"""
NOON = 12.0
BEGINS_AT = NOON if "FLEXCORE_LONG" in os.environ else 22.9
"""The hour at which the day begins: the whole of it takes 20 s."""


class Day:
    """A triad until past midnight, and what its clients were told on the way."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        since_noon_s = (BEGINS_AT - NOON) * 3600.0
        patch.setattr(harness, "epoch_of", lambda date: epoch_of(date) + since_noon_s)
        self.triad = Triad(features={"f1": 3, "f2": 1, "f3": 5}, heartbeat_interval_s=120,
                           date="2026-03-01", start=False)  # fmt: skip
        sim, options = self.triad._sim, parse_options(OPTIONS, name="demo.opt")
        config_of = sim.server_config
        sim.options_of = lambda rank: options  # type: ignore[method-assign]
        sim.server_config = lambda rank: attrs.evolve(config_of(rank), options=options)  # type: ignore[method-assign]
        self.triad._sim.first_start = True
        self.told: list[tuple[str, str, str, int]] = []
        for server in ("primary", "secondary", "tertiary"):
            self.triad.start(server)
        self.triad.wait_for_master()
        self.triad._sim.first_start = False

    def note(self, kind, client, feature, count=1):
        self.told.append((kind, feature, f"{client.name}@{client.name}-host", count))
        self.triad.advance(2.0)

    def use(self, client, feature, count=1):
        try:
            seat = client.checkout(feature, count=count)
        except CheckoutDenied as denied:
            self.note("UNSUPPORTED" if denied.code == -5 else "DENIED", client, feature, count)
            return None
        self.note("OUT", client, feature, count)
        return seat

    def give_back(self, client, seat, kind="IN"):
        seat.checkin()
        self.note(kind, client, seat.feature, seat.count)

    def lines(self, server) -> list[Line]:
        return list(read(self.triad.log(server).splitlines()))


@pytest.fixture(scope="module")
def day():
    with pytest.MonkeyPatch.context() as patch:
        day = Day(patch)
    triad = day.triad
    ann, bob, eve = (triad.client(name) for name in ("ann", "bob", "eve"))
    first, lingers = day.use(ann, "f1", 2), day.use(bob, "f2")
    day.use(bob, "nothing")
    assert day.use(eve, "f2") is None
    third, fourth = day.use(bob, "f3"), day.use(ann, "f3")
    assert day.use(bob, "f3") is None
    waiting = eve.queue("f1", count=2)
    triad.advance(2.0)
    day.note("QUEUED", eve, "f1", 2)
    triad.crash("primary")
    triad.wait_for_master()
    triad.advance(60.0)
    day.give_back(ann, first)
    triad.advance(10.0)
    assert waiting.is_over
    day.note("DEQUEUED", eve, "f1", 2)
    day.note("OUT", eve, "f1", 2)
    triad.start("primary")
    triad.reread(features={"f1": 3, "f2": 1, "f3": 5, "f4": 7})
    new = day.use(ann, "f4", 7)
    day.give_back(bob, lingers, "LINGER")
    triad.advance(900.0)
    day.note("IN", bob, "f2")
    triad.isolate("secondary")
    triad.advance(700.0)
    triad.heal()
    triad.advance(700.0)
    day.give_back(ann, new)
    day.give_back(ann, fourth)
    bob.crash()
    triad.advance(30.0)
    day.note("IN", bob, "f3")
    triad.advance((24.5 - BEGINS_AT) * 3600.0 - triad.now)
    eve.close()
    triad.advance(10.0)
    day.note("IN", eve, "f1", 2)
    triad.stop("primary")
    triad.advance(10.0)
    assert third is not None
    triad.check()
    return day


def test_every_line_of_the_day_is_of_one_shape_and_dated(day):
    for server in ("primary", "secondary", "tertiary"):
        lines = day.lines(server)
        assert all(line.at is not None for line in lines)
        times = [line.at for line in lines]
        assert times == sorted(times), "TIMESTAMP comes before the first line of a day"
        stamps = {line.at.date() for line in lines if line.shape == "TIMESTAMP"}
        assert {line.at.date() for line in lines} == stamps
        assert len({date.day for date in stamps}) == 2


def test_the_lines_of_the_masters_are_what_clients_were_told(day):
    lines = [(line.at, rank, number, line)
             for rank, server in enumerate(("primary", "secondary", "tertiary"))
             for number, line in enumerate(day.lines(server)) if line.shape in LICENCES]  # fmt: skip
    assert [line.event for *_, line in sorted(lines, key=lambda each: each[:3])] == day.told
    assert {rank for _, rank, *_ in lines} == {0, 1}, "the tertiary logs its own life only"


def test_they_are_printed_again_from_what_was_read(day):
    seen = set()
    for server in ("primary", "secondary"):
        for line in day.lines(server):
            if line.shape in LICENCES:
                seen.add(line.shape)
                assert printed_again(line) == line.text
    assert seen == set(LICENCES) - {"REMOVE"}


def printed_again(line: Line) -> str:
    values, (kind, feature, _, count) = line.values, line.event
    who = (feature, values["user"], values["host"], count)
    if kind == "IN":
        return logline.in_line(*who, values.get("reason", ""))
    if kind == "LINGER":
        return logline.linger_line(*who, float(values["seconds"]))
    if kind == "REMOVE":
        return logline.removed_line(*who[:3], values["by"])
    if kind in ("DENIED", "UNSUPPORTED"):
        code = int(values["code"])
        assert values["said"].rstrip(".") == text_of(code).rstrip(".")
        assert int(values["minor"]) == minor_of(code)
        return logline.refusal_line(*who, values["said"], code, int(values["minor"]))
    plain = {"OUT": logline.out_line, "QUEUED": logline.queued_line, "DEQUEUED": logline.dequeued_line}
    return plain[kind](*who)


def test_the_failover_can_be_read_off_the_log(day):
    lines = day.lines("secondary")
    words = [(line.shape, line.values.get("peer")) for line in lines
             if line.shape in ("connected", "master", "existing", "lost", "no quorum")]  # fmt: skip
    at = words.index(("lost", "pat"))
    assert words[at + 1] == ("master", "lee")
    assert ("no quorum", None) in words[at:]
    for here, behind in itertools.pairwise(lines):
        if here.shape in ("connected", "master", "lost", "no quorum"):
            assert behind.shape == "why"
    terms = [int(line.values["term"]) for line in lines if line.shape == "why"]
    assert terms == sorted(terms)


NAME = st.from_regex(r"[A-Za-z0-9_.$é-]{1,12}", fullmatch=True)
USER = st.lists(NAME, min_size=1, max_size=2).map(" ".join)
COUNT = st.integers(1, 99)


@settings(max_examples=examples(100), deadline=None)
@given(feature=NAME, user=USER, host=NAME, count=COUNT, code=st.sampled_from([-4, -5, -25, -38, -101]),
       reason=st.sampled_from(["", "SHUTDOWN", "LINGER OVER"]), wall=st.integers(0, 2**33),
       seconds=st.integers(1, 9999))  # fmt: skip
def test_whatever_users_and_hosts_are_called_it_reads_back(feature, user, host, count, code, reason, wall, seconds):
    who = (feature, user, host, count)
    texts = [
        logline.out_line(*who), logline.in_line(*who, reason), logline.linger_line(*who, float(seconds)),
        logline.queued_line(*who), logline.dequeued_line(*who), logline.removed_line(*who[:3], "root@elm"),
        logline.refusal_line(*who, text_of(code), code, minor_of(code)),
    ]  # fmt: skip
    for printed in (log_line, dated_log_line):
        for text, line in zip(texts, read(printed(float(wall), 0.0, "demo", text) for text in texts), strict=True):
            assert line.text == text == printed_again(line)
            assert (line.values["user"], line.values["host"]) == (user, host)


def test_a_log_begins_with_what_dates_it(tmp_path):
    text = SERVERS.format(port=free_port()) + "VENDOR demo\nFEATURE f1 demo 1.0 1-jan-2030 2\n"
    (tmp_path / "demo.lic").write_text(format_license(sign_license(parse_license(text), KEY)))
    (tmp_path / "demo.pub").write_text(f"{KEY.verifying_key}\n")
    words = ["-c", str(tmp_path / "demo.lic"), "--vendor-key", str(tmp_path / "demo.pub"), "--server", "primary",
             "--hostid", "ID=101", "--state-dir", "none"]  # fmt: skip
    args = cli.make_parser("lmgrd").parse_args(words)
    assert isinstance(args, argparse.Namespace)
    said = lmgrd._opening_lines(_setup.load(args), "")
    lines = list(read(log_line(1795475000.0, 0.0, daemon, text) for daemon, text in said))
    shapes = [line.shape for line in lines]
    assert shapes[:11] == ["dashes", "note", "blank", *["note"] * 4, "blank", "dashes", "pid", "started"]
    assert [shape for shape in shapes[11:] if shape not in ("slog", "own")] == [
        "files", "port", "starting", "started vendor", "using", "version",
    ]  # fmt: skip
    assert lines[10].at is not None
    assert any(re.search("Server Configuration: Three-Server Redundancy", line.text) for line in lines)


@pytest.mark.parametrize(
    "line",
    [
        '08:58:01 (demo) OUT: "f1" ann@elm  ', ' 8:58:01 (demo) OUT: "f1" ann@elm', ' 8:58:01 (demo) OUT: f1 ann@elm  ',
        ' 8:58:01 (demo) OUT: "f1" ann@elm  (3 licenses)', " 8:58:01 (lmgrd) TIMESTAMP 01/2/2026",
        " 8:58:01 (lmgrd) CONNECTED master is pat", ' 8:58:01 (lmgrd) OUT: "f1" ann@elm  ', " 8:58:01 Lost quorum",
        ' 8:58:01 (demo) DENIED: "f1" ann@elm  (Licensed number of users already reached (-4,342))',
        " 8:58:01 (lmgrd) Lost quorum ", " 8:58:01 (lmgrd) something else",
    ],
)  # fmt: skip
def test_the_reader_is_strict(line):
    with pytest.raises(NoShape):
        list(read([line]))
