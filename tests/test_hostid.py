"""Hostids: kinds, normal forms, and which machine is meant."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexcore import HostidError, parse_hostid, parse_hostids
from flexcore.hostid import HOSTIDS_MAX, match_hostids


@pytest.mark.parametrize(
    ("text", "kind", "shown"),
    [
        ("00146c37f273", "ETHERNET", "00146c37f273"),
        ("00:14:6C:37:F2:73", "ETHERNET", "00146c37f273"),
        ("00-14-6c-37-f2-73", "ETHERNET", "00146c37f273"),
        ("0014.6c37.f273", "ETHERNET", "00146c37f273"),
        ("17003456", "LONG", "17003456"),
        ("17007EA8", "LONG", "17007ea8"),
        ("7ea8", "LONG", "00007ea8"),
        ("0x7ea8", "LONG", "00007ea8"),
        ("any", "ANY", "ANY"),
        ("Demo", "DEMO", "DEMO"),
        ("195.186.1.2", "INTERNET", "INTERNET=195.186.1.2"),
        ("INTERNET=195.186.*.*", "INTERNET", "INTERNET=195.186.*.*"),
        ("INTERNET=2001:DB8::0001", "INTERNET", "INTERNET=2001:db8::1"),
        ("hostname=Pat", "HOSTNAME", "HOSTNAME=pat"),
        ("ID=A1", "ID", "ID=a1"),
        ("COMPOSITE=0123456789AB", "COMPOSITE", "COMPOSITE=0123456789ab"),
        ("DISK_SERIAL_NUM=S1=x", "DISK_SERIAL_NUM", "DISK_SERIAL_NUM=s1=x"),
        ("PUBKEY=00FF", "PUBKEY", "PUBKEY=00ff"),
        ("12345-abcde-12345-abcde", "OTHER", "12345-abcde-12345-abcde"),
    ],
)
def test_kinds(text, kind, shown):
    hostid = parse_hostid(text)
    assert (hostid.kind, str(hostid)) == (kind, shown)
    assert parse_hostid(str(hostid)) == hostid


@pytest.mark.parametrize(
    "text", ["", "  ", '""', "ID=", "INTERNET=1.2.3", "INTERNET=pat", "x" * 600]
)
def test_no_hostids(text):
    with pytest.raises(HostidError):
        parse_hostid(text)


@pytest.mark.parametrize(
    ("wanted", "machine", "fits"),
    [
        ("ANY", "", True),
        ("DEMO", "", True),
        ("00146c37f273", "00:14:6C:37:F2:73", True),
        ("00146c37f273", "00146c37f274", False),
        ("ID=1", "ID=1", True),
        ("ID=1", "1", False),
        ("INTERNET=195.186.*.*", "195.186.4.5", True),
        ("INTERNET=195.186.*.*", "195.187.4.5", False),
        ("INTERNET=195.186.1.1", "INTERNET=195.186.1.1", True),
        ("HOSTNAME=pat", "HOSTNAME=pat.example.org", True),
        ("HOSTNAME=pat.example.org", "HOSTNAME=pat", False),
        ("HOSTNAME=pat", "HOSTNAME=patty.example.org", False),
        ("MATLAB_HOSTID=AB", "matlab_hostid=ab", True),
        ("00146c37f273 ID=7", "ID=7", True),
    ],
)
def test_matching(wanted, machine, fits):
    have = parse_hostids(machine) if machine else ()
    assert match_hostids(parse_hostids(wanted), have) is fits


def test_lists_are_bounded():
    assert len(parse_hostids("ID=1 ID=2")) == 2
    for text in ("", " ".join(["ID=1"] * (HOSTIDS_MAX + 1))):
        with pytest.raises(HostidError):
            parse_hostids(text)


@given(st.text(max_size=40))
def test_any_text_is_a_hostid_or_refused(text):
    try:
        hostid = parse_hostid(text)
    except HostidError:
        return
    assert hostid.matches([hostid])
    assert parse_hostid(str(hostid)) == hostid
