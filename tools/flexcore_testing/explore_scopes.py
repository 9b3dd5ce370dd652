"""What can be explored: how the servers are set up, what may happen, and how often."""

from __future__ import annotations

import attrs

from flexcore.identity import Rank
from flexcore.wire.messages import Hello
from flexcore_testing.explore_server import Setting
from flexcore_testing.explore_world import LINKS, Bounds, World


@attrs.frozen(kw_only=True)
class Scope:
    """One exploration. Greetings arrive as soon as they are first in their row."""

    name: str
    text: str
    bounds: Bounds
    setting: Setting = attrs.field(factory=Setting)
    first_master: Rank = Rank.PRIMARY

    def world(self) -> World:
        """A fresh world of this scope."""
        return World(self.setting, self.bounds, urgent=(Hello,), first_master=self.first_master)

    def bounds_text(self) -> str:
        """The bounds, for a person."""
        bounds = self.bounds
        links = ", ".join("".join("PST"[rank] for rank in LINKS[link]) for link in bounds.cut_links)
        crashing = ", ".join(rank.word for rank in bounds.crash_ranks)
        return (
            f"{bounds.longs} x {bounds.long_s:g} s, {bounds.shorts} x {bounds.short_s:g} s, "
            f"{bounds.crashes} crashes ({crashing}), {bounds.losses} disks lost, {bounds.stops} orderly stops, "
            f"{bounds.cuts} cuts ({links}), {bounds.asks} questions of clients, "
            f"{bounds.row} messages from one server to another under way"
        )


P, S, T = Rank.PRIMARY, Rank.SECONDARY, Rank.TERTIARY

_ALL = (
    Scope(
        name="tiny",
        text="delays, and one question of a client",
        bounds=Bounds(longs=1, shorts=0, crashes=0, asks=1, row=2),
    ),
    Scope(
        name="delays",
        text="messages are late and time passes: leases, promises and elections without any fault",
        bounds=Bounds(longs=3, shorts=0, crashes=0, row=2),
    ),
    Scope(
        name="small",
        text="two clients want the one licence, messages are late",
        bounds=Bounds(longs=1, shorts=0, crashes=0, asks=3, row=2),
    ),
    Scope(
        name="restart",
        text="the tertiary is killed and started again with its disk; messages are late",
        bounds=Bounds(longs=2, shorts=0, crashes=1, crash_ranks=(T,), row=2),
    ),
    Scope(
        name="failover",
        text="the master is killed and started again, and a client asks",
        bounds=Bounds(longs=1, shorts=0, crashes=1, crash_ranks=(P,), asks=1, row=2),
    ),
    Scope(
        name="power",
        text="the master's machine fails, and with it what it had sent; a client asks before or after",
        bounds=Bounds(longs=0, shorts=0, crashes=1, crash_loses=True, crash_ranks=(P,), asks=1, row=2),
    ),
    Scope(
        name="stop",
        text="one server is stopped in order and its mastership handed over; messages are late",
        bounds=Bounds(longs=2, shorts=0, crashes=0, stops=1, crash_ranks=(), row=2),
    ),
    Scope(
        name="cut",
        text="a link is cut and heals; messages are late; a client asks",
        bounds=Bounds(longs=2, shorts=0, crashes=0, cuts=1, asks=1, row=2),
    ),
    Scope(
        name="lostdisk",
        text="a server is killed, loses its disk and recovers",
        bounds=Bounds(longs=1, shorts=1, crashes=1, losses=1, crash_ranks=(S, T), asks=1, row=2),
    ),
    Scope(
        name="million",
        text="messages are late, leases and promises run out, two clients want the one licence",
        bounds=Bounds(longs=2, shorts=0, crashes=0, asks=2, row=2),
    ),
)

SCOPES = {scope.name: scope for scope in _ALL}
"""By name."""
