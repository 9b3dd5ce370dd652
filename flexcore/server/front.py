"""Several vendors behind one port: which of them a connection is for.

A single server may have several VENDOR lines; each vendor is a :class:`~flexcore.server.LicenseServer`
of its own, with its own ledger, options and failures. The first message of a connection names the
vendor, and from then on every byte of it, that message included, is that vendor's. Utilities that
name none get the first vendor that is up, whose hello names the others.

No connection of a peer comes here: a triad serves one vendor (seed, "Using Multiple Vendor Daemons").
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from flexcore.codes import ErrorCode, text_of
from flexcore.errors import RemoteProtocolError
from flexcore.wire.connection import Connection
from flexcore.wire.messages import ClientHello, Refusal

NAME_SHOWN_MAX = 64
REASON_MAX = 300


@attrs.frozen
class Passed:
    """The connection is *vendor*'s; *data* is everything that was read from it so far."""

    vendor: str
    data: bytes


@attrs.frozen
class TurnedAway:
    """Nobody here is meant: *data* says why and is the last that is sent."""

    data: bytes


class Guest:
    """A connection that has not said yet for whom it is."""

    __slots__ = ("read", "wire")

    def __init__(self) -> None:
        self.wire = Connection()  # small frames: nobody is known yet
        self.read = bytearray()


class Front:
    """Knows which vendors are up, and sends each connection to the one that it names."""

    def __init__(self, vendors: Sequence[str]) -> None:
        self._down: dict[str, str] = dict.fromkeys(vendors, "it is starting")
        self._up: dict[str, None] = {}
        self._vendors = tuple(vendors)

    def vendor_up(self, vendor: str) -> None:
        """*vendor* takes connections from here on."""
        self._down.pop(vendor, None)
        self._up[vendor] = None

    def vendor_down(self, vendor: str, reason: str) -> None:
        """*vendor* takes none; *reason* is told to whoever asks for it."""
        self._up.pop(vendor, None)
        self._down[vendor] = " ".join(reason.split())[:REASON_MAX]

    def receive(self, guest: Guest, data: bytes) -> Passed | TurnedAway | None:
        """*data* came from *guest*: say whose it is; None while it has not said enough."""
        guest.read += data
        try:
            guest.wire.receive_data(data)
            message = guest.wire.next_message()
        except RemoteProtocolError as error:
            return self._away(guest, ErrorCode.BAD_DATA_FROM_SERVER, str(error))
        if message is None:
            return None
        if not isinstance(message, ClientHello):
            words = "say hello first; servers of a triad have one vendor, and this one has several"
            return self._away(guest, ErrorCode.BAD_DATA_FROM_SERVER, words)
        vendor = self._vendor(message.vendor)
        if vendor is None:
            return self._away(guest, ErrorCode.VENDOR_DOWN, self._why_not(message.vendor))
        return Passed(vendor, bytes(guest.read))

    def _vendor(self, wanted: str) -> str | None:
        """Names are compared as by a vendor's own server, without regard to case."""
        for vendor in self._vendors:
            if vendor in self._up and wanted.lower() in ("", vendor.lower()):
                return vendor
        return None

    def _why_not(self, wanted: str) -> str:
        text = text_of(ErrorCode.VENDOR_DOWN).rstrip(".")
        for vendor in self._vendors:
            if wanted.lower() == vendor.lower():
                return f"{text}: {self._down.get(vendor, '')}"
        if not wanted:
            return text
        served = ", ".join(self._vendors)
        return f"this server serves {served}, not {wanted[:NAME_SHOWN_MAX]}"[:REASON_MAX]

    def _away(self, guest: Guest, code: ErrorCode, text: str) -> TurnedAway:
        # A connection that has failed sends nothing more, so the last word goes out by a new one.
        return TurnedAway(Connection().send(Refusal(int(code), text)))
