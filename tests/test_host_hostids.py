"""This machine's hostids: found without anything but the standard library."""

from __future__ import annotations

import socket

import pytest

from flexcore import ConfigurationError, HostidError
from flexcore.errors import HostidUnavailable
from flexcore.hostid import Hostid, parse_hostids
from flexcore_host import hostids


def card(root, name, address, *, kind="1", device=True, assign="0"):
    folder = root / name
    folder.mkdir()
    (folder / "address").write_text(f"{address}\n")
    (folder / "type").write_text(f"{kind}\n")
    (folder / "addr_assign_type").write_text(f"{assign}\n")
    if device:
        (folder / "device").mkdir()


def test_ethernet_addresses_hardware_first_random_last(tmp_path):
    card(tmp_path, "lo", "00:00:00:00:00:00", kind="772", device=False)
    card(tmp_path, "docker0", "02:42:00:00:00:01", device=False, assign="3")
    card(tmp_path, "aveth", "66:00:00:00:00:01", device=False, assign="1")
    card(tmp_path, "eth1", "00:17:F2:D3:A4:B6")
    card(tmp_path, "eth0", "00:17:f2:d3:a4:b5")
    card(tmp_path, "ib0", "80:00:00:48:fe:80:00:00:00:00:00:00:00:02:c9:03:00:01", kind="32")
    card(tmp_path, "dummy", "00:00:00:00:00:00")
    assert hostids._ether_linux(str(tmp_path)) == [
        "0017f2d3a4b5",
        "0017f2d3a4b6",
        "024200000001",
        "660000000001",
    ]
    assert hostids._ether_linux(str(tmp_path / "none")) == []


@pytest.mark.parametrize("name", list(hostids.TYPES))
def test_every_type_gives_hostids_or_says_why_not(name):
    try:
        found = hostids.hostids_of_type(name)
    except HostidUnavailable as error:
        pytest.skip(str(error))
    assert found
    assert parse_hostids(" ".join(map(str, found))) == found


def test_types_may_have_a_dash():
    assert hostids.hostids_of_type("-hostname") == hostids.hostids_of_type("HOSTNAME")
    with pytest.raises(ConfigurationError, match="ether"):
        hostids.hostids_of_type("nose")
    with pytest.raises(HostidError, match="dongle"):
        hostids.hostids_of_type("flexid")


def test_own_hostids_are_recognised():
    name = socket.gethostname()
    assert hostids.is_own_hostid(f"HOSTNAME={name.upper()}")
    assert hostids.is_own_hostid(f"ID=1 HOSTNAME={name}")
    assert hostids.is_own_hostid("ANY")
    assert not hostids.is_own_hostid("HOSTNAME=surely-not-this-one")
    assert not hostids.is_own_hostid("ID=101")
    assert not hostids.is_own_hostid("000000000001")
    assert not hostids.is_own_hostid("")


def test_only_the_kinds_that_are_asked_for_are_looked_up(monkeypatch):
    monkeypatch.setitem(hostids.TYPES, "ether", lambda: [Hostid("ETHERNET", "0017f2d3a4b5")])
    for other in set(hostids.TYPES) - {"ether"}:
        monkeypatch.setitem(hostids.TYPES, other, lambda: pytest.fail("asked for nothing"))
    wanted = parse_hostids("0017f2d3a4b5 ID=1")
    assert hostids.machine_hostids(wanted) == (wanted[0],)


def test_a_client_shows_hostids_that_lines_can_name():
    shown = hostids.shown_hostids()
    assert len(shown) <= 5 * hostids.SHOWN_MAX
    assert all(hostids.is_own_hostid(text) for text in shown)


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("/proc/self/cgroup", "12:cpu:/docker/{}"),
        ("/proc/self/cgroup", "0::/kubepods.slice/kubepods-pod1.slice/crio-{}.scope"),
        ("/proc/self/mountinfo", "9 8 0:1 /var/lib/docker/containers/{}/hostname /etc/hostname rw - ext4 /dev/a rw"),
    ],
)
def test_the_id_of_a_container(path, line, monkeypatch) -> None:
    digits = "0123456789abcdef" * 4
    texts = {path: f"0::/\n{line.format(digits)}\n"}
    monkeypatch.setattr(hostids, "_read", lambda name, limit=0: texts.get(name, ""))
    wanted = parse_hostids(f"CONTAINER_ID={digits.upper()}")
    assert hostids.machine_hostids(wanted) == wanted


def test_the_uuid_of_a_virtual_machine(monkeypatch) -> None:
    text = "4C4C4544-0042-3510-8052-B4C04F4A4E32"
    monkeypatch.setattr(hostids, "_read", lambda name, limit=0: text if "product_uuid" in name else "")
    assert [str(each) for each in hostids.hostids_of_type("-vm_uuid")] == [f"VM_UUID={text.lower()}"]
    monkeypatch.setattr(hostids, "_read", lambda name, limit=0: "")
    with pytest.raises(HostidUnavailable):
        hostids.hostids_of_type("vm_uuid")
