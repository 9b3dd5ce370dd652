"""What an application says to a client of any transport, and what it is told: arguments in, exceptions out."""

from __future__ import annotations

import os
from collections.abc import Iterable

import flexcore
from flexcore.client import PATH_ORDER, CheckoutDeniedAction, ClientConfig, Trouble
from flexcore.codes import ErrorCode
from flexcore.errors import CheckoutDenied, NoQuorum, NoServerReachable, NotOneTriad
from flexcore.keys import VerifyingKey
from flexcore_host import whoami
from flexcore_host.hostids import shown_hostids
from flexcore_host.paths import find_servers

__all__ = ["CHECKIN_S", "CLOSE_S", "SLEEP_MAX_S", "TIMEOUT_S", "client_config", "denial", "no_answer"]

TIMEOUT_S = 10.0
"""How long a checkout waits for a server, and a server's answer, where the caller says nothing."""

CHECKIN_S = 1.0
"""How long a checkin waits for the server that serves to have the seat back."""

CLOSE_S = 2.5
"""How long a close waits for its goodbye to be answered."""

SLEEP_MAX_S = 5.0
"""The system's timers stand still while the machine sleeps; after waking, no later than this the clock is read."""

CLOSE_FLUSH_S = 1.0
"""How long a connection that ends in order waits for its last bytes to go."""

READ_BYTES = 1 << 16
UNSENT_BYTES_MAX = 1 << 20
"""A server that reads nothing while this much waits for it is given up."""

_WORD_MAX = 128


def client_config(
    path: str | None, *, vendor: str, keys: Iterable[VerifyingKey | str], user: str | None,
    host: str | None, display: str | None, project: str, trusted_end: bool,
    prefer: str = PATH_ORDER,
) -> ClientConfig:  # fmt: skip
    """Return what the client machine is to know; what is None is found out from the machine and the environment.

    Raises:
        SearchPathError: no path, or not a usable one. KeyFormatError: a key's text is none.
        ValueError: an impossible argument.
    """
    known = tuple(
        VerifyingKey.from_text(key) if isinstance(key, str) else key for key in keys
    )
    if not vendor and known:
        vendor = known[0].vendor
    return ClientConfig(
        path=find_servers(path, vendor),
        vendor=vendor,
        user=_word(user) or whoami.user(),
        host=_word(host) or whoami.host(),
        display=_word(display) or whoami.display(),
        project=_word(project or whoami.project()),
        pid=os.getpid(),
        software=f"flexcore {flexcore.__version__}",
        keys=known,
        trusted_end=trusted_end,
        prefer=prefer,
        hostids=shown_hostids(),
        platform=whoami.platform(),
    )


def _word(text: str | None) -> str:
    """What lmstat can show: it is split at blanks by everybody who reads it."""
    shown = "".join(c if c.isprintable() and not c.isspace() else "_" for c in (text or "").strip())
    return shown[:_WORD_MAX]


def denial(action: CheckoutDeniedAction, feature: str) -> CheckoutDenied | NotOneTriad:
    """Return the exception that tells a server's no."""
    if action.code == ErrorCode.INVALID_HOST and "not one triad" in action.detail:
        return NotOneTriad(action.detail)
    return CheckoutDenied(
        action.code, action.minor, action.text, detail=action.detail, feature=feature
    )


def no_answer(trouble: Trouble | None, besides: str = "") -> NoQuorum | NoServerReachable:
    """Return the exception that tells why nobody answered in time, and what a person should know *besides*."""
    besides = f"; {besides}" if besides else ""
    if trouble is None:
        code = int(ErrorCode.NO_ANSWER_IN_TIME)
        return NoServerReachable(f"the licence server did not answer in time{besides}", code=code)
    kind = NoQuorum if trouble.code == ErrorCode.VENDOR_DOWN else NoServerReachable
    text = trouble.text
    if trouble.until_s:
        text += f" (the servers expect to serve in {trouble.until_s:.0f} s)"
    return kind(text + besides, trouble.attempts, trouble.code)
