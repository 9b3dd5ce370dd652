"""For all tests: Hypothesis looks for wrong answers, never for slow ones (a busy machine is no failure),
and signals are as in a terminal."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.budget import examples

settings.register_profile(
    "flexcore", max_examples=examples(100), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("flexcore")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """On several cores a file stays together, for the sake of its fixtures; and all tests with real processes do, so
    that no two triads compete for the machine."""
    from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]  # it ships no types

    scheduler = LoadFileScheduling(config, log)
    scheduler._split_scope = _kept_together
    return scheduler


def _kept_together(nodeid: str) -> str:
    return "real" if nodeid.startswith("tests/real/") else nodeid.split("::", 1)[0]


@pytest.fixture(autouse=True, scope="session")
def _signals_as_in_a_terminal() -> Iterator[None]:
    """A shell starts what it runs in the background with SIGINT and SIGQUIT ignored, commands inherit that,
    and `run` keeps to it, as it should: tests need signals as in a terminal, wherever they run."""
    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGQUIT") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True, scope="session")
def _nothing_borrowed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test uses what its user has borrowed, nor writes to where that is; commands that tests start inherit it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLEXCORE_BORROW_DIR", str(tmp_path_factory.mktemp("borrowed") / "none"))
        patch.delenv("LM_BORROW", raising=False)
        yield


@pytest.fixture(params=["epoll", "tasks"] if sys.platform == "linux" else ["tasks"])
def poller(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each way in which a server of this process may read from its connections here; returns its name."""
    from flexcore_trio import readers

    monkeypatch.setattr(readers, "POLLER", request.param)
    return str(request.param)
