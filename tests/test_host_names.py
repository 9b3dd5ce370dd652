"""Who am I: user, host and display, clocks, and which SERVER line is this machine."""

from __future__ import annotations

import getpass
import os
import socket
import time
from types import SimpleNamespace
from typing import NamedTuple

import pytest

from flexcore.errors import ConfigurationError
from flexcore.identity import Rank
from flexcore_host import clock, resolver, whoami
from flexcore_host.application import client_config


class Line(NamedTuple):
    host: str
    hostid: str = "ANY"


TRIAD = (Line("pat.example.org", "1"), Line("lee.example.org", "2"), Line("terry", "3"))


def test_now_counts_suspended_time_and_wall_is_the_epoch():
    first = clock.now()
    assert clock.now() >= first
    if hasattr(time, "CLOCK_BOOTTIME"):
        assert abs(clock.now() - time.clock_gettime(time.CLOCK_BOOTTIME)) < 5
    assert abs(clock.wall() - time.time()) < 5


@pytest.mark.parametrize(
    ("zone", "winter", "summer"), [("UTC0", 0, 0), ("CET-1CEST,M3.5.0,M10.5.0/3", 3600, 7200)]
)
def test_the_utc_offset_is_that_of_the_moment_asked_for(monkeypatch, zone, winter, summer):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert clock.utc_offset_s(1_767_225_600.0) == winter  # 2026-01-01
        assert clock.utc_offset_s(1_782_864_000.0) == summer  # 2026-07-01
        assert clock.utc_offset_s(float("inf")) == 0
        assert clock.utc_offset_s(1e300) == 0
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_user_that_the_machine_does_not_know_is_uid_n(monkeypatch):
    def unknown():
        raise KeyError("getpwuid(): uid not found: 4242")

    monkeypatch.setattr(getpass, "getuser", unknown)
    monkeypatch.setattr(os, "getuid", lambda: 4242)
    assert whoami.user() == "uid4242"


@pytest.mark.parametrize(
    ("said", "shown"),
    [("dan", "dan"), ("Dan  O'Brien", "Dan_O'Brien"), ("a\nb", "a_b"), ("DOM\\dan", "DOM\\dan")],
)
def test_blanks_in_a_user_name_are_replaced(monkeypatch, said, shown):
    monkeypatch.setattr(getpass, "getuser", lambda: said)
    assert whoami.user() == shown


def test_the_host_is_short_and_never_empty(monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "elm.example.org")
    assert whoami.host() == "elm"
    monkeypatch.setattr(socket, "gethostname", lambda: "")
    assert whoami.host() == "localhost"


def test_display_is_display_else_tty_else_host(monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "elm")
    monkeypatch.setenv("DISPLAY", ":0.0")
    assert whoami.display() == ":0.0"
    monkeypatch.delenv("DISPLAY")
    monkeypatch.setattr(os, "ttyname", lambda fd: "/dev/pts/7")
    assert whoami.display() == "/dev/pts/7"

    def no_tty(fd):
        raise OSError(25, "Inappropriate ioctl for device")

    monkeypatch.setattr(os, "ttyname", no_tty)
    assert whoami.display() == "elm"
    monkeypatch.setenv("DISPLAY", "   ")
    assert whoami.display() == "elm"


def test_the_project_is_lm_project_for_applications_too(monkeypatch):
    def config(project):
        return client_config("2837@elm", vendor="demo", keys=(), user=None, host=None, display=None,
                             project=project, trusted_end=True)  # fmt: skip

    monkeypatch.delenv("LM_PROJECT", raising=False)
    assert whoami.project() == config("").project == ""
    monkeypatch.setenv("LM_PROJECT", " apollo 11")
    assert whoami.project() == config("").project == "apollo_11"
    assert config("gemini").project == "gemini"


# --- which SERVER line ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "rank"),
    [
        ("primary", Rank.PRIMARY), ("SECONDARY", Rank.SECONDARY), ("tertiary", Rank.TERTIARY),
        ("lee.example.org", Rank.SECONDARY), ("LEE", Rank.SECONDARY), ("terry", Rank.TERTIARY),
        ("terry.example.org", Rank.TERTIARY),
    ],
)  # fmt: skip
def test_server_picks_the_line_by_rank_or_name(wanted, rank):
    assert resolver.which_server(TRIAD, wanted=wanted, own_host="nobody") is rank


def test_a_host_that_is_called_primary_wins_over_the_word():
    lines = (Line("a"), Line("primary"), Line("c"))
    assert resolver.which_server(lines, wanted="primary") is Rank.SECONDARY


def test_a_name_that_is_no_line_is_told_with_the_lines():
    with pytest.raises(ConfigurationError, match=r"--server sue .*pat\.example\.org, lee\.example"):
        resolver.which_server(TRIAD, wanted="sue")
    with pytest.raises(ConfigurationError, match="--server secondary is none"):
        resolver.which_server((Line("pat"),), wanted="secondary")


def test_a_name_that_is_two_lines_is_told():
    lines = (Line("localhost"), Line("localhost"), Line("localhost"))
    with pytest.raises(ConfigurationError, match="more than one SERVER line"):
        resolver.which_server(lines, wanted="localhost")


def test_own_host_name_decides_then_own_address_then_hostid():
    assert resolver.which_server(TRIAD, own_host="lee") is Rank.SECONDARY
    assert resolver.which_server(TRIAD, own_host="Terry.example.org") is Rank.TERTIARY
    # The same label in another domain is another machine.
    with pytest.raises(ConfigurationError, match="none of the SERVER lines"):
        resolver.which_server(TRIAD, own_host="lee.example.com")
    addresses = (Line("192.0.2.1"), Line("127.0.0.2"), Line("192.0.2.3"))
    assert resolver.which_server(addresses, own_host="elm") is Rank.SECONDARY
    assert (
        resolver.which_server(TRIAD, own_host="elm", is_own_hostid=lambda h: h == "3")
        is Rank.TERTIARY
    )


def test_none_or_two_is_told_with_the_way_out():
    with pytest.raises(ConfigurationError, match=r"\(elm\) is none of .*--server HOST"):
        resolver.which_server(TRIAD, own_host="elm", is_own_hostid=lambda h: False)
    loopback = (Line("127.0.0.1"), Line("127.0.0.2"), Line("127.0.0.3"))
    with pytest.raises(ConfigurationError, match=r"more than one SERVER line"):
        resolver.which_server(loopback, own_host="elm", is_own_hostid=lambda h: True)
    with pytest.raises(ConfigurationError, match="no SERVER line"):
        resolver.which_server(())


def test_a_single_line_is_this_machine_whatever_its_name():
    for host in ("this_host", "ANY", "anything.example.org"):
        assert resolver.which_server((Line(host),), own_host="elm") is Rank.PRIMARY


# --- addresses ----------------------------------------------------------------------------------


def test_a_literal_address_is_listened_on_exactly_and_a_name_everywhere():
    assert resolver.listen_addresses("127.0.0.2") == ("127.0.0.2",)
    assert resolver.listen_addresses("[::1]") == ("::1",)
    assert resolver.listen_addresses("pat")[0] == "0.0.0.0"
    assert resolver.listen_addresses("this_host") == resolver.listen_addresses("pat")
    assert resolver.listen_addresses("pat", ["192.0.2.7", "[::1]"]) == ("192.0.2.7", "::1")


def test_literal_addresses_need_no_resolver():
    (found,) = resolver.addresses_of("127.0.0.2", 2837)
    assert found.family is socket.AF_INET
    assert found.sockaddr == ("127.0.0.2", 2837)
    assert not resolver.is_literal("pat")
    assert not resolver.is_literal("2837")


@pytest.mark.parametrize("host", ["a" * 70, "a..b", "pat\0", "\udcff"])
def test_what_can_be_no_host_is_an_unknown_name(host):
    with pytest.raises(OSError, match=r".") as failed:
        resolver.addresses_of(host, 2837)
    assert isinstance(failed.value, socket.gaierror)


def test_this_host_is_dialled_on_loopback():
    assert all(a.sockaddr[0] in ("127.0.0.1", "::1") for a in resolver.addresses_of("this_host", 1))


def test_own_addresses_can_be_bound():
    assert resolver.is_own_address("127.0.0.1")
    assert not resolver.is_own_address("192.0.2.1")


def test_a_name_that_resolves_to_loopback_is_found(monkeypatch):
    def resolve(address):
        return lambda *args, **named: [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)),
        ]

    monkeypatch.setattr(socket, "getaddrinfo", resolve("127.0.1.1"))
    assert resolver.loopback_alias("pat") == "127.0.1.1"
    assert resolver.loopback_alias("127.0.1.1") == ""
    assert resolver.loopback_alias("localhost") == ""
    monkeypatch.setattr(socket, "getaddrinfo", resolve("127.0.0.1"))
    assert resolver.loopback_alias("pat") == "127.0.0.1"
    monkeypatch.setattr(socket, "getaddrinfo", resolve("192.0.2.5"))
    assert resolver.loopback_alias("pat") == ""


@pytest.mark.parametrize(
    ("system", "machine", "name"),
    [
        ("linux", "x86_64", "x64_lsb"), ("linux", "i686", "i86_lsb"), ("win32", "AMD64", "x64_n"),
        ("darwin", "arm64", "arm64_mac"), ("linux", "riscv64", "riscv64_lsb"), ("linux", "", "any_lsb"),
    ],
)  # fmt: skip
def test_platforms_have_the_names_of_licence_files(monkeypatch, system, machine, name):
    monkeypatch.setattr("flexcore_host.whoami.sys.platform", system)
    if system == "win32":
        monkeypatch.delattr("flexcore_host.whoami.os.uname")
        monkeypatch.setenv("PROCESSOR_ARCHITECTURE", machine)
    else:
        monkeypatch.setattr("flexcore_host.whoami.os.uname", lambda: SimpleNamespace(machine=machine))
    assert whoami.platform() == name
