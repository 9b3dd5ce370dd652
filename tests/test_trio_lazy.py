"""``import flexcore_trio`` loads the client; the server comes when it is asked for."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import flexcore_trio

HEAVY = ("sqlite3", "flexcore.server", "flexcore.quorum", "flexcore.checkout", "flexcore_trio.loop")

LOADED = "import json, sys; print(json.dumps([name for name in {heavy!r} if name in sys.modules]))"


def loaded_after(statement: str) -> list[str]:
    """Which of the server's modules a fresh interpreter has loaded."""
    code = f"{statement}\n{LOADED.format(heavy=HEAVY)}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    found: list[str] = json.loads(done.stdout)
    return found


def test_a_product_that_uses_the_client_loads_no_server():
    assert loaded_after("import flexcore_trio\nflexcore_trio.open_client\nflexcore_trio.Seat") == []
    assert loaded_after("from flexcore_trio import serve\nassert callable(serve)") == list(HEAVY)


def test_every_name_is_there():
    """Also after the server's modules were imported by themselves: none of these names is a module."""
    for name in flexcore_trio.__all__:
        value = getattr(flexcore_trio, name)
        assert not isinstance(value, type(sys)), name
        assert name in dir(flexcore_trio)
    for name, module in flexcore_trio._LATER.items():
        assert name in flexcore_trio.__all__
        assert name not in {"loop", "serving", "store"}
        assert getattr(flexcore_trio, name) is getattr(sys.modules[f"flexcore_trio.{module}"], name)


def test_what_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"^module 'flexcore_trio' has no attribute 'nonsense'$"):
        flexcore_trio.nonsense  # type: ignore[attr-defined]  # noqa: B018
