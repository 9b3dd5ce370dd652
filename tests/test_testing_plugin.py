"""The pytest plugin, as a product's test suite sees it: each test runs a pytest of its own, in this process."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

STORY = """
import pytest

def test_survives(flexcore_triad):
    seat = flexcore_triad.client("user1").checkout("f1")
    flexcore_triad.crash(flexcore_triad.master)
    flexcore_triad.advance(seconds=80)
    assert flexcore_triad.master == "secondary" and seat.held

@pytest.mark.flexcore_triad(features={"editor": 2}, heartbeat_interval_s=5)
class TestMarked:
    def test_of_the_class(self, flexcore_triad):
        assert flexcore_triad.timeout_s == 19
        flexcore_triad.client("ann").checkout("editor", count=2)

    @pytest.mark.flexcore_triad(heartbeat_interval_s=1)
    def test_nearer(self, flexcore_triad, flexcore_loopback_triad):
        assert flexcore_triad.timeout_s == flexcore_loopback_triad.timeout_s == 3
        with flexcore_loopback_triad.connect() as client:
            assert client.checkout("editor").held
"""


def run(pytester, source, *arguments, plugin=True):
    pytester.makepyfile(source)
    options = ["-p", "flexcore_testing.plugin"] if plugin else []
    return pytester.runpytest_inprocess(*options, "-p", "no:cacheprovider", "--strict-markers", *arguments)


def test_fixtures_and_their_arguments(pytester):
    run(pytester, STORY).assert_outcomes(passed=3)


def test_it_is_opt_in(pytester):
    told = run(pytester, STORY.replace("@pytest.mark.flexcore_triad", "#"), plugin=False)
    told.assert_outcomes(errors=3)
    told.stdout.fnmatch_lines(["*fixture 'flexcore_triad' not found*"])


def test_conftest_turns_it_on(pytester):
    pytester.makeconftest("pytest_plugins = ['flexcore_testing.plugin']")
    run(pytester, STORY, "-k", "survives", plugin=False).assert_outcomes(passed=1)


def test_a_failure_shows_the_last_messages(pytester):
    source = """
        def test_fails(flexcore_triad):
            flexcore_triad.client("user1").checkout("f1")
            assert flexcore_triad.master == "tertiary"
    """
    told = run(pytester, source)
    told.assert_outcomes(failed=1)
    told.stdout.fnmatch_lines([
        "*- flexcore_triad -*", "<simulated triad at * master primary, 1 clients>", "  primary: serving term 1*",
        "What happened*", "*user1 holds f1 handle 1*", "The last messages*", "* P -> T *",
    ])  # fmt: skip


def test_the_end_of_a_test_checks(pytester):
    source = """
        def test_forgets_to_check(flexcore_triad):
            seat = flexcore_triad.client("user1").checkout("f1")
            flexcore_triad._sim.master().ledger.state.seats.pop(seat.handle)
    """
    told = run(pytester, source)
    told.assert_outcomes(passed=1, errors=1)
    told.stdout.fnmatch_lines(["*Violation: I4: user1 believes in handle 1*"])


def test_a_mark_that_makes_no_sense(pytester):
    source = """
        import pytest

        @pytest.mark.flexcore_triad("acme.lic")
        def test_one(flexcore_triad): ...

        @pytest.mark.flexcore_triad(license="acme.lic")
        def test_two(flexcore_triad): ...

        @pytest.mark.flexcore_triad(licence="acme.lic")
        def test_three(flexcore_triad): ...
    """
    told = run(pytester, source)
    told.assert_outcomes(errors=3)
    told.stdout.fnmatch_lines([
        "*flexcore_triad takes named arguments*", "*acme.lic cannot be read: No such file*",
        "*unexpected keyword argument 'licence'*",
    ])  # fmt: skip


def test_pytest_trio_is_needed_by_the_async_fixture_only(pytester, monkeypatch):
    source = STORY + "\ndef test_async(flexcore_async_triad): ...\n"
    pytester.makepyfile(source)
    missing = "import sys\nsys.modules['pytest_trio'] = None\n"
    pytester.makeconftest(missing + "pytest_plugins = ['flexcore_testing.plugin']\n")
    told = pytester.runpytest_subprocess("-p", "no:trio", "-p", "no:cacheprovider")
    told.assert_outcomes(passed=3, errors=1)
    told.stdout.fnmatch_lines(["flexcore_async_triad needs pytest-trio: pip install 'flexcore[[]testing[]]'"])


@pytest.mark.parametrize("clock", ["autojump_clock", "tmp_path"])
def test_an_async_test(pytester, clock):
    seconds = 80 if clock == "autojump_clock" else 0
    source = f"""
        import pytest, trio

        @pytest.mark.trio
        async def test_survives(flexcore_async_triad, {clock}):
            triad = flexcore_async_triad
            async with triad.open_client(user="user1") as client, client.checkout("f1", "1.0") as seat:
                await triad.crash("primary")
                await trio.sleep({seconds})
                assert await triad.wait_for_master() == "secondary" and seat.held
    """
    run(pytester, source).assert_outcomes(passed=1)
