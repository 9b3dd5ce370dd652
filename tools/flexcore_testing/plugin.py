"""A pytest plugin: triads as fixtures. Opt in with ``pytest -p flexcore_testing.plugin``, or in ``conftest.py``::

    pytest_plugins = ["flexcore_testing.plugin"]

``flexcore_triad``
    A :class:`flexcore_testing.Triad`: simulated, no sockets, milliseconds. At the end of the test its ``check()`` is
    called; when the test fails, the report shows what happened, and the last messages.
``flexcore_loopback_triad``
    A :class:`flexcore_testing.LoopbackTriad`: real servers on 127.0.0.1, in threads; needs trio.
``flexcore_async_triad``
    A :class:`flexcore_testing.TrioTriad` in the loop of an async test; needs pytest-trio. With pytest-trio's
    ``autojump_clock`` its minutes pass in milliseconds.

``@pytest.mark.flexcore_triad(features={"editor": 2}, heartbeat_interval_s=5)`` on a test, a class or a module gives the
arguments of the triad; a mark nearer to the test wins, argument by argument.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from flexcore_testing import LoopbackTriad, Triad, TrioTriad

MARK = "flexcore_triad"


def pytest_configure(config: pytest.Config) -> None:
    """Declare the mark."""
    config.addinivalue_line(
        "markers", f"{MARK}(**arguments): the arguments of the triad that the fixtures of flexcore_testing make"
    )


def _arguments(request: pytest.FixtureRequest) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    for mark in request.node.iter_markers(MARK):
        if mark.args:
            raise pytest.UsageError(f"{MARK} takes named arguments, such as features={{'f1': 10}}: {mark.args!r}")
        arguments = {**mark.kwargs, **arguments}
    return arguments


@pytest.fixture
def flexcore_triad(request: pytest.FixtureRequest) -> Iterator[Triad]:
    """A simulated triad, all of whose servers take part."""
    from flexcore_testing import Triad

    triad = Triad(**_arguments(request))
    yield triad
    triad.check()


@pytest.fixture
def flexcore_loopback_triad(request: pytest.FixtureRequest) -> Iterator[LoopbackTriad]:
    """Three real servers on 127.0.0.1, in threads of this process."""
    from flexcore_testing import LoopbackTriad

    with LoopbackTriad(**_arguments(request)) as triad:
        yield triad


try:
    from pytest_trio import trio_fixture  # type: ignore[import-untyped]
except ImportError:

    @pytest.fixture
    def flexcore_async_triad() -> None:
        """Say what is missing."""
        pytest.fail("flexcore_async_triad needs pytest-trio: pip install 'flexcore[testing]'", pytrace=False)

else:

    @trio_fixture  # type: ignore[untyped-decorator]
    async def flexcore_async_triad(request: pytest.FixtureRequest) -> AsyncIterator[TrioTriad]:
        """Three real servers on 127.0.0.1, in the test's own trio loop."""
        from flexcore_testing import open_triad

        async with open_triad(**_arguments(request)) as triad:
            yield triad


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add to the report of a test that failed what its triad did last."""
    report = yield
    if report.failed:
        for name, value in getattr(item, "funcargs", {}).items():
            text = _story(value)
            if text:
                report.sections.append((f"{name}", text))
    return report


def _story(value: object) -> str:
    """What a person who reads the failure wants to know of a triad; '' for anything else."""
    from flexcore_testing import Triad

    if not isinstance(value, Triad):
        return ""
    return f"{value!r}\n{value._states()}\n\n{value.story()}\n\n{value.chart()}"
