"""What administrators may ask of a server, and who may ask."""

from __future__ import annotations

from flexcore.codes import ErrorCode, text_of
from flexcore.wire.messages import AdminReply, AdminRequest

from .config import ServerConfig
from .connections import ServerConnection
from .switches import VERBS

REMOVE = "remove"
"""Verb of lmremove."""
ASKED_OF_SERVERS = frozenset({"reread", *VERBS})
"""Verbs for one server, or for all of them."""
FORCE = "force"
"""Argument of 'down': also while licences are borrowed (lmdown -force)."""

WHO_MAY = "this server takes orders of root, of its own user and of the group lmadmin only: lmgrd -2 -p"


def answer_admin(
    config: ServerConfig, connection: ServerConnection, message: AdminRequest, *, borrowed: int = 0
) -> tuple[AdminReply | None, str]:
    """Return the answer and, if this server is to stop, 'one' or 'all', else ''. None: a reread,
    a removal or an order about a log, which is answered later (:mod:`flexcore.server.rereads`,
    :mod:`flexcore.server.removals`, :mod:`flexcore.server.switches`).

    *borrowed*: how many borrows there are. They survive a stop; but whoever wants to return early finds
    nobody, so a stop of everything takes -force (-120). One of three may be stopped for maintenance.

    Only from this machine until administrators have keys (design.md section 7); from elsewhere the
    answer is -119 with the hosts to log in to. With ``lmgrd -2 -p`` only those of administrators (-63), as the
    operating system names the user of a connection.
    """
    scope = message.arguments[0] if message.arguments else ""
    if not connection.local:
        hosts = tuple(server.host for server in config.servers)
        return _refusal(message.seq, ErrorCode.NOT_ON_SERVER_MACHINE, hosts), ""
    if config.administrators_only and not connection.administrator:
        return _refusal(message.seq, ErrorCode.NOT_ADMINISTRATOR, (WHO_MAY,)), ""
    if message.verb == "down" and not config.lmdown:
        why = ("lmdown is switched off: lmgrd -x lmdown",)
        return _refusal(message.seq, ErrorCode.REQUEST_NOT_SUPPORTED, why), ""
    if message.verb == "down" and scope in ("all", "one"):
        ends_all = scope == "all" or not config.license.is_triad
        if borrowed and ends_all and FORCE not in message.arguments[1:]:
            return _refusal(message.seq, ErrorCode.LICENSES_BORROWED, ()), ""
        return AdminReply(message.seq, 0, ""), scope
    if (message.verb in ASKED_OF_SERVERS and scope in ("all", "one")) or message.verb == REMOVE:
        return None, ""
    return _refusal(message.seq, ErrorCode.REQUEST_NOT_SUPPORTED, ()), ""


def _refusal(seq: int, code: ErrorCode, lines: tuple[str, ...]) -> AdminReply:
    return AdminReply(seq, int(code), text_of(code), lines)
