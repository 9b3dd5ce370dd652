"""The keywords of feature lines that are known, and which of them have an effect so far."""

from __future__ import annotations

from typing import Final

IN_EFFECT: Final = frozenset(
    {"HOSTID", "ISSUED", "ISSUER", "NOTICE", "SIGN", "SN", "START", "SUPERSEDE", "VENDOR_STRING"}
)
"""Publisher's keywords that do here what the manual says (those that are only text included)."""

NOT_YET: Final = frozenset(
    {
        "BORROW", "CAPACITY", "DUP_GROUP", "FLOAT_OK", "HOST_BASED", "LINGER", "MAX_BORROW_HOURS",
        "ONE_TS_OK", "OVERDRAFT", "PLATFORMS", "SUITE_DUP_GROUP", "TS_OK", "TZ",
        "USER_BASED", "VM_PLATFORMS",
    }
)  # fmt: skip
"""Publisher's keywords that are read, signed and kept, and whose effect comes later."""

PACKAGE_KEYS: Final = frozenset({"COMPONENTS", "OPTIONS"})
"""Keywords that only PACKAGE lines have."""

FOREIGN_SIGNATURES: Final = frozenset({"SIGN2", "AUTH"})

PUBLISHER_KEYS: Final = IN_EFFECT | NOT_YET | PACKAGE_KEYS | FOREIGN_SIGNATURES

ADMINISTRATOR_KEYS: Final = frozenset(
    {"asset_info", "dist_info", "user_info", "vendor_info", "sort", "ck"}
)
"""The keys in lower case that an administrator may write (design.md section 6)."""
