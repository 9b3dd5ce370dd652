"""Every timing constant and formula of the triad, in one place.

All durations are seconds as float. Instants (``*_at``, ``*_until``) are on a monotonic clock that counts suspended
time; this module computes durations only.

The words: *interval* is ``HEARTBEAT_INTERVAL`` (seed, "Using License File Keywords"), *timeout* what the seed's formula
makes of it, *promise* a voter's lease (protocol.md rule 1), *lease* what the master counts from it (rule 2), *client
lease* how long a client believes in its seats (rule 15).
"""

from __future__ import annotations

RATE_ERROR = 0.01
"""r: how far a clock's rate may be from true (protocol.md section 1)."""

DEFAULT_INTERVAL_S = 20.0
"""HEARTBEAT_INTERVAL where the file does not say, and wherever it is 0 (rule 21)."""

INTERVAL_MAX_S = 120.0

CLIENT_LEASE_MARGIN_S = 30.0
"""L = timeout + 30 s, so that a client survives the longest failover (design.md section 10)."""

CLIENT_HEARTBEAT_MAX_S = 10.0
"""A client heartbeats every min(10 s, L/6)."""

END_OF_STREAM_GRACE_S = 2.0
"""How long an orderly end of stream waits before the session's seats are freed (rule 16)."""

CANDIDATE_WAIT_MIN_S = 1.0
CANDIDATE_WAIT_ROUND_TRIPS = 5
"""A candidate, and whoever lets the other stand first, waits max(1 s, 5 round trips) (rules 1 and 3)."""

UPTIME_TIE_S = 2.0
"""Two servers whose uptimes differ by no more than this count as started together: the primary goes first (rule 3)."""

REDIAL_MAX_S = 1.0
"""Peers redial at once, then every min(s, 1) s (protocol.md section 2)."""

PERSIST_SLOW_MIN_S = 1.0
"""A Persist outstanding longer than max(1 s, s): hand over, renew nobody (rule 20)."""

PERSIST_FATAL_MARGIN_S = 10.0
"""A Persist outstanding longer than TO + 10 s ends the process (rule 20)."""

PRIMARY_WAIT_MAX_S = 3600.0
"""The doubled wait of PRIMARY_IS_MASTER is capped at, and forgotten after, an hour (rule 11)."""

CLIENT_RETRY_MIN_S = 0.1
CLIENT_RETRY_MAX_S = 1.0
"""Back-off of a client per address: 0.1 s doubled up to min(1 s, L/20) (design.md section 10)."""

CLIENT_STAGGER_S = 0.25
"""A client does not wait for a dead first host: the next address is tried this much later, beside it."""

EXPIRY_WARNING_DAYS = 30


CLOCKS_DIFFER_S = 3600.0
"""Clocks of two machines that differ by more are told: expiry and START depend on the calendar."""

LMREMOVE_MIN_S = 120.0
"""lmremove leaves a checkout alone for so long (-64): what a client takes again at once shall not be
taken away for ever. No public text says what the value is elsewhere."""


def effective_interval_s(heartbeat_interval_s: float) -> float:
    """s: the interval that all formulae use. 0 switches the detector off and reads as the default here (rule 21)."""
    return heartbeat_interval_s if heartbeat_interval_s > 0 else DEFAULT_INTERVAL_S


def timeout_s(heartbeat_interval_s: float) -> float:
    """TO = 3*s + (s - 1), the seed's formula; 79 s by default and for an interval of 0.

    >>> timeout_s(20), timeout_s(1), timeout_s(0)
    (79.0, 3.0, 79.0)
    """
    s = effective_interval_s(heartbeat_interval_s)
    return 3.0 * s + (s - 1.0)


def client_lease_s(timeout: float) -> float:
    """L for a timeout TO: how long a client believes after the send of its last renewing message."""
    return timeout + CLIENT_LEASE_MARGIN_S


def stretched_s(duration: float) -> float:
    """L' = L*(1+r)/(1-r): what one clock must wait to be sure that *duration* has passed on another."""
    return duration * (1.0 + RATE_ERROR) / (1.0 - RATE_ERROR)


def shrunk_s(duration: float) -> float:
    """promise*(1-r)/(1+r): how much of *duration* on another clock one may use on one's own (rule 2)."""
    return duration * (1.0 - RATE_ERROR) / (1.0 + RATE_ERROR)


def client_heartbeat_s(lease: float) -> float:
    """How often a client with lease L heartbeats: min(10 s, L/6)."""
    return min(CLIENT_HEARTBEAT_MAX_S, lease / 6.0)


def candidate_wait_s(round_trip: float) -> float:
    """max(1 s, 5 round trips): how long a candidacy, and a head start, lasts (rules 1 and 3)."""
    return max(CANDIDATE_WAIT_MIN_S, CANDIDATE_WAIT_ROUND_TRIPS * round_trip)


def redial_s(heartbeat_interval_s: float) -> float:
    """How long after a failed dial the next begins: min(s, 1) s."""
    return min(effective_interval_s(heartbeat_interval_s), REDIAL_MAX_S)


def persist_slow_s(heartbeat_interval_s: float) -> float:
    """A Persist outstanding longer than this makes a master hand over (rule 20): max(1 s, s)."""
    return max(PERSIST_SLOW_MIN_S, effective_interval_s(heartbeat_interval_s))


def persist_fatal_s(timeout: float) -> float:
    """A Persist outstanding longer than this ends the process (rule 20): TO + 10 s."""
    return timeout + PERSIST_FATAL_MARGIN_S


def client_retry_max_s(lease: float) -> float:
    """The longest pause between two tries of one address: min(1 s, L/20)."""
    return min(CLIENT_RETRY_MAX_S, lease / 20.0)
