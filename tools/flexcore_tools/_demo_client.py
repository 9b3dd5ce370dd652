"""An application of the demo: holds licences, does what its standard input says, tells on its output.

One JSON object a line both ways: ``{"do": "connect"}``, ``{"do": "checkout", "feature": F, "count":
N}``, ``{"do": "checkin", "handle": H}``, ``{"do": "held"}``; a word about a lost licence comes
unasked. The end of the input closes the client in order.
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import Any

_OUTPUT = threading.Lock()


def tell(**what: Any) -> None:
    """Write one line for the demo."""
    with _OUTPUT:
        sys.stdout.write(json.dumps(what) + "\n")
        sys.stdout.flush()


def main(path: str, key_file: str) -> int:
    """Serve the demo until the input ends."""
    import flexcore_sync
    from flexcore.errors import CheckoutDenied, FlexcoreError
    from flexcore.keys import VerifyingKey

    key = VerifyingKey.from_text(Path(key_file).read_text(encoding="utf-8"))
    client: Any = None
    seats: dict[int, Any] = {}

    def lost(*what: object) -> None:
        tell(lost=[str(each) for each in what])

    tell(ready=True)
    try:
        for line in sys.stdin:
            order = json.loads(line)
            try:
                if client is None:
                    client = flexcore_sync.connect(path, vendor="demo", keys=[key], on_loss=lost)
                if order["do"] == "checkout":
                    seat = client.checkout(order["feature"], count=order["count"])
                    seats[seat.handle] = seat
                    tell(granted=seat.handle)
                elif order["do"] == "checkin":
                    seats.pop(order["handle"]).checkin()
                    tell(returned=order["handle"])
                elif order["do"] == "held":
                    tell(held=sorted(h for h, seat in seats.items() if seat.held))
                else:
                    tell(connected=True)
            except CheckoutDenied as denied:
                tell(denied=denied.code, text=str(denied))
            except FlexcoreError as error:
                tell(error=str(error), kind=type(error).__name__)
    finally:
        if client is not None:
            client.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
