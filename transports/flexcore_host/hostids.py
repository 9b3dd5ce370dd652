"""The hostids of this machine, as far as the standard library can find them (reference, a7).

On Linux all kinds but volume serial numbers and dongles; on Windows and macOS the best that can be
done without further packages (written for them, not tested there).
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
import socket
import sys
from collections.abc import Callable, Iterable

from flexcore.errors import ConfigurationError, HostidError, HostidUnavailable
from flexcore.hostid import (
    CONTAINER_ID,
    DISK_SERIAL_NUM,
    DISPLAY,
    ETHERNET,
    HOSTNAME,
    INTERNET,
    LONG,
    USER,
    VM_UUID,
    Hostid,
    match_hostids,
    parse_hostids,
)

from . import whoami

__all__ = ["DEFAULT_TYPE", "TYPES", "hostids_of_type", "is_own_hostid", "machine_hostids", "shown_hostids"]

DEFAULT_TYPE = "ether"

SHOWN_MAX = 6
"""Hostids of a type that a client shows; hardware comes first, and a host of containers has hundreds."""

_READ_MAX = 4096
_ARPHRD_ETHER = "1"
_CONTAINER = re.compile(r"(?:docker|libpod|containers|kubepods|crio|lxc)[^ ]*?[/-]([0-9a-f]{64})\b")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_RANDOM = "1"  # addr_assign_type of an address that is drawn anew with each interface
_SIOCGIFADDR = 0x8915


def hostids_of_type(name: str) -> tuple[Hostid, ...]:
    """Return this machine's hostids of a type of ``lmhostid``, the best first.

    Raises:
        ConfigurationError: there is no such type.
        HostidUnavailable: this machine has none of that type, or it cannot be read here.
    """
    find = TYPES.get(name.lstrip("-").lower())
    if find is None:
        raise ConfigurationError(f"there is no hostid type {name!r}; there are {', '.join(TYPES)}")
    found = tuple(dict.fromkeys(find()))
    if not found:
        raise HostidUnavailable(f"this machine shows no hostid of type {name.lstrip('-')}")
    return found


def machine_hostids(wanted: Iterable[Hostid]) -> tuple[Hostid, ...]:
    """Return what this machine has of the kinds that occur in ``wanted``; other kinds cost nothing."""
    found: list[Hostid] = []
    for kind in dict.fromkeys(hostid.kind for hostid in wanted):
        for name in _TYPES_OF_KIND.get(kind, ()):
            with contextlib.suppress(HostidUnavailable, OSError):
                found.extend(TYPES[name]())
    return tuple(dict.fromkeys(found))


def shown_hostids() -> tuple[str, ...]:
    """Return what a client shows a licence server of its machine: the kinds that node-locked lines
    name and that take no more than a few file reads to find."""
    found: list[Hostid] = []
    for name in ("ether", "internet", "internet6", "long", "disk"):
        with contextlib.suppress(HostidUnavailable, OSError):
            found.extend(TYPES[name]()[:SHOWN_MAX])
    return tuple(str(hostid) for hostid in dict.fromkeys(found))


def is_own_hostid(text: object) -> bool:
    """Say whether a hostid, or one of a blank-separated list, is this machine's."""
    try:
        wanted = parse_hostids(str(text))
    except HostidError:
        return False
    return match_hostids(wanted, machine_hostids(wanted))


# --- Ethernet -----------------------------------------------------------------------------------------


def _ether() -> list[Hostid]:
    if sys.platform == "linux":
        found = _ether_linux("/sys/class/net")
    else:
        found = _ether_getnode()
    return [Hostid(ETHERNET, address) for address in found]


def _ether_linux(root: str) -> list[str]:
    """All addresses, up or not: of hardware first, of virtual interfaces last, random ones never
    before others, since they are different after the next start."""
    ranked: list[tuple[bool, bool, str, str]] = []
    for folder in sorted(glob.glob(os.path.join(glob.escape(root), "*"))):
        address = re.sub("[^0-9a-f]", "", _read(os.path.join(folder, "address")).lower())
        if _read(os.path.join(folder, "type")) != _ARPHRD_ETHER:
            continue
        if len(address) != 12 or not address.strip("0"):
            continue
        is_virtual = not os.path.exists(os.path.join(folder, "device"))
        is_random = _read(os.path.join(folder, "addr_assign_type")) == _RANDOM
        ranked.append((is_random, is_virtual, os.path.basename(folder), address))
    return [address for _, _, _, address in sorted(ranked)]


def _ether_getnode() -> list[str]:
    import uuid

    node = uuid.getnode()
    if node >> 40 & 1:  # the multicast bit: drawn at random, because nothing was found
        return []
    return [f"{node:012x}"]


# --- internet -----------------------------------------------------------------------------------------


def _internet() -> list[Hostid]:
    found = _interface_addresses()
    if not found:
        with contextlib.suppress(OSError):
            listed = socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)
            found = [str(entry[4][0]) for entry in listed]
    return [Hostid(INTERNET, each) for each in dict.fromkeys(found) if not each.startswith("127.")]


def _interface_addresses() -> list[str]:
    try:
        import fcntl
    except ImportError:  # Windows
        return []
    if sys.platform != "linux":
        return []
    found: list[str] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            request = name.encode()[:15].ljust(256, b"\0")
            with contextlib.suppress(OSError):  # an interface without an address
                answer = fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, request)
                found.append(socket.inet_ntoa(answer[20:24]))
    return found


def _internet6() -> list[Hostid]:
    found: list[str] = []
    for line in _read("/proc/net/if_inet6", 65536).splitlines():
        words = line.split()
        if len(words) >= 4 and words[3] != "10":  # 10: the loopback's scope
            address = socket.inet_ntop(socket.AF_INET6, bytes.fromhex(words[0]))
            if not address.startswith("fe80:"):
                found.append(address)
    if not found and sys.platform != "linux":
        with contextlib.suppress(OSError):
            listed = socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET6)
            found = [str(entry[4][0]).split("%")[0] for entry in listed]
    return [Hostid(INTERNET, each) for each in found if each != "::1"]


# --- others -------------------------------------------------------------------------------------------


def _long() -> list[Hostid]:
    import ctypes

    try:
        gethostid = ctypes.CDLL(None).gethostid
    except (AttributeError, OSError, TypeError):
        raise HostidUnavailable("this platform has no gethostid()") from None
    gethostid.restype = ctypes.c_long
    number = int(gethostid()) & 0xFFFFFFFF
    return [Hostid(LONG, f"{number:x}")]


def _disk() -> list[Hostid]:
    """Serial numbers as the kernel tells them to everybody; some disks tell only root."""
    found: list[str] = []
    for pattern in (
        "/sys/class/nvme/*/serial",
        "/sys/block/*/serial",
        "/sys/block/*/device/serial",
    ):
        found += [_read(path) for path in sorted(glob.glob(pattern))]
    if not found:
        for path in sorted(glob.glob("/dev/disk/by-id/*")):
            name = os.path.basename(path)
            if name.startswith(("ata-", "scsi-", "usb-")) and "-part" not in name and "_" in name:
                found.append(name.rsplit("_", 1)[1])
    words = ["_".join(each.split()).casefold() for each in found]
    if not any(words):
        raise HostidUnavailable("no disk of this machine tells its serial number to this user")
    return [Hostid(DISK_SERIAL_NUM, word) for word in dict.fromkeys(words) if word]


def _vsn() -> list[Hostid]:
    if sys.platform != "win32":
        raise HostidUnavailable("only Windows has volume serial numbers; ask for another type")
    import ctypes

    number = ctypes.c_ulong(0)
    drive = os.environ.get("SYSTEMDRIVE", "C:") + "\\"
    kernel = ctypes.windll.kernel32
    if not kernel.GetVolumeInformationW(drive, None, 0, ctypes.byref(number), None, None, None, 0):
        raise HostidUnavailable(f"the volume serial number of {drive} cannot be read")
    return [Hostid(LONG, f"{number.value:x}")]


def _flexid() -> list[Hostid]:
    raise HostidUnavailable("dongles are not supported; ask for another type")


def _container_id() -> list[Hostid]:
    """The id that a container engine gave, as this process sees it: in the names of its control
    groups, or of the files that are mounted into it (version 2 of the groups hides the former)."""
    for path in ("/proc/self/cgroup", "/proc/self/mountinfo"):
        for line in _read(path, 1 << 16).splitlines():
            found = _CONTAINER.search(line)
            if found is not None:
                return [Hostid(CONTAINER_ID, found[1])]
    raise HostidUnavailable("this process runs in no container that shows its id")


def _vm_uuid() -> list[Hostid]:
    """The UUID of the (virtual) machine's firmware; Linux tells it to root only."""
    text = _read("/sys/class/dmi/id/product_uuid").casefold()
    if not _UUID.fullmatch(text):
        raise HostidUnavailable("the UUID of this machine's firmware is not there, or root's to read")
    return [Hostid(VM_UUID, text)]


def _string() -> list[Hostid]:
    raise HostidUnavailable("a string hostid is what a publisher's own program gives: ask them for it")


def _hostname() -> list[Hostid]:
    return [Hostid(HOSTNAME, socket.gethostname().casefold())]


def _hostdomain() -> list[Hostid]:
    return [Hostid(HOSTNAME, socket.getfqdn().casefold())]


def _user() -> list[Hostid]:
    return [Hostid(USER, whoami.user().casefold())]


def _display() -> list[Hostid]:
    return [Hostid(DISPLAY, whoami.display().casefold())]


def _read(path: str, limit: int = _READ_MAX) -> str:
    """Return a small file of the kernel's, "" where it is not there or not for us."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read(limit).strip()
    except OSError:
        return ""


TYPES: dict[str, Callable[[], list[Hostid]]] = {
    "ether": _ether,
    "internet": _internet,
    "internet6": _internet6,
    "hostname": _hostname,
    "hostdomain": _hostdomain,
    "long": _long,
    "disk": _disk,
    "user": _user,
    "display": _display,
    "vsn": _vsn,
    "container_id": _container_id,
    "vm_uuid": _vm_uuid,
    "string": _string,
    "flexid": _flexid,
}
"""The types of ``lmhostid``, each with what finds the hostids."""

_TYPES_OF_KIND: dict[str, tuple[str, ...]] = {
    CONTAINER_ID: ("container_id",),
    VM_UUID: ("vm_uuid",),
    ETHERNET: ("ether",),
    INTERNET: ("internet", "internet6"),
    HOSTNAME: ("hostname", "hostdomain"),
    LONG: ("long", "vsn"),
    DISK_SERIAL_NUM: ("disk",),
    USER: ("user",),
    DISPLAY: ("display",),
}
