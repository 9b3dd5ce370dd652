"""``flexcore lmgrd`` where a single server has several VENDOR lines: what each vendor starts with.

Everything is read anew at every start of a vendor, so that a vendor which could not be served is
served soon after its file, its key or its disk was put right, without a restart of the others.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from flexcore import __version__
from flexcore.quorum import PersistBatch, StoredState
from flexcore.server import ServerConfig
from flexcore.server.actions import UseDebugLog
from flexcore_host import clock
from flexcore_host.folder import StateFolder, open_state_folder
from flexcore_host.logswitch import switch_log
from flexcore_trio import MemoryStore, SqliteStore, Store, VendorService, VendorStart
from flexcore_trio.turnlogs import EventSink

from . import _options, _report, _setup

if TYPE_CHECKING:
    from flexcore.options import OptionsFile
    from flexcore_host.debuglogs import DebugLogs
    from flexcore_host.reportfile import ReportFile

    from ._setup import Setup, VendorSetup

__all__ = ["vendor_services"]


class OwnedStore:
    """A store in a state folder that it unlocks when it is closed, and not before: a write that hangs
    keeps the folder, so that no second store writes beside it."""

    def __init__(self, folder: StateFolder, owner: str) -> None:
        self._folder = folder
        try:
            self._store = SqliteStore(folder.state_file, owner=owner)
        except BaseException:
            folder.close()
            raise

    @property
    def blocking(self) -> bool:
        return self._store.blocking

    @property
    def keeps(self) -> bool:
        return self._store.keeps

    @property
    def place(self) -> str:
        return self._store.place

    def load(self) -> StoredState | None:
        return self._store.load()

    def write(self, batch: PersistBatch) -> None:
        self._store.write(batch)

    def close(self) -> None:
        self._store.close()
        self._folder.close()


def vendor_services(
    setup: Setup, logs: DebugLogs, event: EventSink | None = None, *, first_start: bool, log_path: str = ""
) -> Sequence[VendorService]:
    """Return how each vendor of *setup* is served."""
    return [
        VendorService(
            vendor=vendor.name,
            prepare=_Preparation(
                setup, vendor, logs, event, first_start=first_start, log_path=log_path
            ).make,
        )
        for vendor in setup.vendors
    ]


class _Preparation:
    """Makes the start of one vendor, also when it failed and is started again."""

    def __init__(
        self, setup: Setup, vendor: VendorSetup, logs: DebugLogs, event: EventSink | None, *,
        first_start: bool, log_path: str,
    ) -> None:  # fmt: skip
        self._setup = setup
        self._vendor = vendor
        self._logs = logs
        self._event = event
        self._first_start = first_start
        self._log_path = log_path
        self._debug_log = ""
        self._report_log = ""

    def make(self) -> VendorStart:
        """Read everything anew. Called in a thread."""
        setup, vendor = self._setup, self._vendor
        license = _setup.read_license(setup.path)
        _setup.check_signatures(license, setup.keys, vendor.name)
        options, warning = _options.options_or_warning(license, setup.path, vendor.name)
        self._logs.write([("lmgrd", text) for text in warning])
        store: Store = MemoryStore()
        if vendor.state_dir is not None:
            word = setup.rank.word
            folder = open_state_folder(
                vendor.state_dir, vendor=vendor.name, rank=word, hostids=license.hostids
            )
            store = OwnedStore(folder, f"{vendor.name} {word}")
        report = self._open_report(options)
        config = ServerConfig(
            license=license, keys=setup.keys, rank=setup.rank, license_path=setup.path,
            software=__version__, first_start=self._first_start, vendor=vendor.name,
            vendors=tuple(each.name for each in setup.vendors), addresses=setup.addresses,
            utc_offset_s=clock.utc_offset_s(clock.wall()), options=options,
            lmdown="lmdown" not in setup.switched_off,
            lmremove="lmremove" not in setup.switched_off, lmremove_min_s=setup.lmremove_min_s,
            administrators_only=setup.administrators_only,
            notes=tuple(_setup.place_warnings(setup, self._log_path, vendor.state_dir)),
            pid=os.getpid(), report=None if report is None else report.position,
        )  # fmt: skip
        # "Nobody holds anything" was true once: when a vendor is started again somebody may.
        self._first_start = False
        return VendorStart(
            config=config, store=store, read_license=partial(_setup.read_license, setup.path),
            read_options=lambda read: _options.load_options(read, setup.path, vendor.name),
            use_debug_log=self._use_debug_log,
            switch_log=lambda wanted: switch_log(wanted, self._logs, report), event=self._event,
            report=None if report is None else report.write,
            at_end=None if report is None else report.close,
        )  # fmt: skip

    def _open_report(self, options: OptionsFile | None) -> ReportFile | None:
        """The report log of this vendor's options file; one that this process has begun already is gone on with."""
        target = _report.report_option(options, self._setup.path)
        path = target.removeprefix("+")
        again = path != "" and path == self._report_log
        self._report_log = path
        return _report.open_report(f"+{path}" if again else target, self._logs.write, of=self._vendor.name)

    def _use_debug_log(self, to: UseDebugLog) -> None:
        """A log that this process has begun already is not begun anew by a restart: it says why."""
        again = to.path != "" and to.path == self._debug_log
        self._debug_log = to.path
        self._logs.use(to.daemon, to.path, append=to.append or again)
