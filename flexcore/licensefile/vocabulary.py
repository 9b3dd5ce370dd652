"""The keywords of feature lines that are known, and which of them have an effect so far."""

from __future__ import annotations

from typing import Final

IN_EFFECT: Final = frozenset(
    {
        "BORROW", "DUP_GROUP", "HOSTID", "HOST_BASED", "ISSUED", "ISSUER", "LINGER", "NOTICE", "OVERDRAFT", "PLATFORMS",
        "SIGN", "SN", "START", "SUITE_DUP_GROUP", "SUPERSEDE", "USER_BASED", "VENDOR_STRING",
    }
)  # fmt: skip
"""Publisher's keywords that do here what the manual says (those that are only text included)."""

WITHOUT_EFFECT: Final = {
    "CAPACITY": "no public text says what it does",
    "FLOAT_OK": "a licence that moves with a dongle: flexcore reads no dongles",
    "MAX_BORROW_HOURS": "on a licence line BORROW=hours is the limit; MAX_BORROW_HOURS stands in options files",
    "ONE_TS_OK": "no client says that it runs in a terminal session, so none is refused",
    "TS_OK": "no client says that it runs in a terminal session, so none is refused",
    "TZ": "no public text says how a time zone is written",
    "VM_PLATFORMS": "no client says whether its machine is virtual",
}
"""Publisher's keywords that are read, signed and kept (some keep pools apart), deliberately without
any other effect, and why (docs/licence-semantics.rst)."""

PACKAGE_KEYS: Final = frozenset({"COMPONENTS", "OPTIONS"})
"""Keywords that only PACKAGE lines have."""

FOREIGN_SIGNATURES: Final = frozenset({"SIGN2", "AUTH"})

PUBLISHER_KEYS: Final = (
    IN_EFFECT | PACKAGE_KEYS | FOREIGN_SIGNATURES | frozenset(WITHOUT_EFFECT)
)

ADMINISTRATOR_KEYS: Final = frozenset(
    {"asset_info", "dist_info", "user_info", "vendor_info", "sort", "ck"}
)
"""The keys in lower case that an administrator may write (design.md section 6)."""
