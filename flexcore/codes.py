"""The error codes: one table of number, minor number and text for the whole of flexcore.

Monitoring tools read these numbers and texts, so they follow what administrators know: a message
is printed as ``TEXT. (-MAJOR,MINOR)``, with an operating system error as
``TEXT. (-MAJOR,MINOR:ERRNO "text")``, and a utility that fails exits with 256 + code. The minor
numbers that public logs show are kept (342, 346, 334, 121, 570, 147, 287); the others are
flexcore's own, one a code, and never change again.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType

__all__ = ["MINORS", "TEXTS", "ErrorCode", "describe", "exit_status", "minor_of", "text_of"]


class ErrorCode(IntEnum):
    """The codes that flexcore itself gives out, by name. Any code of the table is legal on the
    wire."""

    NO_LICENSE_FILE = -1
    BAD_SYNTAX = -2
    NO_SERVER_FOR_FEATURE = -3
    USERS_REACHED = -4
    NO_SUCH_FEATURE = -5
    NO_SOCKET = -7
    BAD_SIGNATURE = -8
    INVALID_HOST = -9
    EXPIRED = -10
    BAD_DATE = -11
    BAD_DATA_FROM_SERVER = -12
    NO_SERVER_LINES = -13
    UNKNOWN_HOST_NAME = -14
    CANNOT_CONNECT = -15
    CANNOT_READ = -16
    CANNOT_WRITE = -17
    NOT_SERVED = -18
    VERSION_NOT_IN_FILE = -21
    CHECKIN_FAILED = -22
    SERVER_BUSY = -23
    USERS_QUEUED = -24
    VERSION_NOT_SERVED = -25
    TOO_MANY_ASKED = -26
    CANNOT_READ_FILE = -30
    NOT_STARTED_YET = -31
    BAD_HANDSHAKE = -33
    CLOCK_DIFFERENCE = -34
    IN_QUEUE = -35
    DUPLICATE_SELECTION = -37
    EXCLUDED = -38
    NOT_INCLUDED = -39
    NEVER_CHECKED_OUT = -41
    INVALID_PARAMETER = -42
    NO_ANSWER_IN_TIME = -52
    NOT_ADMINISTRATOR = -63
    REMOVE_TOO_SOON = -64
    NO_LICENSES_TO_BORROW = -67
    NO_BORROW = -68
    INTERNAL = -76
    BAD_VERSION = -77
    BAD_PACKAGE_LINE = -82
    CLIENT_NEWER_THAN_SERVER = -83
    USER_BASED_NOBODY = -84
    REQUEST_NOT_SUPPORTED = -85
    EXCEEDS_MAX = -87
    CLOCK_SET_BACK = -88
    PLATFORM_NOT_AUTHORIZED = -89
    FEATURE_REMOVED = -92
    OTHER_POOL = -93
    THIS_HOST_FAILED = -95
    SERVER_DOWN = -96
    VENDOR_DOWN = -97
    BAD_DECIMAL = -99
    LINGER_NOT_REMOVABLE = -100
    ALL_RESERVED = -101
    CANNOT_BORROW_THAT_LONG = -104
    OUT_OF_CONNECTIONS = -106
    SIGN_MISSING = -114
    BORROW_FAILED = -117
    BORROW_EXPIRED = -118
    NOT_ON_SERVER_MACHINE = -119
    LICENSES_BORROWED = -120
    BORROW_NOT_DELETED = -122
    BORROW_NOT_RETURNED = -124
    PACKAGE_CHECKOUT = -125
    BORROW_UNKNOWN = -128


# code: (minor, text without the full stop). Wordings are the ones that public logs and tables show.
_TABLE: dict[int, tuple[int, str]] = {
    -1: (359, "Cannot find license file"),
    -2: (413, "Invalid license file syntax"),
    -3: (420, "No server for this feature"),
    -4: (342, "Licensed number of users already reached"),
    -5: (346, "No such feature exists"),
    -6: (421, "No TCP/IP port number in license file and the license service does not exist"),
    -7: (422, "No socket connection to license server manager service"),
    -8: (130, "Invalid (inconsistent) license key or signature"),
    -9: (57, "Invalid host"),
    -10: (32, "Feature has expired"),
    -11: (423, "Invalid date format in license file"),
    -12: (424, "Invalid returned data from license server system"),
    -13: (66, "No SERVER lines in license file"),
    -14: (7, "Cannot find SERVER host name in network database"),
    -15: (570, "Cannot connect to license server system"),
    -16: (287, "Cannot read data from license server system"),
    -17: (425, "Cannot write data to license server system"),
    -18: (147, "License server system does not support this feature"),
    -19: (426, "Error in select system call"),
    -21: (126, "License file does not support this version"),
    -22: (427, "Feature checkin failure detected at license server system"),
    -23: (428, "License server system temporarily busy (new server connecting)"),
    -24: (429, "Users are queued for this feature"),
    -25: (334, "License server system does not support this version of this feature"),
    -26: (430, "Request for more licenses than this feature supports"),
    -29: (431, "Cannot find ethernet device"),
    -30: (432, "Cannot read license file"),
    -31: (433, "Feature start date is in the future"),
    -32: (434, "No such attribute"),
    -33: (435, "Bad encryption handshake with vendor daemon"),
    -34: (436, "Clock difference too large between client and license server system"),
    -35: (437, "In the queue for this feature"),
    -36: (438, "Feature database corrupted in vendor daemon"),
    -37: (439, "Duplicate selection mismatch for this feature"),
    -38: (440, "User/host on EXCLUDE list for feature"),
    -39: (441, "User/host not on INCLUDE list for feature"),
    -40: (442, "Cannot locate dynamic memory"),
    -41: (443, "Feature was never checked out"),
    -42: (444, "Invalid parameter"),
    -47: (445, "Clock setting check not available in vendor daemon"),
    -52: (446, "Vendor daemon did not respond within timeout interval"),
    -53: (447, "Checkout request rejected by vendor-defined checkout filter"),
    -54: (448, "No FEATURESET line in license file"),
    -55: (449, "Incorrect FEATURESET line in license file"),
    -56: (450, "Cannot compute FEATURESET data from license file"),
    -57: (451, "socket() call failed"),
    -59: (452, "Message checksum failure"),
    -60: (453, "License server system message checksum failure"),
    -61: (454, "Cannot read license file data from license server system"),
    -62: (455, "Network software (TCP/IP) not available"),
    -63: (456, "You are not a license administrator"),
    -64: (457, "lmremove request before the minimum lmremove interval"),
    -67: (458, "No licenses available to borrow"),
    -68: (459, "License BORROW support not enabled"),
    -69: (460, "FLOAT_OK can't run standalone on SERVER"),
    -71: (461, "Invalid TZ environment variable"),
    -73: (462, "Local checkout filter rejected request"),
    -74: (463, "Attempt to read beyond end of license file path"),
    -75: (464, "SYS$SETIMR call failed"),
    -76: (465, "Internal licensing error"),
    -77: (466, "Bad version number must be floating-point number with no letters"),
    -82: (467, "Invalid PACKAGE line in license file"),
    -83: (468, "Version of client newer than license server system"),
    -84: (469, "USER_BASED license has no specified users - see license server system log"),
    -85: (470, "License server system does not support this request"),
    -87: (471, "Checkout exceeds MAX specified in options file"),
    -88: (472, "System clock has been set back"),
    -89: (473, "This platform not authorized by license"),
    -90: (474, "Future license file format or misspelling in license file"),
    -91: (475, "Encryption seeds are non-unique"),
    -92: (476, "Feature removed during lmreread, or wrong SERVER line hostid"),
    -93: (477, "This feature is available in a different license pool"),
    -94: (478, "Attempt to generate license with incompatible attributes"),
    -95: (479, "Network connect to this_host failed"),
    -96: (480, "Server machine is down or not responding"),
    -97: (121, "The desired vendor daemon is down"),
    -98: (481, "This FEATURE line cannot be converted to decimal format"),
    -99: (482, "The decimal format license is typed incorrectly"),
    -100: (483, "Cannot remove a linger license"),
    -101: (484, "All licenses are reserved for others"),
    -102: (485, "A FLEXid borrow error occurred"),
    -103: (486, "Terminal Server remote client not allowed"),
    -104: (487, "Cannot borrow that long"),
    -106: (488, "License server system out of network connections"),
    -110: (489, "Cannot read dongle, check dongle or driver"),
    -112: (490, "Missing dongle driver"),
    -113: (491, "Two FLEXlock checkouts attempted"),
    -114: (492, "SIGN= keyword required, but missing from license"),
    -115: (493, "Error in Public Key package"),
    -116: (494, "CRO not supported for this platform"),
    -117: (495, "BORROW failed"),
    -118: (496, "BORROW period has expired"),
    -119: (497, "lmdown and lmreread must be run on license server machine"),
    -120: (498, "Cannot lmdown the server when licenses are borrowed"),
    -121: (499, "FLOAT_OK license must have exactly one dongle hostid"),
    -122: (500, "Unable to delete local borrow info"),
    -123: (501, "Support for returning a borrowed license early is not enabled"),
    -124: (
        502,
        "An error occurred while returning a borrowed license to the license server system",
    ),
    -125: (503, "Attempt to checkout just a PACKAGE"),
    -126: (504, "Error initializing a composite hostid"),
    -127: (505, "A hostid needed for the composite hostid is missing or invalid"),
    -128: (506, "Error, borrowed license doesn't match any known server license"),
}

TEXTS: Mapping[int, str] = MappingProxyType({code: text for code, (_, text) in _TABLE.items()})
"""Code to text, without a full stop."""

MINORS: Mapping[int, int] = MappingProxyType({code: minor for code, (minor, _) in _TABLE.items()})
"""Code to the minor number that is printed beside it."""


def text_of(code: int) -> str:
    """Return the text of an error code, without a full stop; a code outside the table says so."""
    return TEXTS.get(code, f"Unknown error {int(code)}")


def minor_of(code: int) -> int:
    """Return the minor number that is printed beside ``code`` (0 for a code outside the table)."""
    return MINORS.get(code, 0)


def exit_status(code: int) -> int:
    """Return the exit status of a utility that failed with ``code``: 256 + code, as lmutil does.

    -4 gives 252, -15 gives 241, -97 gives 159. A number that cannot be such a code gives 1.
    """
    return 256 + int(code) if -256 < code < 0 else 1


def describe(
    code: int,
    *,
    minor: int | None = None,
    text: str | None = None,
    sys_errno: int | None = None,
    sys_text: str = "",
) -> str:
    """Return the printed form, ``TEXT. (-MAJOR,MINOR)`` or ``TEXT. (-MAJOR,MINOR:ERRNO "SYS")``.

    >>> describe(-15, sys_errno=111, sys_text="Connection refused")
    'Cannot connect to license server system. (-15,570:111 "Connection refused")'
    """
    words = text if text is not None else text_of(code)
    numbers = f"{int(code)},{minor if minor is not None else minor_of(code)}"
    if sys_errno is not None:
        numbers += f':{sys_errno} "{sys_text}"'
    return f"{words}. ({numbers})"
