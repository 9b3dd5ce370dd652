"""Two vendors behind one port of one ``flexcore lmgrd``, as processes: each alone, and what the tools show."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess

import pytest

import flexcore_sync
from flexcore.keys import SigningKey
from flexcore.licensefile import format_license, parse_license, sign_license
from flexcore_tools import cli
from tests.ports import free_port
from tests.real.triad import FLEXCORE, PATIENCE_S, until

pytestmark = pytest.mark.real

KEYS = {"demo": SigningKey("demo", bytes(range(32))), "acme": SigningKey("acme", bytes(range(1, 33)))}


class Server:
    """One lmgrd with the VENDOR lines of demo and acme; each has one licence of *shared*."""

    def __init__(self, folder):
        self.folder = folder
        self.port = free_port()
        self.path = f"{self.port}@127.0.0.1"
        self.file = folder / "both.lic"
        self.write()
        (folder / "acme.opt").write_text("EXCLUDE shared USER mallory\nREPORTLOG acme.rep\n")
        (folder / "demo.opt").write_text("REPORTLOG demo.rep\n")
        for name, key in KEYS.items():
            (folder / f"{name}.pub").write_text(f"{key.verifying_key}\n")
        self.process = None

    def write(self, count=1):
        license = parse_license(
            f"SERVER 127.0.0.1 ANY {self.port} HEARTBEAT_INTERVAL=1\nVENDOR demo\nVENDOR acme\n"
            f"FEATURE shared demo 1.0 permanent {count}\nFEATURE shared acme 2.0 permanent {count}\n"
        )
        for key in KEYS.values():
            license = sign_license(license, key)
        self.file.write_text(format_license(license))

    def start(self):
        arguments = [*FLEXCORE, "lmgrd", "-c", str(self.file), "--state-dir", str(self.folder / "state"),
                     "-l", f"+{self.folder / 'log'}", "--first-start"]  # fmt: skip
        for name in KEYS:
            arguments += ["--vendor-key", str(self.folder / f"{name}.pub")]
        with (self.folder / "err").open("ab") as errors:
            self.process = subprocess.Popen(arguments, stdout=errors, stderr=errors)
        until("it listens", lambda: self.tool("lmstat", "--check")[0] in (0, 1))

    def tool(self, name, *words):
        """Run a utility in this process: a new one takes half a second to start."""
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            status = cli.main([name, "-c", self.path, *words])
        return status, said.getvalue()

    def client(self, vendor, **how):
        return flexcore_sync.connect(self.path, keys=[KEYS[vendor].verifying_key], **how)

    def log(self):
        return (self.folder / "log").read_text()


@pytest.fixture
def server(tmp_path):
    server = Server(tmp_path)
    yield server
    if server.process is not None:
        server.process.kill()
        server.process.wait()


def test_two_vendors_behind_one_port(server):
    server.start()
    with server.client("demo", user="ann") as one, server.client("acme", user="bob") as two:
        assert one.checkout("shared").version == "1.0"
        assert two.checkout("shared").version == "2.0"
        _, shown = server.tool("lmstat", "-a")
        assert "      demo: UP v" in shown
        assert "      acme: UP v" in shown
        assert [word in shown for word in ("vendor: demo", "vendor: acme", "    ann ", "    bob ")] == [True] * 4
        with server.client("acme", user="mallory") as excluded:
            with pytest.raises(flexcore_sync.CheckoutDenied) as denied:
                excluded.checkout("shared")
            assert denied.value.code == -38, "acme's options file is acme's alone"
        server.write(count=2)
        status, said = server.tool("lmreread", "-vendor", "acme")
        assert (status, "demo:" in said, "1 license -> 2 licenses" in said) == (0, False, True)
        with server.client("acme") as more:
            more.checkout("shared")
        with server.client("demo") as none, pytest.raises(flexcore_sync.CheckoutDenied):
            none.checkout("shared")
        # One is stopped: the other's holder does not notice, and lmstat tells which.
        status, said = server.tool("lmdown", "-q", "-vendor", "acme")
        assert (status, said) == (0, "acme is stopped; the server goes on with the others\n")
        assert server.tool("lmstat", "--check")[0] == 1
        shown = json.loads(server.tool("lmstat", "--json")[1])
        assert [(each["name"], each["up"]) for each in shown["vendors"]] == [("demo", True), ("acme", False)]
        assert [seat["user"] for seat in shown["seats"]] == ["ann"]
        assert "acme: The desired vendor daemon is down" in server.tool("lmstat", "-a")[1]
        # lmreread starts it again, and it has forgotten nothing.
        status, said = server.tool("lmreread")
        assert status == 0, said
        assert "acme was down, and is served again" in said
        assert "changed" in said
        until("acme's holders are shown again", lambda: "    bob " in server.tool("lmstat", "-a")[1])
        assert server.tool("lmdown", "-q", "-vendor", "nobody")[0] == 159
    status, said = server.tool("lmdown", "-q")
    assert (status, f"{server.port}@127.0.0.1 is stopped" in said) == (0, True)
    assert server.process.wait(PATIENCE_S) == 0
    # Each has a report log of its own, which goes on where its vendor was started again.
    for name, own, other, lives in (("demo", "ann", "bob", 1), ("acme", "bob", "ann", 2)):
        path = server.folder / f"{name}.rep"
        records = [json.loads(line) for line in path.read_text().splitlines()]
        assert [each["kind"] for each in records].count("start") == lives
        assert {each["vendor"] for each in records if each["kind"] == "start"} == {name}
        users = {each.get("user") for each in records}
        assert own in users
        assert other not in users
        assert cli.main(["reportlog", "verify", str(path)]) == 0


def test_a_damaged_state_of_one_vendor_is_its_own_until_it_is_put_right(server):
    damaged = server.folder / "state" / "acme"
    damaged.mkdir(parents=True, mode=0o700)
    (damaged / "state.sqlite").write_bytes(b"no database at all" * 100)
    server.start()
    with server.client("demo") as one:
        one.checkout("shared")
        assert server.tool("lmstat", "--check")[0] == 1
        assert "acme: The desired vendor daemon is down" in server.tool("lmstat")[1]
        assert "acme exited with status 1" in server.log()
        (damaged / "state.sqlite").unlink()
        status, said = server.tool("lmreread", "-vendor", "acme")
        assert (status, "acme was down, and is served again" in said) == (0, True), said
        with server.client("acme") as two:
            two.checkout("shared")
    server.process.terminate()
    assert server.process.wait(PATIENCE_S) == 0
    assert "All vendor daemons are down" in server.log()
