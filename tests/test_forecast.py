"""The forecast: failover times that are known from real processes, facts that must hold, and what it adds up to."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from flexcore import timing
from flexcore.errors import ConfigurationError
from flexcore_testing.forecast import Forecaster, Question
from flexcore_testing.forecast_episode import QUIET, Episode, Task, run_task
from flexcore_testing.forecast_network import (
    EXAMPLES,
    MONTH_S,
    OF_EACH_SERVER,
    changed,
    describe,
    parse_description,
)
from flexcore_testing.forecast_statistics import (
    Row,
    duration,
    make_row,
    recommend,
    spread,
    stratum_weight,
)

OFFICE = parse_description(EXAMPLES["office"])
BUSY = describe({"delay_ms": 2, "busy": {"per_day": 6, "seconds": 60, "delay_ms": 500, "loss_percent": 8}})


def run(kind: str, interval_s: int, number: int = 0, **changes: Any) -> Episode:
    task = Task(
        kind=kind,
        on_master=True,
        interval_s=interval_s,
        primary_is_master=False,
        number=number,
        seed=1,
        description=OFFICE,
    )
    return run_task(attrs.evolve(task, **changes))


@pytest.mark.parametrize("interval_s", [1, 20])
def test_a_killed_master_is_replaced_in_milliseconds_whatever_the_interval(interval_s: int) -> None:
    episode = run("crash", interval_s)
    assert episode.failover_s is not None
    assert episode.checkout_s is not None
    assert episode.failover_s < 0.1
    assert episode.checkout_s < 0.5  # the client's first retry comes after 0.1 s
    assert (episode.lost, episode.false_alarms, episode.unfinished) == (0, 0, False)


@pytest.mark.parametrize("kind", ["hang", "power", "cut"])
@pytest.mark.parametrize("interval_s", [1, 5])
def test_a_silent_master_is_replaced_within_the_timeout(kind: str, interval_s: int) -> None:
    timeout = timing.timeout_s(interval_s)
    for number in range(3):
        episode = run(kind, interval_s, number)
        assert episode.detection_s is not None
        assert episode.failover_s is not None
        # Silence begins up to one heartbeat before the trouble; a candidate may wait for the other one (rule 3).
        assert timeout - interval_s - 0.1 < episode.failover_s < timeout + 1.2
        assert episode.detection_s <= episode.failover_s
        assert len(episode.stops) == 1
        assert episode.lost == 0
        assert episode.belief_left_s > timing.CLIENT_LEASE_MARGIN_S - 15


def test_an_orderly_reboot_is_a_hand_over() -> None:
    episode = run("reboot", 20)
    assert max(episode.stops) < 0.5


@pytest.mark.parametrize("kind", [*OF_EACH_SERVER, QUIET])
def test_the_loss_of_a_follower_stops_nothing_and_everything_is_as_before(kind: str) -> None:
    episode = run(kind, 2, on_master=False)
    assert (episode.stops, episode.false_alarms, episode.unfinished) == ((), 0, False)


def test_equal_tasks_have_equal_outcomes() -> None:
    assert run("hang", 2, 3) == run("hang", 2, 3)
    assert run("hang", 2, 3).stops != run("hang", 2, 4).stops


def test_busy_spells_alarm_a_short_interval_and_not_a_long_one() -> None:
    alarms = {s: sum(run("busy", s, n, description=BUSY).false_alarms for n in range(2)) for s in (1, 2, 20)}
    assert alarms[1] > alarms[2] >= alarms[20] == 0


def test_a_primary_that_is_to_be_master_is_so_again() -> None:
    episode = run("crash", 1, primary_is_master=True)
    assert not episode.unfinished
    assert len(episode.stops) == 2  # its death, and the hand-over back
    assert max(episode.stops) < 0.5


# --- adding up ---------------------------------------------------------------------------------------------------


def made(kind: str, stops: tuple[float, ...], *, on_master: bool = True, alarms: int = 0, lost: int = 0) -> Episode:
    task = Task(
        kind=kind, on_master=on_master, interval_s=20, primary_is_master=False, number=0, seed=1, description=OFFICE
    )
    return Episode(
        task=task, stops=stops, false_alarms=alarms, detection_s=None, failover_s=None, checkout_s=None, lost=lost,
        belief_left_s=30.0, unfinished=False, simulated_s=3600.0, messages=1,
    )  # fmt: skip


def test_a_month_is_what_the_description_says_of_each_episode() -> None:
    description = describe({"power": {"per_month": 2, "seconds": 60}, "stall": {"per_day": 1, "seconds": 5}})
    episodes = [
        made("power", (70.0,)),
        made("power", (80.0, 0.5)),
        made("power", (), on_master=False),
        made("stall", (5.0,), alarms=1),
        made(QUIET, ()),
    ]
    row = make_row(20, episodes, description)
    assert row.out_s_per_month == pytest.approx(2 * (70 + 80.5) / 2 + 30 * 5)
    assert row.stops_per_month == pytest.approx(2 + 30)
    assert row.brief_stops_per_month == pytest.approx(1)
    assert row.false_alarms_per_month == pytest.approx(30)
    assert row.stops is not None
    assert (row.stops.median_s, row.stops.worst_s) == (5.0, 80.0)  # weighed: 30 of 5 s, 2 of more
    assert row.timeout_s == 79.0
    assert stratum_weight(description, "power", on_master=False, interval_s=20) == 4
    assert stratum_weight(description, QUIET, on_master=False, interval_s=20) == MONTH_S / 200


def test_spread() -> None:
    assert spread([]) is None
    found = spread(float(number) for number in range(1, 11))
    assert found is not None
    assert (found.count, found.median_s, found.p90_s, found.worst_s) == (10, 5.0, 9.0, 10.0)


def rows(*told: tuple[int, float, float, float]) -> list[Row]:
    row = make_row(20, [made(QUIET, ())], OFFICE)
    return [
        attrs.evolve(row, interval_s=s, out_s_per_month=out, false_alarms_per_month=alarms, lost_per_month=lost)
        for s, out, alarms, lost in told
    ]


def test_the_recommendation_weighs_losses_then_time_then_alarms() -> None:
    assert recommend(rows((1, 10, 50, 1), (5, 300, 0, 0)), 1).interval_s == 5  # a lost licence is worst
    assert recommend(rows((1, 100, 50, 0), (5, 108, 0, 0), (20, 300, 0, 0)), 20).interval_s == 5
    assert recommend(rows((1, 100, 50, 0), (5, 160, 0, 0)), 20).interval_s == 1
    assert recommend(rows((1, 100, 0, 0), (5, 105, 0, 0)), 20).interval_s == 1


def test_a_whole_forecast_is_the_same_again_and_can_be_stopped() -> None:
    description = describe({"crash": {"per_month": 1, "seconds": 5}, "stall": {"per_month": 1, "seconds": 2}})
    question = Question(description=description, intervals_s=(1, 20), current_s=20, hours=0.01)
    first, second = Forecaster(question), Forecaster(question)
    assert first.forecast() is None
    first.run()
    told = []

    def stop_late(progress: object) -> None:
        told.append(progress)
        if len(told) > len(first.episodes) * 2 // 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        second.run(on_progress=stop_late)
    whole, part = first.forecast(), second.forecast()
    assert whole is not None
    assert part is not None
    assert (whole.complete, whole.rounds, part.complete, part.rounds) == (True, 2, False, 1)
    assert first.episodes[: len(told)] == second.episodes
    assert [row.interval_s for row in part.rows] == [1, 20]
    assert not any(row.lost for row in whole.rows)


# --- descriptions ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_description_prints_itself(name: str) -> None:
    description = parse_description(EXAMPLES[name])
    again = parse_description(description.text())
    assert again.troubles.keys() == description.troubles.keys()
    for kind, trouble in description.troubles.items():
        assert again.troubles[kind].per_month == pytest.approx(trouble.per_month, rel=1e-4)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("delay = 1", "there is no 'delay'"),
        ("delay_ms = 'x'", "must be a number"),
        ("delay_ms = -1", "not between 0 and"),
        ("delay_ms = nan", "not between 0 and"),
        ("loss_percent = 80", "not between 0 and 60"),
        ("hang = 3", "write hang = {"),
        ("hang = { seconds = 3 }", "say how often"),
        ("hang = { per_day = 1, per_week = 2 }", "say how often"),
        ("hang = { per_day = 1, seconds = 0 }", "say how long"),
        ("hang = { per_day = 1, delay_ms = 5 }", "there is no 'delay_ms' here"),
        ("hang = [", "not TOML"),
        ("#" * 70000, "not a network description"),
    ],
)
def test_what_makes_no_sense_is_said(text: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        parse_description(text)


def test_single_numbers_are_changed() -> None:
    table = changed(changed({"hang": {"per_day": 1}}, "hang.per_week=2"), "delay_ms=7")
    assert table == {"hang": {"per_week": 2.0}, "delay_ms": 7.0}
    for wrong in ("delay_ms", "a.b.c=1", "=1", "delay_ms=x"):
        with pytest.raises(ConfigurationError, match="NAME=NUMBER"):
            changed({}, wrong)
    with pytest.raises(ConfigurationError, match="is one number"):
        changed({"delay_ms": 3}, "delay_ms.per_day=1")


def test_durations_are_told_in_units_of_people() -> None:
    told = [duration(seconds) for seconds in (0.004, 3.2, 42, 150, 1800, 8000)]
    assert told == ["4 ms", "3.2 s", "42 s", "2.5 min", "30 min", "2.2 h"]
