"""Why nobody serves: no server (-15, or -96 where one is there and says nothing) told apart from no quorum (-97)."""

from __future__ import annotations

from collections.abc import Sequence

from flexcore.client.link import Link, Stage
from flexcore.client.site import Site
from flexcore.client.values import Trouble
from flexcore.codes import ErrorCode, describe

SAID_MAX = 500
"""Longest reason of a server that is passed on."""

_GRAVITY = {
    int(ErrorCode.VENDOR_DOWN): 0,
    int(ErrorCode.INVALID_HOST): 1,
    int(ErrorCode.SERVER_DOWN): 3,
    int(ErrorCode.CANNOT_CONNECT): 4,
}
"""Which alternative's trouble is the one to tell: the one that is nearest to serving. A refusal's code stands at 2."""


def explain(sites: Sequence[Site], now: float) -> Trouble | None:
    """Return why what is asked of *sites* is not answered, None if nothing is asked or somebody serves it."""
    asked = [site for site in sites if site.wants or site.broken]
    if not asked or any(site.ready and not site.suspects(now) for site in asked):
        return None
    troubles = [_of_site(site, now) for site in asked]
    worst = min(troubles, key=lambda trouble: _GRAVITY.get(trouble.code, 2))
    attempts = tuple(attempt for trouble in troubles for attempt in trouble.attempts)
    return Trouble(code=worst.code, text=worst.text, until_s=worst.until_s, attempts=attempts)


def _of_site(site: Site, now: float) -> Trouble:
    attempts = _attempts(site, now)
    if site.broken:
        return Trouble(code=int(ErrorCode.INVALID_HOST), text=site.broken, attempts=attempts)
    idle = [link for link in site.links.values() if link.stage is Stage.PARKED and link.report]
    if idle:
        return _no_quorum(site, idle, attempts, now)
    backoffs = [site.search.backoff(address) for address in site.search.candidates()]
    refusal = next((backoff for backoff in backoffs if backoff.code), None)
    if refusal is not None:
        return Trouble(code=refusal.code, text=refusal.error, attempts=attempts)
    greeting = any(link.stage in (Stage.GREETING, Stage.OPENING) for link in site.links.values())
    if any(backoff.silent for backoff in backoffs) or greeting or site.suspects(now):
        code = int(ErrorCode.SERVER_DOWN)
        return Trouble(code=code, text=describe(code), attempts=attempts)
    code = int(ErrorCode.CANNOT_CONNECT)
    failed = next((backoff for backoff in backoffs if backoff.errno is not None), None)
    if failed is None:
        return Trouble(code=code, text=describe(code), attempts=attempts)
    text = describe(code, sys_errno=failed.errno, sys_text=failed.error)
    return Trouble(code=code, text=text, attempts=attempts)


def _no_quorum(
    site: Site, idle: list[Link], attempts: tuple[str, ...], now: float
) -> Trouble:
    """Servers answer, none serves: the reason of the first in the order of the path that gives one."""
    order = site.search.candidates()
    idle.sort(key=lambda link: order.index(link.address) if link.address in order else len(order))
    code = int(ErrorCode.VENDOR_DOWN)
    reasons = [link.report.reason for link in idle if link.report and link.report.reason]
    if not reasons:
        reasons = [
            f"{master.port}@{master.host} is said to be the master, and does not answer"
            for link in idle
            if link.report and (master := site.search.address_of(link.report.master_rank))
        ]
    text = describe(code) + (f" {reasons[0][:SAID_MAX]}" if reasons else "")
    waits = [
        link.report.until_s - (now - link.report_at)
        for link in idle
        if link.report is not None and link.report.until_s is not None
    ]
    until_s = max(min(waits), 0.0) if waits else None
    return Trouble(code=code, text=text, until_s=until_s, attempts=attempts)


def _attempts(site: Site, now: float) -> tuple[str, ...]:
    lines = []
    links = {link.address: link for link in site.links.values()}
    for address in site.search.candidates():
        link = links.get(address)
        backoff = site.search.backoff(address)
        if link is not None and link.report is not None:
            said = f"{link.report.state}" + (f": {link.report.reason}" if link.report.reason else "")
            if link.is_home and site.suspects(now):
                said = "the master does not answer"
        elif backoff.error:
            said = backoff.error
        else:
            said = "connecting" if link is not None else "not tried yet"
        lines.append(f"{address.port}@{address.host}: {said[:SAID_MAX]}")
    return tuple(lines)
