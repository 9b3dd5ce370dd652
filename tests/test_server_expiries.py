"""What the log says of licences that run out, ahead of it and when they have."""

from __future__ import annotations

from typing import Any

from flexcore.checkout.rights import make_rights
from flexcore.server.expiries import LINES_MAX, expiries
from tests.server_kit import DAY, Kit, line

DAY_S = 86_400.0


def lines_on(days: list[int], *lines: Any, in_use: int = 0) -> list[tuple[int, str]]:
    """The day, and what is said on it, of a server that begins to serve on the first of *days*."""
    pools = make_rights(lines, vendor="sampled").pools
    said, before = [], None
    for day in days:
        said += [(day - DAY, text) for text in expiries(pools, day, {pools[0].key: in_use}, before)]
        before = day
    return said


def test_warnings_come_on_four_days_and_the_end_is_said_once() -> None:
    ends = line("f1", seats=5, expiry_day=DAY + 60)
    said = lines_on([DAY + number for number in range(70)], ends, in_use=2)
    date = ends.expiry_text
    advice = "ask sampled for a new licence file"
    assert said == [
        (30, f'Feature "f1" v1.0 expires on {date}, in 30 days: {advice}'),
        (46, f'Feature "f1" v1.0 expires on {date}, in 14 days: {advice}'),
        (53, f'Feature "f1" v1.0 expires on {date}, in 7 days: {advice}'),
        (59, f'Feature "f1" v1.0 expires on {date}, in 1 day: {advice}'),
        (61, f'EXPIRED: "f1" v1.0 on {date} (2 checked out; who holds one keeps it): {advice}'),
    ]


def test_whoever_begins_to_serve_says_all_that_ends_within_thirty_days_and_has_ended() -> None:
    for left, first in ((31, ""), (30, "Feature"), (3, "Feature"), (0, "Feature"), (-1, "EXPIRED"), (-400, "EXPIRED")):
        said = lines_on([DAY], line("f1", expiry_day=DAY + left))
        assert [text.split()[0].rstrip(":") for _, text in said] == ([first] if first else [])
    assert lines_on([DAY], line("f1", expiry_day=DAY))[0][1].endswith("today: ask sampled for a new licence file")


def test_a_machine_that_slept_says_it_when_it_wakes_and_a_clock_set_back_says_nothing_again() -> None:
    days = [DAY, DAY + 50, DAY + 49, DAY + 50, DAY + 65]
    said = lines_on(days, line("f1", expiry_day=DAY + 60))
    assert [(day, text.split()[0]) for day, text in said] == [(50, "Feature"), (65, "EXPIRED:")]


def test_a_part_of_a_pool_that_ends_is_told_by_its_number() -> None:
    said = lines_on([DAY, DAY + 3], line("f1", seats=3), line("f1", seats=2, expiry_day=DAY + 2))
    assert said[0][1].startswith('Feature "f1" v1.0 (2 of its licenses) expires on ')
    assert said[1][1].startswith('EXPIRED: "f1" v1.0 on ')
    assert " (2 of its licenses): ask" in said[1][1]


def test_so_many_lines_at_a_time() -> None:
    many = [line(f"f{number}", expiry_day=DAY) for number in range(LINES_MAX + 5)]
    assert len(lines_on([DAY], *many)) == LINES_MAX


def expiries_in(kit: Kit) -> list[str]:
    return [text for text in kit.logs if text.startswith("EXPIRED") or "expires on" in text]


def test_a_server_says_it_at_midnight_where_it_stands_while_it_serves() -> None:
    """... and grants what is in force that day: nothing of f1 any more."""
    kit = Kit(line("f1", seats=5, expiry_day=DAY), line("f2", seats=5, expiry_day=DAY + 1), utc_offset_s=3600.0)
    midnight = DAY_S - (kit.wall + 3600.0) % DAY_S
    kit.pass_time(midnight - 1.0)
    assert expiries_in(kit) == []
    kit.pass_time(2.0)
    assert [text.split(" on ")[0] for text in expiries_in(kit)] == ['EXPIRED: "f1" v1.0']
    assert kit.client("bob").checkout("f1").code == -10
    kit.logs.clear()
    kit.quorum.stop()
    kit.turn()
    kit.pass_time(2 * DAY_S)
    assert expiries_in(kit) == [], "only the server that serves says it"
