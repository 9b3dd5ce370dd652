"""Every exception that flexcore raises on purpose, one root, split by whose fault it is.

* :class:`LicenseError` and below: the licence file, a key or a hostid that somebody wrote.
* :class:`SearchPathError`, :class:`ConfigurationError`, :class:`StateError`: the administrator's
  set-up.
* :class:`LocalProtocolError`: the program that drives flexcore. :class:`RemoteProtocolError`: the
  other end.
* :class:`CheckoutDenied`: nobody's fault, the answer is no. :class:`ServerError` and below: no
  server that could answer. :class:`LicenseLost`: something that was held is held no more.

``code`` is a number of :mod:`flexcore.codes` where one applies; a command that ends with such an
error exits with ``exit_status`` (256 + code, as lmutil does).
"""

from __future__ import annotations

from .codes import ErrorCode, describe, exit_status, minor_of, text_of
from .override import override

__all__ = [
    "BorrowError",
    "CheckoutDenied",
    "ConfigurationError",
    "FlexcoreError",
    "HostidError",
    "HostidUnavailable",
    "KeyFormatError",
    "LicenseError",
    "LicenseLost",
    "LicenseSyntaxError",
    "LicenseTooLarge",
    "LocalProtocolError",
    "NoQuorum",
    "NoServerReachable",
    "NotOneTriad",
    "ProtocolError",
    "RemoteProtocolError",
    "SearchPathError",
    "ServerError",
    "SignatureError",
    "StateDamaged",
    "StateError",
    "StateLocked",
]


class FlexcoreError(Exception):
    """The root of all of them. ``str(error)`` can be shown to a user as it is."""

    code: int | None = None
    """The number of :mod:`flexcore.codes` that fits, or None."""

    @property
    def exit_status(self) -> int:
        """What a command that ends with this error exits with."""
        return 1 if self.code is None else exit_status(self.code)


# --- the licence file, its keys and hostids ---------------------------------------------------


class LicenseError(FlexcoreError):
    """A licence file cannot be used; ``code`` is -2 unless a subclass knows better."""

    code: int | None = ErrorCode.BAD_SYNTAX


class LicenseSyntaxError(LicenseError):
    """A place in a licence file that cannot be read. Lines and columns count from 1."""

    def __init__(self, message: str, line: int = 0, column: int = 0, name: str = "") -> None:
        super().__init__(message, line, column, name)
        self.message = message
        self.line = line
        self.column = column
        self.name = name

    @override
    def __str__(self) -> str:
        where = ":".join(
            [*([self.name] if self.name else []), *(str(n) for n in (self.line, self.column) if n)]
        )
        return f"{where}: {self.message}" if where else self.message


class LicenseTooLarge(LicenseError):
    """A text exceeds a named limit of :mod:`flexcore.licensefile` (file size, lines, one line)."""


class SignatureError(LicenseError):
    """A line is not signed, not by the expected key, for other servers, or was changed."""

    code: int | None = ErrorCode.BAD_SIGNATURE


class KeyFormatError(LicenseError):
    """A text is no signing key or verifying key of flexcore's."""

    code: int | None = None


class HostidError(LicenseError):
    """A text is no hostid."""

    code: int | None = ErrorCode.INVALID_HOST


class HostidUnavailable(HostidError):
    """This machine has no hostid of the kind asked for, or it cannot be read here."""


# --- the set-up -----------------------------------------------------------------------------------


class SearchPathError(FlexcoreError):
    """A licence search path (``-c``, ``LM_LICENSE_FILE``) that cannot be used as it stands."""

    code: int | None = ErrorCode.NO_LICENSE_FILE


class ConfigurationError(FlexcoreError):
    """Flags, options or files that do not fit together, such as ``--server`` naming no SERVER
    line."""


class StateError(FlexcoreError):
    """The state folder cannot be used: full disk, wrong owner, network file system."""


class StateLocked(StateError):
    """Another process holds the state folder."""


class StateDamaged(StateError):
    """The state file is torn, of a newer version, or not flexcore's."""


# --- the two ends of a connection -----------------------------------------------------------------


class ProtocolError(FlexcoreError):
    """Somebody broke the protocol; always one of the two below."""


class LocalProtocolError(ProtocolError):
    """The program asked for something that is not possible in this state, or the machine is
    closed."""


class RemoteProtocolError(ProtocolError):
    """The other end sent what no correct one sends. The connection is to be closed."""

    code: int | None = ErrorCode.BAD_DATA_FROM_SERVER


# --- answers
# ------------------------------------------------------------------------------------------


class CheckoutDenied(FlexcoreError):
    """A licence server answered, and the answer is no.

    ``code`` and ``minor`` are numbers of :mod:`flexcore.codes`, ``text`` its text or the server's
    own, ``feature`` what was asked for; ``detail`` is more for humans, such as who holds the
    licences.
    """

    def __init__(
        self,
        code: int,
        minor: int | None = None,
        text: str | None = None,
        detail: str = "",
        feature: str = "",
    ) -> None:
        super().__init__(code, minor, text, detail, feature)
        self.code: int = code
        self.minor = minor if minor is not None else minor_of(code)
        self.text = text if text is not None else text_of(code)
        self.feature = feature
        self.detail = detail

    @override
    def __str__(self) -> str:
        said = describe(self.code, minor=self.minor, text=self.text)
        about = "" if self.detail.startswith(f"{self.feature} ") else self.feature
        more = ": ".join(each for each in (about, self.detail) if each)
        return f"{said} {more}" if more else said


class BorrowError(FlexcoreError):
    """What was borrowed, or is to be, cannot be used or written down; ``code`` says how."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message, code)
        self.message = message
        self.code: int = code

    @override
    def __str__(self) -> str:
        return f"{describe(self.code)} {self.message}"


class ServerError(FlexcoreError):
    """No server could be asked; ``attempts`` says for each address what happened, in the order
    tried."""

    def __init__(
        self, message: str = "", attempts: tuple[str, ...] = (), code: int | None = None
    ) -> None:
        super().__init__(message, attempts, code)
        self.message = message
        self.attempts = attempts
        if code is not None:
            self.code = code

    @override
    def __str__(self) -> str:
        said = self.message or (
            describe(self.code) if self.code is not None else "no license server"
        )
        return said + "".join(f"\n  {attempt}" for attempt in self.attempts)


class NoServerReachable(ServerError):
    """Nothing in the search path can be reached (-15)."""

    code: int | None = ErrorCode.CANNOT_CONNECT


class NoQuorum(ServerError):
    """Servers answer, but fewer than two of the three talk to each other: nobody serves (-97)."""

    code: int | None = ErrorCode.VENDOR_DOWN


class NotOneTriad(ServerError):
    """A comma list means one triad, and these servers do not share a licence file."""

    code: int | None = ErrorCode.INVALID_HOST


class LicenseLost(FlexcoreError):
    """A licence that was held is not held any more; ``reason`` says why in words."""

    def __init__(
        self, feature: str, handle: int = 0, reason: str = "", code: int | None = None
    ) -> None:
        super().__init__(feature, handle, reason, code)
        self.feature = feature
        self.handle = handle
        self.reason = reason
        if code is not None:
            self.code = code

    @override
    def __str__(self) -> str:
        return f"the licence for {self.feature} is lost" + (
            f": {self.reason}" if self.reason else ""
        )
