"""The client's own look at what it was granted: the signed line against the publisher's key that the product embeds
(design.md section 6). A server that was tampered with cannot give what the publisher did not sign."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flexcore.client.values import Seat
from flexcore.errors import LicenseError

if TYPE_CHECKING:
    from flexcore.keys import VerifyingKey

REMEMBERED_MAX = 64
"""Lines whose verdict is remembered: verifying costs 80 us, and a product has few features."""

LINES_MAX = 64
"""Lines of one grant: more than one where the counts of INCREMENT lines add up to it."""


class Verifier:
    """Verifies granted lines, each once. Without keys everything is taken as it is."""

    __slots__ = ("_keys", "_vendor", "_verdicts")

    def __init__(self, keys: tuple[VerifyingKey, ...], vendor: str) -> None:
        self._keys = keys
        self._vendor = vendor
        self._verdicts: dict[tuple[str, tuple[str, ...], str, int], str] = {}

    def problem_with(self, seat: Seat) -> str:
        """Return why *seat* is not covered by a signed line, '' if it is."""
        if not self._keys:
            return ""
        key = (seat.line, seat.hostids, seat.feature, seat.count)
        verdict = self._verdicts.get(key)
        if verdict is None:
            verdict = self._judge(seat)
            if len(self._verdicts) >= REMEMBERED_MAX:
                self._verdicts.clear()
            self._verdicts[key] = verdict
        return verdict

    def _judge(self, seat: Seat) -> str:
        """Each of the lines must be the publisher's; what they say together, UPGRADE and PACKAGE lines included, must
        license the feature in this number, from one pool, and no line counts twice."""
        # Only those who have keys pay for the parser and for cryptography.
        from flexcore.licensefile import verify_line
        from flexcore.licensefile.entitlements import read_entitlements

        if not seat.line:
            return "the licence server sent no signed line with the grant"
        texts = seat.line.split("\n", LINES_MAX)
        if len(texts) > LINES_MAX:
            return f"the licence server sent more than {LINES_MAX} lines with the grant"
        lines = []
        for text in texts:
            try:
                verdict = verify_line(text, seat.hostids, self._vendor, self._keys)
            except LicenseError as error:
                return str(error)
            if not verdict.is_valid:
                return verdict.message
            lines.append(verdict.line)
        wanted = seat.feature.casefold()
        found = read_entitlements(lines, seat.hostids)
        fitting = [each for each in found.items if each.line.name.casefold() == wanted and each.package is None]
        used: dict[str, set[int]] = {}
        signed: dict[str, int] = {}
        for each in fitting:
            used.setdefault(each.pool_key, set()).update(id(source) for source in each.sources)
            signed[each.pool_key] = signed.get(each.pool_key, 0) + (each.seats or seat.count)
        everywhere = set().union(*used.values())
        strange = [line for line in lines if id(line) not in everywhere and line.name.casefold() != wanted]
        if strange or not fitting:
            name = (strange or lines)[0].name
            return f"the licence server sent the line of {name} with a grant of {seat.feature}"
        counted = {id(line) for line in lines} - {id(each.line) for each in found.ignored}
        most = max((signed[pool] for pool in used if used[pool] >= counted), default=None)
        if most is None:
            return "the licence server sent lines that do not add up with the grant"
        if most < seat.count:
            return f"the publisher signed {most} licences, the server granted {seat.count}"
        return ""
