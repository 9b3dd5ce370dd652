"""flexcore.report.usage: every number against a list of intervals and loops over it."""

from __future__ import annotations

import datetime
import itertools
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flexcore.report.usage import MICRO, Usage
from flexcore.report.usagehours import LocalHours
from tests.budget import examples

BEGIN = 1774746000.0  # 2026-03-29 01:00 UTC: clocks go forward in Berlin at this instant
ZONES = ("UTC", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kolkata", "America/St_Johns")
HOUR = 3600 * MICRO


def offset_of(zone):
    info = ZoneInfo(zone)

    def offset(at):
        ahead = datetime.datetime.fromtimestamp(at, info).utcoffset()
        assert ahead is not None
        return int(ahead.total_seconds())

    return offset


def us(at):
    return round(at * MICRO)


class Log:
    """Writes the records of a history, and keeps what they mean as a list of intervals."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        self.intervals: list[dict[str, Any]] = []
        """begin, end (None: open), feature, user, count, pool, group."""
        self.denials: list[dict[str, Any]] = []
        self.at = BEGIN
        self.handle = 0
        self.triad = "ab"

    def put(self, kind, **fields):
        index = len(self.records) + 1
        self.records.append({"kind": kind, "term": 1, "index": index, "at": self.at, "triad": self.triad, **fields})

    def out(self, user, feature, count, group="", ended=(), suite=""):
        self.handle += 1
        pool = f"{feature} 1.0"
        shares = [[pool, group]] if group or suite else []
        if suite:
            shares.append([f"{suite} 1.0", f"U {user}"])
        for handle in ended:
            self._end(handle)
        fields = {"shares": shares} if shares else {}
        if ended:
            fields["ended"] = list(ended)
        self.put("out", user=user, project=f"p{user}", host="elm", session=user, request=self.handle,
                 handle=self.handle, feature=feature, pool=pool, version="1.0", count=count, **fields)  # fmt: skip
        for taken, shared in shares or [[pool, ""]]:
            self.intervals.append({"begin": us(self.at), "end": None, "feature": taken.split()[0], "user": user,
                                   "count": count, "group": shared, "handle": self.handle})  # fmt: skip
        return self.handle

    def _end(self, handle):
        for each in self.intervals:
            if each["handle"] == handle:
                each["end"] = us(self.at)

    def back(self, kind, *handles):
        of = {each["handle"]: each["feature"] for each in reversed(self.intervals)}
        seats = [{"handle": handle, "feature": of[handle], "pool": f"{of[handle]} 1.0", "version": "1.0",
                  "started": 0.0, "count": 1} for handle in handles]  # fmt: skip
        if kind == "end":
            self.put("end", session="x", reason="", seats=seats)
        elif len(handles) == 1:
            self.put(kind, session="x", request=1, **seats[0])
        else:
            self.put("passed", clock_s=1.0, ended=list(handles), seats=seats)
        for handle in handles:
            self._end(handle)

    def denied(self, user, feature, code):
        self.put("denied", user=user, host="elm", project="", feature=feature, code=code, text=f"no {code}", count=1)
        self.denials.append({"at": us(self.at), "user": user, "feature": feature, "code": code})

    def usage(self, **arguments):
        usage = Usage(arguments.pop("offset", offset_of("UTC")), **arguments)
        for record in self.records:
            usage.add(record)
        return usage.report()


# --- the slow model --------------------------------------------------------------------------------


def taken(intervals):
    """How many licences these checkouts take that are open at one instant."""
    groups: dict[str, int] = {}
    alone = 0
    for each in intervals:
        if each["group"]:
            groups[each["group"]] = max(groups.get(each["group"], 0), each["count"])
        else:
            alone += each["count"]
    return alone + sum(groups.values())


def pieces(log, begin, end, offset, wanted):
    """(begin, end, how many are taken) of every stretch in which nothing changes, no local hour ends."""
    edges = {begin, end}
    for each in log.intervals:
        edges |= {each["begin"], each["end"] or end}
    # a zone's clocks are changed at whole quarters of an hour
    edges |= {quarter * HOUR // 4 for quarter in range(begin * 4 // HOUR, end * 4 // HOUR + 1)}
    points = sorted(edge for edge in edges if begin <= edge <= end)
    for start, stop in itertools.pairwise(points):
        here = [each for each in log.intervals if wanted(each)
                and each["begin"] <= start and (each["end"] or end) > start]  # fmt: skip
        yield start, stop, taken(here)


def expected(log, begin, end, offset, wanted):
    """What a feature's or a user's use was, by looking at every piece of time."""
    found = {"peak": 0, "peak_at": begin, "licence_us": 0, "levels": {}, "days": {}, "cells": {}}
    for start, stop, level in pieces(log, begin, end, offset, wanted):
        spent = level * (stop - start)
        local = datetime.datetime(1970, 1, 1) + datetime.timedelta(microseconds=start + offset(start // MICRO) * MICRO)
        if level > found["peak"]:
            found["peak"], found["peak_at"] = level, start
        found["licence_us"] += spent
        found["levels"][level] = found["levels"].get(level, 0) + stop - start
        if level:
            day = (local.date() - datetime.date(1970, 1, 1)).days
            for name, key in (("days", day), ("cells", (local.weekday(), local.hour))):
                peak, total = found[name].get(key, (0, 0))
                found[name][key] = (max(peak, level), total + spent)
    return found


@st.composite
def logs(draw):
    log = Log()
    open_: list[int] = []
    for _ in range(draw(st.integers(1, 14))):
        log.at += draw(st.sampled_from([0.0, 0.25, 599.0, 1800.0, 3601.5, 9_000.123456]))
        what = draw(st.sampled_from(["out", "out", "out", "in", "end", "passed", "denied", "resume", "linger", "new"]))
        user, feature = draw(st.sampled_from("abc")), draw(st.sampled_from(["f1", "f2"]))
        group = draw(st.sampled_from(["", "", "SITE", f"U {user}"]))
        if what == "denied":
            log.denied(user, feature, draw(st.sampled_from([-4, -38])))
        elif what == "linger" or (not open_ and what not in ("out", "new")):
            log.put("linger", session=user, handle=open_[0] if open_ else 99, pool="f1 1.0", feature="f1")
        elif what == "new":
            log.triad = f"t{len(log.records)}"
            log.put("formed")
            for handle in open_:
                log._end(handle)
            open_ = []
        elif what == "out":
            open_.append(log.out(user, feature, draw(st.integers(1, 3)), group, suite=draw(st.sampled_from(["", "s"]))))
        else:
            draws = draw(st.lists(st.sampled_from(open_), min_size=1, max_size=3, unique=True))
            if what in ("in", "resume"):
                draws = draws[:1]
            if what == "resume":
                open_.append(log.out(user, feature, 1, ended=draws))
            else:
                log.back(what, *draws)
            open_ = [handle for handle in open_ if handle not in draws]
    return log


@settings(max_examples=examples(40))
@given(
    log=logs(), zone=st.sampled_from(ZONES), early=st.sampled_from([None, -100.0, 0.0, 1800.5, 20_000.0]),
    late=st.sampled_from([None, 1.0, 3600.0, 30_000.0]), only=st.sampled_from([(), ("f1",), ("s",)]),
)  # fmt: skip
def test_every_number_is_that_of_the_slow_model(log, zone, early, late, only):
    offset = offset_of(zone)
    begin_at = None if early is None else BEGIN + early
    end_at = None if late is None else (begin_at or BEGIN) + late
    report = log.usage(offset=offset, begin_at=begin_at, end_at=end_at, features=only)
    last = us(log.records[-1]["at"])
    begin = us(log.records[0]["at"]) if begin_at is None else us(begin_at)
    end = max(begin, last if end_at is None else min(us(end_at), last))
    assert (report.begin, report.end) == (begin, end)
    seen = {each["feature"] for each in log.intervals} | {each["feature"] for each in log.denials}
    told = {use.feature: use for use in report.features}
    limit = us(end_at) if end_at is not None else last + 1
    for feature in seen - set(only) if only else ():
        assert feature not in told
    for feature in seen & set(only) if only else seen:
        model = expected(log, begin, end, offset, lambda each, feature=feature: each["feature"] == feature)
        fresh = [each for each in log.intervals if each["feature"] == feature and begin <= each["begin"] < limit]
        users = {each["user"] for each in fresh} | {
            each["user"] for each in log.intervals
            if each["feature"] == feature and max(each["begin"], begin) < min(each["end"] or end, end)
        }  # fmt: skip
        refused = [each for each in log.denials if each["feature"] == feature and begin <= each["at"] < limit]
        if not (model["licence_us"] or fresh or refused):
            assert feature not in told
            continue
        use = told[feature]
        assert {name: getattr(use, name) for name in model} == model
        assert (use.checkouts, use.users, use.denials) == (len(fresh), len(users), len(refused))
        assert sum(use.levels.values()) == end - begin
        for percent in (50, 95, 100):
            assert use.enough_for(percent) == min(
                level for level in {*model["levels"], use.peak}
                if sum(t for at, t in model["levels"].items() if at <= level) * 100 >= percent * (end - begin)
            )  # fmt: skip
        for key in report.keys:
            if key.feature == feature:
                mine = expected(log, begin, end, offset, lambda each, k=key: (each["feature"], each["user"])
                                == (k.feature, k.key))  # fmt: skip
                assert (key.licence_us, key.peak) == (mine["licence_us"], mine["peak"])
                assert key.checkouts == sum(each["user"] == key.key for each in fresh)
                assert key.denials == sum(each["user"] == key.key for each in refused)
    assert sum(denial.count for denial in report.denials) == sum(use.denials for use in report.features)
    assert sum(report.hours.values()) == end - begin
    assert report.unknown == 0


# --- clocks that are changed -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", "2026-03-29", {**dict.fromkeys(range(24), 1.0), 2: 0.0}),
        ("Europe/Berlin", "2026-10-25", {**dict.fromkeys(range(24), 1.0), 2: 2.0}),
        ("Australia/Lord_Howe", "2026-04-05", {**dict.fromkeys(range(24), 1.0), 1: 1.5}),
        ("Asia/Kolkata", "2026-03-29", dict.fromkeys(range(24), 1.0)),
        ("America/St_Johns", "2006-04-02", {**dict.fromkeys(range(24), 1.0), 0: 1 / 60, 1: 59 / 60}),
    ],
)  # fmt: skip
def test_hours_of_a_day_on_which_clocks_change(zone, day, hours):
    begin = us(datetime.datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(zone)).timestamp())
    end = us((datetime.datetime.fromisoformat(day) + datetime.timedelta(days=1)).replace(tzinfo=ZoneInfo(zone))
             .timestamp())  # fmt: skip
    spent = dict.fromkeys(range(24), 0.0)
    stretches = list(LocalHours(offset_of(zone)).between(begin, end))
    for stretch in stretches:
        spent[stretch.hour] += (stretch.end - stretch.begin) / HOUR
    assert len({stretch.day for stretch in stretches}) == 1
    assert [stretch.begin for stretch in stretches] == [begin, *(stretch.end for stretch in stretches[:-1])]
    assert spent == pytest.approx(hours)


# --- what cannot be known --------------------------------------------------------------------------


def test_what_began_before_the_logs_is_counted_as_unknown():
    log = Log()
    log.put("in", session="x", request=1, handle=7, feature="f1", pool="f1 1.0", version="1.0", started=1.0, count=1)
    log.at += 10
    handle = log.out("a", "f1", 1)
    log.at += 10
    log.back("in", handle)
    report = log.usage()
    assert report.unknown == 1
    assert report.features[0].licence_us == 10 * MICRO


def test_who_waited_and_for_how_long():
    log = Log()
    for session, handle in (("a", 1), ("b", 2), ("c", 3)):
        log.put("queued", session=session, request=handle, feature="f1", version="", count=1, user=session)
    log.at += 60
    log.put("dequeued", session="b", request=2, reason="gone")
    log.out("a", "f1", 1)
    log.handle += 1
    log.at += 40
    log.out("c", "f1", 1)
    log.at += 5
    (use,) = log.usage().features
    assert (use.waited, use.longest_wait_us) == (2, 100 * MICRO)


@pytest.mark.parametrize("wrong", [{"handle": "x"}, {"count": None}, {"shares": 3}, {"shares": [[1]]}, {"ended": 1}])
def test_a_log_that_was_changed_ends_in_no_crash(wrong):
    log = Log()
    log.out("a", "f1", 1)
    log.records[0].update(wrong)
    log.put("in", seats=[1, {"handle": 2}], handle=[], pool="x")
    log.usage()
