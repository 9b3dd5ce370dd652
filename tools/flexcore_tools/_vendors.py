"""``flexcore lmgrd`` where a single server has several VENDOR lines: what each vendor starts with.

Everything is read anew at every start of a vendor, so that a vendor which could not be served is
served soon after its file, its key or its disk was put right, without a restart of the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from flexcore import __version__
from flexcore.quorum import PersistBatch, StoredState
from flexcore.server import ServerConfig
from flexcore_host import clock
from flexcore_host.folder import StateFolder, open_state_folder
from flexcore_trio import MemoryStore, SqliteStore, Store, VendorService, VendorStart

from . import _options, _setup

if TYPE_CHECKING:
    from flexcore_host.debuglogs import DebugLogs

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
    setup: Setup, logs: DebugLogs, *, first_start: bool
) -> Sequence[VendorService]:
    """Return how each vendor of *setup* is served."""
    return [
        VendorService(
            vendor=vendor.name,
            prepare=partial(_prepare, setup, vendor, logs, first_start=first_start),
        )
        for vendor in setup.vendors
    ]


def _prepare(
    setup: Setup, vendor: VendorSetup, logs: DebugLogs, *, first_start: bool
) -> VendorStart:
    license = _setup.read_license(setup.path)
    _setup.check_signatures(license, setup.keys, vendor.name)
    options, warning = _options.options_or_warning(license, setup.path, vendor.name)
    logs.write([("lmgrd", text) for text in warning])
    store: Store = MemoryStore()
    if vendor.state_dir is not None:
        word = setup.rank.word
        folder = open_state_folder(
            vendor.state_dir, vendor=vendor.name, rank=word, hostids=license.hostids
        )
        store = OwnedStore(folder, f"{vendor.name} {word}")
    config = ServerConfig(
        license=license, keys=setup.keys, rank=setup.rank, license_path=setup.path,
        software=__version__, first_start=first_start, vendor=vendor.name,
        vendors=tuple(each.name for each in setup.vendors), addresses=setup.addresses,
        utc_offset_s=clock.utc_offset_s(clock.wall()), options=options,
    )  # fmt: skip
    return VendorStart(
        config=config, store=store, read_license=partial(_setup.read_license, setup.path),
        read_options=lambda read: _options.load_options(read, setup.path, vendor.name),
        use_debug_log=lambda to: logs.use(to.daemon, to.path, append=to.append),
    )  # fmt: skip
