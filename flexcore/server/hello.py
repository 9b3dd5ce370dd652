"""A client's or utility's first message, and the answer to it."""

from __future__ import annotations

from flexcore.codes import ErrorCode, text_of
from flexcore.wire.messages import PROTOCOL_VERSION, ClientHello, ServerHello, ServerReport

from .config import ServerConfig
from .connections import ServerConnection


def hello_refusal(
    config: ServerConfig, message: ClientHello, connections: int
) -> tuple[ErrorCode, str] | None:
    """Return why whoever said *message* is turned away where so many *connections* are open, None if it is not.

    What MAX_CONNECTIONS has against it is told when it opens a session (:func:`.answers.check_crowd`).
    """
    if message.protocol != PROTOCOL_VERSION:
        said = f"this server speaks version {PROTOCOL_VERSION} of the protocol, not {message.protocol}"
        newer = message.protocol > PROTOCOL_VERSION
        return ErrorCode.CLIENT_NEWER_THAN_SERVER if newer else ErrorCode.REQUEST_NOT_SUPPORTED, said
    if message.vendor and message.vendor.lower() != config.served_vendor.lower():
        text = f"this server serves {config.served_vendor}, not {message.vendor[:64]}"
        return ErrorCode.VENDOR_DOWN, text
    if connections > config.limits.connections:
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
