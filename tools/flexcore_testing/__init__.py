"""Test what a product does when it loses its licence servers, or its licence: the real servers, faults by name.

>>> from flexcore_testing import Triad
>>> triad = Triad(features={"f1": 10})
>>> seat = triad.client("user1").checkout("f1")
>>> triad.crash("primary")
>>> triad.advance(seconds=80)
>>> triad.master, seat.held
('secondary', True)
>>> triad.check()

* :class:`Triad`          three servers and any number of clients in a simulation: no socket, no waiting
* :class:`Client`, :class:`Seat`   a simulated client, with the surface of ``flexcore_sync.Client``, and what it holds
* :class:`Violation`      a promise of the protocol was broken: an AssertionError that shows the last messages
* :class:`LoopbackTriad`  three servers on real sockets of 127.0.0.1, in threads; for anything that connects over TCP
* :func:`open_triad`      the same in the test's own trio loop, and under its mock clock if it has one
* :class:`TriadMachine`   faults in any order, by Hypothesis

``pytest -p flexcore_testing.plugin`` brings them as fixtures (:mod:`flexcore_testing.plugin`). Importing this package
needs neither pytest nor trio nor hypothesis (real sockets need trio, TriadMachine needs hypothesis); the names are
loaded when first used. The other modules of the package are what flexcore's own tests are made of, and may change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

# Public name -> module that defines it. To publish a name: one line here, one import below.
_PUBLIC: dict[str, str] = {
    "Client": "harness_client",
    "LoopbackTriad": "loopback",
    "open_triad": "loopback_trio",
    "Seat": "harness_client",
    "Triad": "harness",
    "TriadMachine": "stateful",
    "TrioTriad": "loopback_trio",
    "Violation": "checks",
}

if TYPE_CHECKING:
    from .checks import Violation as Violation
    from .harness import Triad as Triad
    from .harness_client import Client as Client
    from .harness_client import Seat as Seat
    from .loopback import LoopbackTriad as LoopbackTriad
    from .loopback_trio import TrioTriad as TrioTriad
    from .loopback_trio import open_triad as open_triad
    from .stateful import TriadMachine as TriadMachine

__all__ = [*_PUBLIC]  # noqa: PLE0604 - the table is the one list of names


def __getattr__(name: str) -> Any:
    module = _PUBLIC.get(name)
    if module is None:
        raise AttributeError(f"module 'flexcore_testing' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"flexcore_testing.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
