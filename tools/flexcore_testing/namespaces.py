"""Network and mount namespaces of Linux: machines of their own on one machine, without rights where the kernel allows.

:class:`Machines` is several network namespaces on one bridge, each with an address of its own. It must
run inside of a user namespace that owns them: :func:`command_inside` is the prefix of a command that
does. Whether a machine allows that is what :func:`why_not` finds out; nothing is changed by asking.
"""

from __future__ import annotations

import functools
import ipaddress
import shutil
import subprocess
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Self

__all__ = ["Machines", "NamespaceError", "command_inside", "why_not"]

_COMMAND_S = 10.0
_TOOLS = ("unshare", "nsenter", "ip", "mount", "sleep")
_BRIDGE = "flexbr"


class NamespaceError(Exception):
    """A namespace could not be made or changed; the words are the system's."""


def command_inside() -> list[str]:
    """The prefix of a command that shall be root in namespaces of its own (users, network, mounts)."""
    return ["unshare", "--user", "--map-root-user", "--net", "--mount", "--"]


@functools.cache
def why_not() -> str:
    """Return why namespaces cannot be used here, '' where they can."""
    if sys.platform != "linux":
        return "namespaces are a thing of Linux"
    missing = [name for name in _TOOLS if shutil.which(name) is None]
    if missing:
        return f"not installed: {', '.join(missing)} (util-linux, iproute2)"
    attempt = (
        "mount -t tmpfs none /mnt && ip link add name fctest type bridge"
        " && ip link add name fcveth type veth peer name fcpeer"
    )
    try:
        _run([*command_inside(), "sh", "-c", attempt])
    except NamespaceError as error:
        return f"the system does not allow it: {error}"
    return ""


def _run(command: Sequence[str]) -> None:
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=_COMMAND_S,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NamespaceError(str(error)) from error
    if done.returncode != 0:
        words = done.stderr.strip() or f"status {done.returncode}"
        raise NamespaceError(f"{' '.join(command)}: {words}")


class Machines:
    """So many machines at *network*.1, .2 and so on; this process is at .254. A context manager.

    Raises NamespaceError. Everything is gone when the processes inside have ended.
    """

    def __init__(self, count: int, network: str = "10.77.0.0/24") -> None:
        self._network = ipaddress.ip_network(network)
        self.addresses = tuple(str(self._network[number + 1]) for number in range(count))
        self.own_address = str(self._network[254])
        self._keepers: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        try:
            self._make()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self._end()

    def _make(self) -> None:
        _run(["ip", "link", "set", "lo", "up"])
        _run(["ip", "link", "add", "name", _BRIDGE, "type", "bridge"])
        _run(["ip", "address", "add", f"{self.own_address}/{self._network.prefixlen}", "dev", _BRIDGE])
        _run(["ip", "link", "set", _BRIDGE, "up"])
        for number, address in enumerate(self.addresses):
            keeper = subprocess.Popen(
                ["unshare", "--net", "--", "sh", "-c", "echo ready; exec sleep 1000000"],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            )  # fmt: skip
            self._keepers.append(keeper)
            assert keeper.stdout is not None
            if keeper.stdout.readline() != b"ready\n":
                raise NamespaceError("unshare --net did not start")
            end = f"flex{number}"
            _run(["ip", "link", "add", "name", end, "type", "veth", "peer", "name", "eth0", "netns", str(keeper.pid)])
            _run(["ip", "link", "set", end, "master", _BRIDGE, "up"])
            inside = self.prefix(number)
            _run([*inside, "ip", "link", "set", "lo", "up"])
            _run([*inside, "ip", "address", "add", f"{address}/{self._network.prefixlen}", "dev", "eth0"])
            _run([*inside, "ip", "link", "set", "eth0", "up"])

    def _end(self) -> None:
        for keeper in self._keepers:
            keeper.kill()
            keeper.wait()
            if keeper.stdout is not None:
                keeper.stdout.close()
        self._keepers.clear()

    def prefix(self, number: int) -> list[str]:
        """What comes before a command that shall run on a machine; it becomes that command."""
        return ["nsenter", f"--net=/proc/{self._keepers[number].pid}/ns/net", "--"]

    def unplug(self, number: int) -> None:
        """Pull the network cable of a machine."""
        _run(["ip", "link", "set", f"flex{number}", "down"])

    def plug(self, number: int) -> None:
        """Put it in again. Twice is harmless."""
        _run(["ip", "link", "set", f"flex{number}", "up"])

    def cut(self, sender: int, receiver: int) -> None:
        """Nothing of what *sender* sends reaches *receiver*; the other way is open."""
        _run([
            *self.prefix(sender), "ip", "route", "replace", "blackhole",
            f"{self.addresses[receiver]}/32",
        ])  # fmt: skip

    def join(self, sender: int, receiver: int) -> None:
        """End a :meth:`cut`."""
        _run([*self.prefix(sender), "ip", "route", "del", "blackhole", f"{self.addresses[receiver]}/32"])
