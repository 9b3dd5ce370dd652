"""The server's loop reads a licence file off its own thread, and gives the machine whatever comes of that."""

from __future__ import annotations

import threading

import pytest
import trio
import trio.testing

from flexcore.checkout.rights import make_rights
from flexcore.errors import LicenseError
from flexcore.server import LicenseRead, LicenseRefused, ReadLicense
from tests.test_trio_server import read_line, start  # noqa: F401 (a fixture)

READ = LicenseRead(rights=make_rights((), vendor="demo", digest=b"r" * 32))


@pytest.mark.trio
async def test_clients_are_served_while_a_file_is_read(start):  # noqa: F811 (a fixture)
    running = await start()
    go_on = threading.Event()

    def read():
        assert go_on.wait(20)
        return READ

    running.loop._read_license = read
    running.ask(ReadLicense(ticket=7))
    stream = await running.connect()
    await stream.send_all(b"meanwhile\n")
    assert await read_line(stream) == b"meanwhile\n"
    assert not any(told[0] == "license_read" for told in running.machine.told)
    go_on.set()
    assert await running.machine.until("license_read") == ("license_read", 7, READ)


@pytest.mark.trio
@pytest.mark.parametrize(
    ("error", "refused"),
    [
        (PermissionError(13, "Permission denied"), (-30, "[Errno 13] Permission denied", ())),
        (LicenseError("no server starts with it:\n  line 1\n  line 2"),
         (-2, "no server starts with it:", ("  line 1", "  line 2"))),
        (None, (-1, "this server was started without a file", ())),
    ],
)  # fmt: skip
async def test_a_file_that_cannot_be_read_is_refused(start, error, refused):  # noqa: F811 (a fixture)
    running = await start()

    def read():
        raise error

    running.loop._read_license = read if error is not None else None
    running.ask(ReadLicense(ticket=8))
    _, ticket, said = await running.machine.until("license_read")
    assert ticket == 8
    assert isinstance(said, LicenseRefused)
    assert (said.code, said.text, said.details) == refused


@pytest.mark.trio
async def test_a_server_ends_though_its_file_hangs(start):  # noqa: F811 (a fixture)
    running = await start()
    go_on = threading.Event()
    running.loop._read_license = lambda: go_on.wait(20) and READ
    running.ask(ReadLicense(ticket=9))
    await trio.testing.wait_all_tasks_blocked()
    running.loop.stop("one", "test")
    try:
        with trio.fail_after(10):
            await running.ended.wait()
    finally:
        go_on.set()
