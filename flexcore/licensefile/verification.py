"""Checking SIGN, and telling what differs where a line was changed.

It happens when a file is loaded and when a client gets a line with its grant, never on the checkout
path (design.md section 6).
"""

from __future__ import annotations

import datetime
import enum
from collections import Counter
from collections.abc import Iterable, Sequence

import attrs

from flexcore.errors import HostidError, SignatureError
from flexcore.hostid import parse_hostids
from flexcore.keys import VerifyingKey

from .lines import FeatureLine, LicenseFile, SignableLine
from .reader import parse_license
from .signature import (
    SignValue,
    canonical_bytes,
    check,
    parse_value,
    signed_attributes,
)
from .vocabulary import PUBLISHER_KEYS

LINE_LENGTH_MAX = 2**17
"""Characters of a line that a client verifies."""


class Verdict(enum.Enum):
    """What a check of one line found."""

    VALID = "valid"
    NOT_SIGNED = "not signed"
    OTHER_KEY = "not signed by this key"
    OTHER_SERVERS = "signed for other servers"
    CHANGED = "changed after it was signed"


@attrs.frozen(kw_only=True)
class LineVerdict:
    """The verdict on one line."""

    line: SignableLine
    verdict: Verdict
    differences: tuple[str, ...] = ()
    """What differs from what was signed: ``count``, ``keyword SN``, ``hostid 2`` ..."""
    detail: str = ""
    note: str = ""
    """Something beside the signature: that the line is expired."""

    @property
    def is_valid(self) -> bool:
        return self.verdict is Verdict.VALID

    @property
    def message(self) -> str:
        """The verdict in words, with the difference."""
        words = self.verdict.value + (f": {self.detail}" if self.detail else "")
        return words + (f" ({self.note})" if self.note else "")


@attrs.frozen(kw_only=True)
class VerificationReport:
    """The verdicts on all signable lines of a file, in order."""

    verdicts: tuple[LineVerdict, ...]

    @property
    def is_valid(self) -> bool:
        """Whether there is a line, and every line is valid."""
        return bool(self.verdicts) and all(verdict.is_valid for verdict in self.verdicts)

    @property
    def valid_lines(self) -> tuple[SignableLine, ...]:
        """The lines that may be served."""
        return tuple([verdict.line for verdict in self.verdicts if verdict.is_valid])

    @property
    def valid_features(self) -> tuple[FeatureLine, ...]:
        """Of these the FEATURE and INCREMENT lines."""
        return tuple([line for line in self.valid_lines if isinstance(line, FeatureLine)])

    @property
    def rejected(self) -> tuple[LineVerdict, ...]:
        """The verdicts that are not valid."""
        return tuple([verdict for verdict in self.verdicts if not verdict.is_valid])

    def require_all(self) -> None:
        """Raise :class:`~flexcore.errors.SignatureError` unless every line is valid."""
        if not self.is_valid:
            said = [f"line {v.line.line} ({v.line.name}): {v.message}" for v in self.rejected]
            raise SignatureError("\n".join(said) or "there is no feature line")


def verify_license(
    license: LicenseFile,
    keys: Iterable[VerifyingKey],
    today: datetime.date | None = None,
) -> VerificationReport:
    """Check every FEATURE, INCREMENT, PACKAGE and UPGRADE line of a file.

    Args:
        license: the file; its SERVER lines' hostids are what lines must be signed for.
        keys: the public keys of the vendors; a line is checked with those of its own vendor.
        today: with it, verdicts note lines that are expired or not yet good.
    """
    chosen = tuple(keys)
    hostids = license.hostids
    return VerificationReport(
        verdicts=tuple(
            [_verify(line, hostids, chosen, today) for line in license.signable_lines]
        )
    )  # fmt: skip


def verify_line(
    text: str, hostids: Sequence[str], vendor: str, keys: Iterable[VerifyingKey]
) -> LineVerdict:
    """Check a line that a server sent with a grant (the client's side).

    Args:
        text: the line as :attr:`FeatureLine.signed_text` gives it.
        hostids: those of the server's SERVER lines in order.
        vendor: whose line it has to be; "" for any vendor of which a key is given.
        keys: the public keys that the product embeds.

    Raises:
        SignatureError: ``text`` is not exactly one readable licence line of that vendor.
    """
    if len(text) > LINE_LENGTH_MAX:
        raise SignatureError(f"the licence line has {len(text)} characters")
    if any("\n" in hostid or "\r" in hostid for hostid in hostids):
        # In the signed text a line feed ends a hostid: with one inside, a server could hand over
        # as a hostid what it has taken off the line.
        raise SignatureError("the server sent hostids that are none")
    lines = list(parse_license(text).signable_lines)
    if len(lines) != 1:
        raise SignatureError("the server sent something else than one licence line")
    if vendor and lines[0].vendor != vendor:
        raise SignatureError(f"the licence line is of vendor {lines[0].vendor}, not of {vendor}")
    return _verify(lines[0], tuple(hostids), tuple(keys), None)


def _verify(
    line: SignableLine,
    hostids: tuple[str, ...],
    keys: tuple[VerifyingKey, ...],
    today: datetime.date | None,
) -> LineVerdict:
    note = _dates_note(line, today)
    sign = line.sign
    if sign is None or not sign.strip():
        if line.legacy_key:
            detail = "the key behind the count is of another system"
            return LineVerdict(line=line, verdict=Verdict.OTHER_KEY, detail=detail, note=note)
        hint = "sign= in lower case has no effect" if line.attribute("sign") is not None else ""
        return LineVerdict(line=line, verdict=Verdict.NOT_SIGNED, detail=hint, note=note)
    value = parse_value(sign)
    if value is None:
        detail = "the SIGN value is of another system, or cut short"
        return LineVerdict(line=line, verdict=Verdict.OTHER_KEY, detail=detail, note=note)
    fitting = [key for key in keys if key.key_id == value.key_id]
    for key in fitting:
        if key.vendor == line.vendor:
            if key.verify(value.signature, canonical_bytes(line, hostids, value.head)):
                return LineVerdict(line=line, verdict=Verdict.VALID, note=note)
    if fitting:  # a key of another vendor: then the vendor's name is what was changed
        return _explain(line, hostids, value, note)
    own = [key.key_id.hex() for key in keys if key.vendor == line.vendor]
    detail = f"made with key {value.key_id.hex()}, and {line.vendor}'s is {', '.join(own)}"
    if not own:
        detail = f"no key of vendor {line.vendor} is given"
    return LineVerdict(line=line, verdict=Verdict.OTHER_KEY, detail=detail, note=note)


def _dates_note(line: SignableLine, today: datetime.date | None) -> str:
    if today is None or not isinstance(line, FeatureLine):
        return ""
    if line.is_expired(today):
        return f"expired on {line.expiry_text}"
    if line.is_early(today):
        return f"starts on {line.value('START')}"
    return ""


# --- what differs -------------------------------------------------------------------------------------


def _explain(
    line: SignableLine, hostids: tuple[str, ...], value: SignValue, note: str
) -> LineVerdict:
    """Compare the value's checks with the line. The value is refused whatever comes out."""
    fields = _field_differences(line, value)
    keywords = _attribute_differences(line, value)
    servers, servers_detail = _hostid_differences(hostids, value)
    said = fields + keywords
    details = [f"{name} differs" for name, _ in said if not _] + [text for _, text in said if text]
    differences = tuple(name for name, _ in said) + servers
    if servers and not said:
        verdict, details = Verdict.OTHER_SERVERS, [servers_detail]
    else:
        verdict = Verdict.CHANGED
        details += [servers_detail] if servers else []
    if not differences:
        details = ["the SIGN value itself is damaged"]
    return LineVerdict(
        line=line, verdict=verdict, differences=differences, detail="; ".join(details), note=note
    )


def _field_differences(line: SignableLine, value: SignValue) -> list[tuple[str, str]]:
    fields = [("line keyword", "line", line.keyword), *((r, r, v) for r, v in line.fields)]
    if len(fields) != len(value.fields):
        return [("line keyword", f"it was signed as another kind of line than {line.keyword}")]
    return [
        (name, f"{name} {text} is not what was signed")
        for (name, role, text), signed in zip(fields, value.fields, strict=True)
        if check(role, text) != signed
    ]


def _attribute_differences(line: SignableLine, value: SignValue) -> list[tuple[str, str]]:
    present = [
        (key, check("key", key), check("attribute", t)) for key, t in signed_attributes(line)
    ]
    missing = Counter(value.attributes)
    extra: list[tuple[str, bytes]] = []
    for key, key_check, text_check in present:
        if missing[key_check, text_check] > 0:
            missing[key_check, text_check] -= 1
        else:
            extra.append((key, key_check))
    gone = [key_check for (key_check, _), number in missing.items() for _ in range(number)]
    said: list[tuple[str, str]] = []
    for key, key_check in extra:
        if key_check in gone:
            gone.remove(key_check)
            said.append((f"keyword {key}", f"keyword {key} has another value than was signed"))
        else:
            said.append((f"keyword {key}", f"keyword {key} was added"))
    names = {check("key", key): key for key in PUBLISHER_KEYS}
    for key_check in gone:
        known = names.get(key_check)
        name = f"keyword {known}" if known else "a keyword"
        said.append((name, f"{name} was taken out"))
    return said


def _hostid_differences(hostids: tuple[str, ...], value: SignValue) -> tuple[tuple[str, ...], str]:
    present = [check("hostid", hostid.casefold()) for hostid in hostids]
    signed = list(value.hostids)
    if present == signed:
        return (), ""
    if len(present) != len(signed):
        detail = f"signed for {_servers(len(signed))}, and there are {_servers(len(present))}"
        return ("number of servers",), detail
    if sorted(present) == sorted(signed):
        return ("order of hostids",), "signed for the same hostids in another order"
    places = [n for n, (a, b) in enumerate(zip(present, signed, strict=True), 1) if a != b]
    listed = ", ".join(f"{_shown(hostids[n - 1])} of SERVER line {n}" for n in places)
    same = len(present) - len(places)
    detail = f"it was not signed for hostid {listed}" + (f"; the other {same} fit" if same else "")
    return tuple(f"hostid {n}" for n in places), detail


def _servers(number: int) -> str:
    return "no server" if number == 0 else f"{number} server{'s' if number > 1 else ''}"


def _shown(hostid: str) -> str:
    try:
        return " ".join([str(each) for each in parse_hostids(hostid)])
    except HostidError:
        return hostid
