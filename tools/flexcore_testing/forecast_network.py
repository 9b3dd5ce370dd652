"""What an administrator knows about the network and the machines: the input of ``flexcore simulate``.

A description says how long messages take, how many packets are lost, and which troubles happen how often and for how
long. It is text (TOML) with a few numbers; three ready ones stand in :data:`EXAMPLES`. :class:`WeatherNetwork` is the
simulated network that behaves so.
"""

from __future__ import annotations

import math
import random
import tomllib
from collections.abc import Mapping
from typing import Any

import attrs

from flexcore.errors import ConfigurationError
from flexcore.override import override
from flexcore_testing.clockwork import World
from flexcore_testing.journal import Journal
from flexcore_testing.network import Link, Network, NetworkSettings, Party

MONTH_S = 30 * 86400.0
DESCRIPTION_BYTES_MAX = 1 << 16

TROUBLES: dict[str, str] = {
    "crash": "the server's process dies (kill -9) and is started again",
    "power": "a server's machine loses power and comes back",
    "hang": "a server's machine hangs and then goes on",
    "cut": "a server loses its network",
    "reboot": "a server's machine is rebooted in order",
    "busy": "a spell in which all messages are late, and packets are lost",
    "stall": "for some seconds no message passes anywhere, and no machine is dead",
}
"""What can happen, in the order of the tables."""

OF_EACH_SERVER = ("crash", "power", "hang", "cut", "reboot")
"""These are counted for each server; the others for the whole network."""

PERIODS: dict[str, float] = {
    "per_hour": 3600.0,
    "per_day": 86400.0,
    "per_week": 7 * 86400.0,
    "per_month": MONTH_S,
    "per_year": 365 * 86400.0,
}

PER_HOUR_MAX = 3600.0
SECONDS_MAX = 7 * 86400.0
DELAY_MS_MAX = 60_000.0
LOSS_PERCENT_MAX = 60.0
"""Beyond this TCP does not work at all."""

RETRANSMIT_MIN_S = 0.2
RETRANSMIT_MAX_S = 60.0
"""TCP sends a lost packet again after 0.2 s, then after twice as long each time (Linux; RFC 6298)."""

EXAMPLES: dict[str, str] = {
    "office": """\
# Three machines in one building, on a network that is seldom busy.
delay_ms = 0.3
jitter_ms = 0.5
loss_percent = 0.001
crash = { per_year = 4, seconds = 10 }
power = { per_year = 1, seconds = 900 }
hang = { per_year = 3, seconds = 120 }
cut = { per_year = 2, seconds = 120 }
reboot = { per_month = 1, seconds = 300 }
stall = { per_month = 2, seconds = 3 }
""",
    "sites": """\
# Three machines at three sites, over leased lines or a VPN.
delay_ms = 20
jitter_ms = 20
loss_percent = 0.1
crash = { per_year = 4, seconds = 10 }
power = { per_year = 1, seconds = 900 }
hang = { per_year = 3, seconds = 120 }
cut = { per_month = 1, seconds = 120 }
reboot = { per_month = 1, seconds = 300 }
busy = { per_week = 2, seconds = 300, delay_ms = 200, loss_percent = 3 }
stall = { per_week = 2, seconds = 5 }
""",
    "busy": """\
# A network that is overloaded several times a day: messages take half a second, packets are lost.
delay_ms = 2
jitter_ms = 10
loss_percent = 0.1
crash = { per_year = 4, seconds = 10 }
power = { per_year = 1, seconds = 900 }
hang = { per_year = 3, seconds = 120 }
cut = { per_month = 1, seconds = 120 }
reboot = { per_month = 1, seconds = 300 }
busy = { per_day = 6, seconds = 120, delay_ms = 500, loss_percent = 8 }
stall = { per_day = 4, seconds = 5 }
""",
}
"""Descriptions to begin with; none of them was measured at your place."""


@attrs.frozen(kw_only=True)
class Trouble:
    """One kind of trouble: how often (of each server, or of the network) and for how long on average."""

    per_month: float
    seconds: float
    delay_s: float = 0.0
    """busy only: how much longer a message takes on average (exponentially distributed)."""
    loss: float = 0.0
    """busy only: the share of packets lost."""

    def length_s(self, rng: random.Random) -> float:
        """How long it lasts this time: half as long on many days, and twice as long on some (gamma, shape 2)."""
        return rng.gammavariate(2.0, self.seconds / 2.0)


@attrs.frozen(kw_only=True)
class NetworkDescription:
    """The network and the machines of one triad."""

    delay_s: float
    jitter_s: float
    loss: float
    troubles: Mapping[str, Trouble]

    def text(self) -> str:
        """The description as a file that :func:`parse_description` reads."""
        lines = [
            f"delay_ms = {self.delay_s * 1000:g}",
            f"jitter_ms = {self.jitter_s * 1000:g}",
            f"loss_percent = {self.loss * 100:g}",
        ]
        for name, told in TROUBLES.items():
            whose = "of each server" if name in OF_EACH_SERVER else "of the network"
            trouble = self.troubles.get(name)
            if trouble is None:
                continue
            parts = [f"per_month = {trouble.per_month:.6g}", f"seconds = {trouble.seconds:g}"]
            if name == "busy":
                parts += [f"delay_ms = {trouble.delay_s * 1000:g}", f"loss_percent = {trouble.loss * 100:g}"]
            lines += [f"# {told} ({whose}; seconds: the mean)", f"{name} = {{ {', '.join(parts)} }}"]
        return "\n".join(lines) + "\n"


def parse_description(text: str, name: str = "network") -> NetworkDescription:
    """Read a description; *name* is what errors call it.

    Raises:
        ConfigurationError: it is not TOML, or says something that makes no sense; the text says what to do.
    """
    if len(text) > DESCRIPTION_BYTES_MAX:
        raise ConfigurationError(f"{name}: more than {DESCRIPTION_BYTES_MAX} characters: not a network description")
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{name}: not TOML: {error}; see `flexcore simulate --show-network`") from None
    return describe(table, name)


def describe(table: Mapping[str, Any], name: str = "network") -> NetworkDescription:
    """The description that a table of TOML makes.

    Raises:
        ConfigurationError: as :func:`parse_description`.
    """
    known = ("delay_ms", "jitter_ms", "loss_percent", *TROUBLES)
    for key in table:
        if key not in known:
            raise ConfigurationError(f"{name}: there is no {key!r} in a network description; known: {', '.join(known)}")
    delay_s = _number(table, "delay_ms", name, DELAY_MS_MAX, 0.5) / 1000
    troubles: dict[str, Trouble] = {}
    for key in TROUBLES:
        if key in table:
            trouble = _trouble(table[key], key, f"{name}: {key}")
            if trouble is not None:
                troubles[key] = trouble
    return NetworkDescription(
        delay_s=delay_s,
        jitter_s=_number(table, "jitter_ms", name, DELAY_MS_MAX, delay_s * 1000) / 1000,
        loss=_number(table, "loss_percent", name, LOSS_PERCENT_MAX, 0.0) / 100,
        troubles=troubles,
    )


def changed(table: Mapping[str, Any], assignment: str) -> dict[str, Any]:
    """*table* after ``busy.per_day=8`` or ``loss_percent=1`` (an option of the command line).

    Raises:
        ConfigurationError: the assignment cannot be read.
    """
    path, equals, value = assignment.partition("=")
    words = [word.strip() for word in path.split(".")]
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not equals or len(words) > 2 or not all(words) or math.isnan(number):
        raise ConfigurationError(f"--set {assignment}: write NAME=NUMBER, as in --set busy.per_day=8")
    result = dict(table)
    if len(words) == 1:
        result[words[0]] = number
        return result
    inner = result.get(words[0], {})
    if not isinstance(inner, Mapping):
        raise ConfigurationError(f"--set {assignment}: {words[0]} is one number; write {words[0]}=NUMBER")
    inner = dict(inner)
    if words[1] in PERIODS:  # one rate takes the place of another
        inner = {key: known for key, known in inner.items() if key not in PERIODS}
    inner[words[1]] = number
    result[words[0]] = inner
    return result


def _trouble(table: Any, key: str, where: str) -> Trouble | None:
    if not isinstance(table, Mapping):
        raise ConfigurationError(f"{where}: write {key} = {{ per_month = 1, seconds = 60 }}")
    known = ["seconds", *PERIODS, *(("delay_ms", "loss_percent") if key == "busy" else ())]
    for word in table:
        if word not in known:
            raise ConfigurationError(f"{where}: there is no {word!r} here; known: {', '.join(known)}")
    rates = [word for word in PERIODS if word in table]
    if len(rates) != 1:
        raise ConfigurationError(f"{where}: say how often, with one of {', '.join(PERIODS)}")
    (rate,) = rates
    most = PER_HOUR_MAX * PERIODS[rate] / 3600.0
    per_month = _number(table, rate, where, most, 0.0) * MONTH_S / PERIODS[rate]
    seconds = _number(table, "seconds", where, SECONDS_MAX, 60.0)
    if per_month == 0:
        return None
    if seconds == 0:
        raise ConfigurationError(f"{where}: seconds = 0: say how long it lasts on average, or {rate} = 0")
    return Trouble(
        per_month=per_month,
        seconds=seconds,
        delay_s=_number(table, "delay_ms", where, DELAY_MS_MAX, 1000.0) / 1000 if key == "busy" else 0.0,
        loss=_number(table, "loss_percent", where, LOSS_PERCENT_MAX, 0.0) / 100 if key == "busy" else 0.0,
    )


def _number(table: Mapping[str, Any], key: str, where: str, most: float, default: float) -> float:
    value = table.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigurationError(f"{where}: {key} must be a number, not {value!r}")
    if not 0 <= value <= most:
        raise ConfigurationError(f"{where}: {key} = {value:g} is not between 0 and {most:g}")
    return float(value)


class WeatherNetwork(Network):
    """A network with packet loss as TCP shows it (late messages, broken links) and with busy spells."""

    def __init__(
        self, world: World, rng: random.Random, settings: NetworkSettings, journal: Journal, *, patience_s: float
    ) -> None:
        super().__init__(world, rng, settings, journal)
        self.packet_loss = 0.0
        self.busy_s = 0.0
        """How much longer messages take now, on average."""
        self.patience_s = patience_s
        """A link between servers ends when what was sent stays unacknowledged so long (TCP_USER_TIMEOUT)."""
        self.given_up = 0

    @override
    def delay(self) -> float:
        delay = super().delay()
        if self.busy_s:
            delay += self.rng.expovariate(1.0 / self.busy_s)
        if self.packet_loss:
            again = RETRANSMIT_MIN_S
            while self.rng.random() < self.packet_loss:
                delay += again
                again = min(2 * again, RETRANSMIT_MAX_S)
        return delay

    @override
    def send(self, party: Party, conn: int, message: Any) -> None:
        super().send(party, conn, message)
        found = self._links.get((party.serial, conn))
        if found is None:
            return
        link, side = found
        if side == 0 and party.is_server and link.last_at[0] - self.world.now > self.patience_s:
            self.world.after(self.patience_s, self._give_up, link)

    def _give_up(self, link: Link) -> None:
        """The kernel of the server that dialled has waited long enough."""
        if link.broken or not link.opened[0] or not link.parties[1].is_server:
            return
        self.given_up += 1
        link.broken = True
        self._end(link, 0, False)
        self.world.after(self.delay(), self._end, link, 1, False)
