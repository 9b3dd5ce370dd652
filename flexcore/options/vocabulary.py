"""Every keyword that an options file may have: how its line is made up, and what it does here.

The list is that of the manual's page on the syntax (reference, a13). ``docs/options.rst`` has one row
for each of them; a test compares the two.
"""

from __future__ import annotations

import enum
from types import MappingProxyType
from typing import NamedTuple


class Shape(enum.Enum):
    """What follows the keyword."""

    ACCESS = "feature type name"
    ACCESS_ALL = "type name"
    COUNT = "number feature type name"
    FEATURE_NUMBER = "feature number"
    NUMBER = "number"
    GROUP = "name member ..."
    PATH = "[+]path"
    CHOICE = "word"
    FREE = "..."


class Keyword(NamedTuple):
    """One keyword. *unit* names what its number counts; *choices* are the words that it takes."""

    name: str
    shape: Shape
    no_effect: str = ""
    """Why it is read and does nothing; "" where it has its effect."""
    unit: str = ""
    choices: tuple[str, ...] = ()


_ACTIVATION = "it is about trusted storage, which flexcore does not have"
NOT_YET = "this version reads it and does not act on it"

LOG_KINDS = ("IN", "OUT", "DENIED", "QUEUED", "UNSUPPORTED", "UPGRADE", "DEQUEUED")
"""What NOLOG can leave out of the debug log."""

TYPES = ("USER", "HOST", "DISPLAY", "INTERNET", "PROJECT", "GROUP", "HOST_GROUP")
"""Whom a rule can be about."""

_LIST = (
    Keyword("INCLUDE", Shape.ACCESS),
    Keyword("EXCLUDE", Shape.ACCESS),
    Keyword("INCLUDEALL", Shape.ACCESS_ALL),
    Keyword("EXCLUDEALL", Shape.ACCESS_ALL),
    Keyword("INCLUDE_BORROW", Shape.ACCESS),
    Keyword("EXCLUDE_BORROW", Shape.ACCESS),
    Keyword("INCLUDE_ENTITLEMENT", Shape.ACCESS, _ACTIVATION),
    Keyword("EXCLUDE_ENTITLEMENT", Shape.ACCESS, _ACTIVATION),
    Keyword("INCLUDEALL_ENTITLEMENT", Shape.ACCESS_ALL, _ACTIVATION),
    Keyword("EXCLUDEALL_ENTITLEMENT", Shape.ACCESS_ALL, _ACTIVATION),
    Keyword("RESERVE", Shape.COUNT, unit="licences"),
    Keyword("MAX", Shape.COUNT, unit="licences"),
    Keyword("MAX_OVERDRAFT", Shape.FEATURE_NUMBER, unit="licences"),
    Keyword("GROUP", Shape.GROUP),
    Keyword("HOST_GROUP", Shape.GROUP),
    Keyword("GROUPCASEINSENSITIVE", Shape.CHOICE, choices=("OFF", "ON")),
    Keyword("FQDN_MATCHING", Shape.CHOICE, choices=("EXACT", "LENIENT")),
    Keyword("TIMEOUT", Shape.FEATURE_NUMBER, unit="seconds"),
    Keyword("TIMEOUTALL", Shape.NUMBER, unit="seconds"),
    Keyword("LINGER", Shape.FEATURE_NUMBER, unit="seconds"),
    Keyword("BORROW_LOWWATER", Shape.FEATURE_NUMBER, unit="licences"),
    Keyword("MAX_BORROW_HOURS", Shape.FEATURE_NUMBER, unit="hours"),
    Keyword("MAX_CONNECTIONS", Shape.NUMBER, unit="connections"),
    Keyword("DEBUGLOG", Shape.PATH),
    Keyword("REPORTLOG", Shape.PATH),
    Keyword("NOLOG", Shape.CHOICE, choices=LOG_KINDS),
    Keyword("AUTO_ROLLOVER", Shape.FREE,
            "no public text says what its words mean; logs are begun anew from outside (SIGHUP)"),
    Keyword("AUTOMATIC_REREAD", Shape.CHOICE, choices=("ON", "OFF")),
    Keyword("DAEMON_SELECT_TIMEOUT", Shape.NUMBER,
            "flexcore's loop waits until something happens, not for a while at a time", "seconds"),
    Keyword("ACTIVATION_LOWWATER", Shape.FEATURE_NUMBER, _ACTIVATION, "licences"),
    Keyword("ACTIVATION_EXPIRY_DAYS", Shape.FEATURE_NUMBER, _ACTIVATION, "days"),
)  # fmt: skip

KEYWORDS = MappingProxyType({keyword.name: keyword for keyword in _LIST})
"""By name, in capitals."""

REDUNDANCY_WORDS = frozenset(
    {"SERVER", "PRIMARY_IS_MASTER", "HEARTBEAT_INTERVAL", "SERVER_TIMEOUT", "USE_SERVER"}
)
"""Words of licence files that somebody may look for here: no option changes the redundancy (seed)."""
