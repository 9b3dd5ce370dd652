"""The blocking client, with and without its thread, through the suite for transports."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import pytest

import flexcore_sync
from tests.client_conformance import ClientTransportSuite


class Threaded:
    def open(self, path: str, **options: Any) -> AbstractContextManager[Any]:
        return flexcore_sync.connect(path, vendor="demo", **options)

    def breathe(self, client: Any) -> None:
        """It has a thread."""


class Pumped:
    def open(self, path: str, **options: Any) -> AbstractContextManager[Any]:
        return flexcore_sync.connect(path, vendor="demo", keep_alive="none", **options)

    def breathe(self, client: Any) -> None:
        client.pump(0.01)


class TestThreaded(ClientTransportSuite):
    @pytest.fixture
    def transport(self) -> Threaded:
        return Threaded()


class TestPumped(ClientTransportSuite):
    @pytest.fixture
    def transport(self) -> Pumped:
        return Pumped()
