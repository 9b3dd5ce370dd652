"""A client's or utility's first message, and the answer to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from flexcore.codes import ErrorCode, text_of
from flexcore.wire.messages import PROTOCOL_VERSION, ClientHello, ServerHello, ServerReport

from .config import ServerConfig
from .connections import CLIENT, ServerConnection

if TYPE_CHECKING:
    from flexcore.options import OptionsFile


def hello_refusal(
    config: ServerConfig, options: OptionsFile | None, message: ClientHello,
    connections: Mapping[int, ServerConnection],
) -> tuple[ErrorCode, str] | None:  # fmt: skip
    """Return why whoever said *message* is turned away, None if it is not.

    MAX_CONNECTIONS turns applications away: utilities get in, and so do peers.
    """
    if message.protocol != PROTOCOL_VERSION:
        said = f"this server speaks version {PROTOCOL_VERSION} of the protocol, not {message.protocol}"
        newer = message.protocol > PROTOCOL_VERSION
        return ErrorCode.CLIENT_NEWER_THAN_SERVER if newer else ErrorCode.REQUEST_NOT_SUPPORTED, said
    if message.vendor and message.vendor.lower() != config.served_vendor.lower():
        text = f"this server serves {config.served_vendor}, not {message.vendor[:64]}"
        return ErrorCode.VENDOR_DOWN, text
    most = None if options is None or message.utility or not message.vendor else options.connections_max
    if most is not None and len(connections) > int(most.value):
        clients = sum(each.kind == CLIENT for each in connections.values())
        if clients >= int(most.value):
            assert options is not None
            text = f"{text_of(ErrorCode.OUT_OF_CONNECTIONS)}: {clients} are open, {options.where(most)}"
            return ErrorCode.OUT_OF_CONNECTIONS, text
    if len(connections) > config.limits.connections:
        return ErrorCode.OUT_OF_CONNECTIONS, text_of(ErrorCode.OUT_OF_CONNECTIONS)
    return None


def hello_of(
    config: ServerConfig, connection: ServerConnection, report: ServerReport, wall: float,
    membership_digest: bytes,
) -> ServerHello:  # fmt: skip
    """Return the answer: who this server is, who the others are, and a nonce for proofs."""
    return ServerHello(
        PROTOCOL_VERSION, config.software, connection.nonce, config.served_vendor, config.servers,
        report, config.client_lease_s, wall, membership_digest, config.vendors,
    )  # fmt: skip
