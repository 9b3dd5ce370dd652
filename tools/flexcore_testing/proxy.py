"""A TCP proxy that makes a network bad: delay, loss, little bandwidth, cuts in one or both directions.

It needs no rights and no kernel modules, so that it runs wherever Python does. A proxy stands where a
server is expected: name its port in the search path of an application, or on the SERVER line that
*another* server reads (hosts and ports are not signed), and what passes through it can be hurt::

    with ProxyThread() as proxies:
        link = proxies.add(("127.0.0.1", 27000))
        client = flexcore_sync.connect(f"{link.port}@127.0.0.1", vendor="demo")
        link.set(delay_s=0.2, jitter_s=0.1)     # a slow network
        link.set(cut=True, way="back")          # answers no longer arrive
        link.heal()                             # ... and now they all do

In a trio program the same is ``async with open_proxy(target) as link``; from a shell it is
``python -m flexcore_testing.proxy``, which takes orders as JSON lines (:mod:`flexcore_testing.proxy_command`).

What a TCP proxy cannot do: drop, repeat or reorder single packets (TCP would repair it, late).
*stall_chance* and *stall_s* therefore make of loss what an application sees of it, a pause. What was
cut is not lost either: it arrives when the cut ends, as TCP's retransmissions would. A connection that
is opened during a cut is accepted all the same, and then hears nothing.
"""

from __future__ import annotations

import contextlib
import random
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import attrs
import trio

from flexcore_trio import sockets

from .proxy_streams import Faults, Pair, dial

__all__ = ["Faults", "Proxy", "ProxyThread", "open_proxy"]

CONNECTIONS_MAX = 2000
"""More are turned away with a reset."""
BACKLOG = 256
PROBE_S = 0.1
"""While the target refuses, the proxy does, too; so often it looks whether it still does."""

Way = Literal["there", "back", "both"]
Accept = Literal["forward", "hang", "reset", "refuse"]
Address = tuple[str, int]
T = TypeVar("T")

_ACCEPTS = ("forward", "hang", "reset", "refuse")


class Proxy:
    """One listening port in front of one target. Made by :func:`open_proxy` or :meth:`ProxyThread.add`.

    All methods belong to the thread that runs it; the handle of a :class:`ProxyThread` may be used
    from any.
    """

    def __init__(self, target: Address, host: str = "127.0.0.1", port: int = 0, seed: int = 0) -> None:
        self.target = target
        self.host = host
        self.port = port
        """Where it listens; known once it does."""
        self.connections = 0
        """How many were accepted so far."""
        self.resets = 0
        """How many were ended by :meth:`reset` or accept="reset"."""
        self.bytes_there = 0
        self.bytes_back = 0
        self.there = self.back = Faults()
        """What happens in each direction; change it with :meth:`set`."""
        self.accept: Accept = "forward"
        self._target_down = False
        self.generation = 0
        self.changed_at = 0.0
        self.changed = trio.Event()
        self.random = random.Random(seed)
        self._pairs: dict[int, Pair] = {}
        self._scopes: list[trio.CancelScope] = []
        self._listener: socket.socket | None = None
        self._listening = False

    # --- what can be done to it --------------------------------------------------------------------

    def set(self, *, way: Way = "both", accept: Accept | None = None, **faults: Any) -> None:
        """Change some faults, of one direction or both; those not named stay as they are.

        Args:
            way: ``there`` is towards the target, ``back`` from it.
            accept: what happens to new connections: ``forward``; ``hang`` (half-open: accepted and
                never forwarded); ``reset`` (accepted and reset); ``refuse`` (nobody listens, as where
                the process is gone or a firewall says so).
            faults: fields of :class:`Faults`.

        Raises:
            TypeError, ValueError: no such fault, or an impossible value. Nothing is changed then.
        """
        if way not in ("there", "back", "both"):
            raise ValueError(f"way is 'there', 'back' or 'both', not {way!r}")
        if accept is not None and accept not in _ACCEPTS:
            raise ValueError(f"accept is one of {', '.join(_ACCEPTS)}, not {accept!r}")
        there = attrs.evolve(self.there, **faults) if way != "back" else self.there
        back = attrs.evolve(self.back, **faults) if way != "there" else self.back
        self.there, self.back = there, back
        if accept is not None:
            self.accept = accept
        self._note_change()

    def heal(self) -> None:
        """Take all faults away. Connections that were reset stay so; those that hang are forwarded."""
        self.there = self.back = Faults()
        self.accept = "forward"
        self._note_change()

    def reset(self) -> int:
        """End all connections with a reset in both directions; returns how many."""
        pairs = list(self._pairs.values())
        for pair in pairs:
            pair.abort()
        self.resets += len(pairs)
        return len(pairs)

    @property
    def open_connections(self) -> int:
        """How many are open now."""
        return len(self._pairs)

    def report(self) -> dict[str, Any]:
        """What is set and what has passed, as plain values."""
        return {
            "accept": self.accept,
            "there": attrs.asdict(self.there),
            "back": attrs.asdict(self.back),
            "connections": self.connections,
            "open": self.open_connections,
            "resets": self.resets,
            "bytes_there": self.bytes_there,
            "bytes_back": self.bytes_back,
        }

    # --- running it ----------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled. Raises OSError where the port cannot be had."""
        self._claim()
        self._open()
        task_status.started()
        try:
            async with trio.open_nursery() as nursery:
                while True:
                    if self._refuses:
                        await self.changed.wait()
                    else:
                        await self._accept_one(nursery)
        finally:
            self._release()
            for pair in list(self._pairs.values()):
                pair.abort()

    @property
    def _refuses(self) -> bool:
        if self.there.cut or self.back.cut or self.accept == "hang":
            return False  # a refusal would not come through either
        return self.accept == "refuse" or self._target_down

    def _open(self) -> None:
        if not self._listening:
            self._claim()
            assert self._listener is not None
            self._listener.listen(BACKLOG)
            self._listening = True

    def _refuse(self) -> None:
        """Stop listening; the port stays ours where the system can do that."""
        assert self._listener is not None
        if sys.platform == "linux":
            # The socket stays bound. A close would not do: a process that is being started in this
            # very moment has a copy of the socket, which goes on listening until it is replaced.
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listening = False
        else:
            self._release()

    def _claim(self) -> None:
        """Take the port, unless it is ours already."""
        if self._listener is not None:
            return
        listener = self._bind(self.port)
        if self.port == 0 and sys.platform == "linux":
            # A port that was asked for by its number stays with a socket that no longer listens.
            chosen, listener = listener, self._bind(int(listener.getsockname()[1]))
            chosen.close()
        self.port = int(listener.getsockname()[1])
        self._listener = listener
        self._listening = False

    def _bind(self, port: int) -> socket.socket:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            if sys.platform != "win32":  # there the option would let two processes share the port
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((self.host, port))
            listener.setblocking(False)
        except BaseException:
            listener.close()
            raise
        return listener

    def _release(self) -> None:
        if self._listener is not None:
            trio.lowlevel.notify_closing(self._listener)
            self._listener.close()
            self._listener = None
            self._listening = False

    async def _accept_one(self, nursery: trio.Nursery) -> None:
        """Wait for a connection, or until a change may have closed the port."""
        listener = self._listener
        assert listener is not None
        with self._until_changed() as scope, contextlib.suppress(trio.ClosedResourceError):
            await trio.lowlevel.wait_readable(listener)
        if scope.cancelled_caught or listener is not self._listener or self._refuses:
            return
        try:
            near, _ = listener.accept()
        except OSError:
            return  # nobody there, or no longer
        near.setblocking(False)
        self.connections += 1
        if self.accept == "reset" or len(self._pairs) >= CONNECTIONS_MAX:
            self.resets += 1
            sockets.abort(near)
            return
        pair = Pair(self, near)
        self._pairs[id(pair)] = pair
        nursery.start_soon(self._serve, nursery, pair)

    async def _serve(self, nursery: trio.Nursery, pair: Pair) -> None:
        try:
            await pair.run()
        except ConnectionRefusedError:
            if not self._target_down:
                self._target_down = True
                self._note_change()
                nursery.start_soon(self._probe)
        finally:
            pair.abort()
            self._pairs.pop(id(pair), None)

    async def _probe(self) -> None:
        """A dead process refuses, and others learn from that: refuse until it is back."""
        while True:
            await trio.sleep(PROBE_S)
            try:
                probe = await dial(self.target)
            except OSError:
                continue
            sockets.abort(probe)
            self._target_down = False
            self._note_change()
            return

    def _note_change(self) -> None:
        self.generation += 1
        self.changed_at = trio.current_time()
        changed, self.changed = self.changed, trio.Event()
        changed.set()
        for scope in self._scopes:
            scope.cancel()
        if self._refuses and self._listening:
            self._refuse()
        elif not self._refuses:
            self._open()

    @contextlib.contextmanager
    def _until_changed(self) -> Iterator[trio.CancelScope]:
        """Cancel the block at the next change."""
        with trio.CancelScope() as scope:
            self._scopes.append(scope)
            try:
                yield scope
            finally:
                self._scopes.remove(scope)


@contextlib.asynccontextmanager
async def open_proxy(
    target: Address, *, host: str = "127.0.0.1", port: int = 0, seed: int = 0
) -> AsyncIterator[Proxy]:
    """Run a proxy in front of *target* for the length of the block (trio).

    Raises OSError where *port* (0: any) cannot be had. *seed* decides jitter and stalls.
    """
    failure: Exception | None = None
    proxy = Proxy(target, host, port, seed)
    proxy._claim()
    async with trio.open_nursery() as nursery:
        await nursery.start(proxy.run)
        try:
            yield proxy
        except Exception as error:  # noqa: BLE001 - raised below, outside of the nursery's group
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


class ProxyLink:
    """A proxy of a :class:`ProxyThread`, for any thread. The same methods as :class:`Proxy`."""

    def __init__(self, owner: ProxyThread, proxy: Proxy) -> None:
        self._owner = owner
        self._proxy = proxy

    @property
    def host(self) -> str:
        """Where it listens."""
        return self._proxy.host

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._proxy.port

    @property
    def connections(self) -> int:
        """How many were accepted so far."""
        return self._proxy.connections

    @property
    def open_connections(self) -> int:
        """How many are open now."""
        return self._proxy.open_connections

    def set(self, *, way: Way = "both", accept: Accept | None = None, **faults: Any) -> None:
        """As :meth:`Proxy.set`."""
        self._owner._call(lambda: self._proxy.set(way=way, accept=accept, **faults))

    def heal(self) -> None:
        """As :meth:`Proxy.heal`."""
        self._owner._call(self._proxy.heal)

    def reset(self) -> int:
        """As :meth:`Proxy.reset`."""
        return self._owner._call(self._proxy.reset)

    def report(self) -> dict[str, Any]:
        """As :meth:`Proxy.report`."""
        return self._owner._call(self._proxy.report)


class ProxyThread:
    """Proxies in a thread of their own, for programs that do not run trio. A context manager."""

    def __init__(self) -> None:
        self._ready = threading.Event()
        self._token: trio.lowlevel.TrioToken | None = None
        self._nursery: trio.Nursery | None = None
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="flexcore-proxies", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        if self._thread.is_alive() and self._nursery is not None:
            with contextlib.suppress(trio.RunFinishedError):
                self._call(self._nursery.cancel_scope.cancel)
        self._thread.join()
        if self._failure is not None and error is None:
            raise self._failure

    def add(
        self, target: Address, *, host: str = "127.0.0.1", port: int = 0, seed: int = 0
    ) -> ProxyLink:
        """Put a proxy in front of *target*. Raises OSError where *port* (0: any) cannot be had."""
        assert self._nursery is not None, "enter the ProxyThread first"
        nursery = self._nursery

        async def start() -> Proxy:
            proxy = Proxy(target, host, port, seed)
            proxy._claim()
            await nursery.start(proxy.run)
            return proxy

        assert self._token is not None
        return ProxyLink(self, trio.from_thread.run(start, trio_token=self._token))

    def _call(self, function: Callable[[], T]) -> T:
        assert self._token is not None, "enter the ProxyThread first"
        return trio.from_thread.run_sync(function, trio_token=self._token)

    def _run(self) -> None:
        try:
            trio.run(self._serve)
        except BaseException as error:  # noqa: BLE001 - the thread that leaves the block raises it
            self._failure = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        async with trio.open_nursery() as nursery:
            self._token = trio.lowlevel.current_trio_token()
            self._nursery = nursery
            self._ready.set()
            await trio.sleep_forever()


if __name__ == "__main__":
    from flexcore_testing.proxy_command import main

    sys.exit(main())
