"""DUP_GROUP and SUITE_DUP_GROUP: who shares a licence with whom.

``DUP_GROUP=UHD``: checkouts of the same user, host *and* display are one licence; any of the letters
U, H, D, V; ``SITE``: everybody; ``NONE`` and no DUP_GROUP: nobody. V is data of the vendor's own that
comes with a checkout: no client here sends any, so all have the same, which narrows nothing, and a
V by itself groups nobody (there is nothing that they are known to have in common).

The group of a checkout is decided once, by the master, and stands in the ledger's entry.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flexcore.licensefile.entitlements import is_group

if TYPE_CHECKING:
    from flexcore.ledger import Session

SITE = "SITE"


def normal_group(text: str) -> str:
    """Return ``SITE``, some of the letters ``UHD`` in this order, or '' for nobody.

    >>> normal_group("hu"), normal_group("SITE"), normal_group("NONE"), normal_group("V")
    ('UH', 'SITE', '', '')
    """
    word = text.strip().upper()
    if word == SITE:
        return SITE
    if not is_group(text) or word == "NONE":
        return ""
    return "".join(letter for letter in "UHD" if letter in word)


def group_of(kind: str, session: Session) -> str:
    """Return the group that *session* belongs to by *kind* (see normal_group), '' for nobody's.

    Names hold no blanks (the server replaces them), so a blank parts them. Hosts compare without
    case.
    """
    if not kind:
        return ""
    if kind == SITE:
        return SITE
    words = {"U": session.user, "H": session.host.lower(), "D": session.display}
    return " ".join([kind, *(words[letter] for letter in kind)])
