"""``python -m flexcore_testing.proxy``: proxies from a shell, hurt by orders on standard input.

Each ``--link NAME=LISTEN=TARGET`` (addresses as ``host:port``, a listening port of 0 is chosen) is one
proxy. What is said first, and after every order, is one JSON object a line. An order is one, too::

    {"do": "set", "link": "a", "way": "there", "delay_s": 0.2}
    {"do": "set", "link": "a", "accept": "hang"}
    {"do": "reset", "link": "a"}       {"do": "heal"}       {"do": "report"}

``link`` may be left out: all of them. The end of standard input ends the proxies.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from .proxy import Address, ProxyLink, ProxyThread

__all__ = ["main"]

LINKS_MAX = 64


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the proxies until standard input ends; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m flexcore_testing.proxy",
        description=(__doc__ or "").split("\n\n", 1)[1],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--link", action="append", required=True, metavar="NAME=LISTEN=TARGET")
    parser.add_argument("--seed", type=int, default=0, help="decides jitter and stalls")
    args = parser.parse_args(arguments)
    if len(args.link) > LINKS_MAX:
        parser.error(f"at most {LINKS_MAX} links")
    with ProxyThread() as proxies:
        links: dict[str, ProxyLink] = {}
        for number, text in enumerate(args.link):
            try:
                name, listen, target = text.split("=")
                host, port = _address(listen)
                links[name] = proxies.add(
                    _address(target), host=host, port=port, seed=args.seed + number
                )
            except ValueError:
                parser.error(f"--link {text}: it reads NAME=HOST:PORT=HOST:PORT")
            except OSError as error:
                parser.error(f"--link {text}: cannot listen there: {error.strerror or error}")
        _say({name: f"{link.host}:{link.port}" for name, link in links.items()})
        for line in sys.stdin:
            if line.strip():
                _say(_obey(links, line))
    return 0


def _address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    if not host:
        raise ValueError(text)
    return host.strip("[]"), int(port)


def _say(what: dict[str, Any]) -> None:
    print(json.dumps(what), flush=True)  # noqa: T201 - a command prints


def _obey(links: dict[str, ProxyLink], line: str) -> dict[str, Any]:
    """Carry out one order; what was wrong with it is the answer, not the end."""
    try:
        order = json.loads(line)
        if not isinstance(order, dict):
            raise ValueError("an order is a JSON object")
        what = order.pop("do", None)
        name = order.pop("link", None)
        if name is not None and name not in links:
            raise ValueError(f"no link is called {name!r}; there are {', '.join(links)}")
        chosen = list(links.values()) if name is None else [links[name]]
        if what == "set":
            for link in chosen:
                link.set(**order)
        elif what == "heal" and not order:
            for link in chosen:
                link.heal()
        elif what == "reset" and not order:
            return {"ok": True, "reset": sum(link.reset() for link in chosen)}
        elif what == "report" and not order:
            return {"ok": True, **{key: link.report() for key, link in links.items()}}
        else:
            raise ValueError(f"an order does 'set', 'heal', 'reset' or 'report', not {what!r}")
    except (TypeError, ValueError) as error:
        return {"ok": False, "error": str(error)}
    return {"ok": True}
