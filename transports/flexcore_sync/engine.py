"""The loop that drives a :class:`~flexcore.client.LicenseClient` on sockets. One thread at a time
runs it: the keep-alive thread, or whoever waits for something.

Two locks, always taken in this order: ``turn_lock`` (who runs the loop; held while waiting for the
network) and ``lock`` (the machine; never held while waiting). What the application is to be told is
collected under the lock and told after.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections.abc import Callable

from flexcore.client import (
    Abort,
    ApplicationAction,
    ClientEvent,
    Close,
    Connect,
    ConnectFailed,
    ConnectionEnded,
    ConnectionMade,
    DataReceived,
    LicenseClient,
    SendData,
)
from flexcore_host import clock
from flexcore_host.application import CLOSE_FLUSH_S, SLEEP_MAX_S, UNSENT_BYTES_MAX
from flexcore_host.names import Names
from flexcore_sync.sockets import Dial, Stream, reset


class Engine:
    """The sockets of one client. *lock* guards its *machine*; *tell* is called with each application action,
    outside of the lock."""

    def __init__(
        self, machine: LicenseClient, lock: threading.RLock, tell: Callable[[ApplicationAction], None]
    ) -> None:
        self.lock = lock
        self.turn_lock = threading.Lock()
        self._told = threading.Condition(self.lock)
        self._tell = tell
        self.machine = machine
        self._dials: dict[int, Dial] = {}
        self._streams: dict[int, Stream] = {}
        self._news: list[ApplicationAction] = []
        self._selector = selectors.DefaultSelector()
        self._wake_in, self._wake_out = socket.socketpair()
        for end in (self._wake_in, self._wake_out):
            end.setblocking(False)
        self._selector.register(self._wake_out, selectors.EVENT_READ, None)
        self._names = Names(self.wake)
        self.is_shut = False
        self._released = False

    # --- for other threads ---

    def wake(self) -> None:
        """Make the thread that runs the loop look again."""
        with contextlib.suppress(BlockingIOError, OSError):
            self._wake_in.send(b"\0")

    def wait_for_news(self, timeout_s: float) -> None:
        """Wait, holding the lock, until the loop has told something."""
        self._told.wait(timeout_s)

    # --- the loop ---

    def turn(self, timeout_s: float) -> None:
        """One turn: perform what is due, wait for at most *timeout_s*, take in what came. The turn lock is held."""
        with self.lock:
            if self.is_shut:
                return
            self._tick()
            self._perform()
            wait = self._sleep_s(timeout_s)
        self._tell_news()
        ready = self._selector.select(wait)
        with self.lock:
            if self.is_shut:
                return
            for key, mask in ready:
                self._on_ready(key.fileobj, key.data, mask)
            self._tick()
            self._perform()
        self._tell_news()

    def _tell_news(self) -> None:
        with self.lock:
            news, self._news = self._news, []
        for action in news:
            self._tell(action)
        if news:
            with self.lock:
                self._told.notify_all()

    def _sleep_s(self, timeout_s: float) -> float:
        times = [self.machine.next_timeout()]
        times += [dial.wake_at for dial in self._dials.values()]
        times += [stream.close_by for stream in self._streams.values()]
        now = clock.now()
        soonest = min((at - now for at in times if at is not None), default=SLEEP_MAX_S)
        # A news that waits is told before sleeping; one that another thread caused meanwhile wakes us.
        return max(0.0, min(soonest, timeout_s, SLEEP_MAX_S))

    def _tick(self) -> None:
        now = clock.now()
        due = self.machine.next_timeout()
        if due is not None and due <= now:
            self.machine.handle_timeout(now=now, wall=clock.wall())
        for dial in list(self._dials.values()):
            self._continue(dial, now)
        for stream in list(self._streams.values()):
            if stream.close_by is not None and (not stream.unsent or now >= stream.close_by):
                self._drop_stream(stream)

    def _happened(self, event: ClientEvent) -> None:
        self.machine.receive_event(event, now=clock.now(), wall=clock.wall())

    def _perform(self) -> None:
        """Do what the machine wants, until it wants nothing."""
        while (action := self.machine.next_action()) is not None:
            if isinstance(action, SendData):
                self._send(action)
            elif isinstance(action, Connect):
                dial = Dial(action.conn, action.host, action.port)
                self._dials[action.conn] = dial
                self._continue(dial, clock.now())
            elif isinstance(action, Abort):
                self._abort(action.conn)
            elif isinstance(action, Close):
                self._close(action.conn)
            else:
                self._news.append(action)

    # --- dialling ---

    def _continue(self, dial: Dial, now: float) -> None:
        if dial.addresses is None:
            found = self._names.ask(dial.host, dial.port)
            if found is None:
                return
            if isinstance(found, str):
                self._dial_failed(dial, found, None)
                return
            dial.start(found)
        while True:
            sock, connected = dial.begin_next(now)
            if sock is None:
                break
            self._selector.register(sock, selectors.EVENT_WRITE, dial)
            if connected:
                self._connected(dial, sock)
                return
        if dial.is_over:
            error = dial.error or OSError("no address")
            self._dial_failed(dial, error.strerror or str(error), error.errno)

    def _dial_failed(self, dial: Dial, words: str, number: int | None) -> None:
        self._dials.pop(dial.conn, None)
        refused = isinstance(dial.error, OSError) and isinstance(dial.error, ConnectionRefusedError)
        self._happened(
            ConnectFailed(conn=dial.conn, error=words, refused=refused, errno=number)
        )

    def _connected(self, dial: Dial, sock: socket.socket) -> None:
        dial.sockets.remove(sock)
        self._end_dial(dial)
        self._selector.unregister(sock)
        try:
            stream = Stream(dial.conn, sock)
        except OSError as error:
            sock.close()
            self._dial_failed(dial, error.strerror or str(error), error.errno)
            return
        self._streams[dial.conn] = stream
        self._selector.register(sock, selectors.EVENT_READ, stream)
        self._happened(ConnectionMade(conn=dial.conn))

    def _end_dial(self, dial: Dial) -> None:
        """Give up whatever this dial still tries."""
        self._dials.pop(dial.conn, None)
        for sock in dial.sockets:
            self._selector.unregister(sock)
            reset(sock)
        dial.sockets.clear()

    # --- streams ---

    def _on_ready(self, fileobj: object, data: object, mask: int) -> None:
        if isinstance(data, Dial):
            self._dial_ready(fileobj, data)
        elif isinstance(data, Stream):
            if data.conn in self._streams and mask & selectors.EVENT_WRITE:
                self._flush(data)
            if data.conn in self._streams and mask & selectors.EVENT_READ:
                self._read(data)
        else:
            with contextlib.suppress(BlockingIOError):
                while self._wake_out.recv(4096):
                    pass

    def _dial_ready(self, sock: object, dial: Dial) -> None:
        if not isinstance(sock, socket.socket) or sock not in dial.sockets:
            return
        self._selector.unregister(sock)
        if dial.finished(sock):
            self._selector.register(sock, selectors.EVENT_WRITE, dial)
            self._connected(dial, sock)
        else:
            self._continue(dial, clock.now())

    def _send(self, action: SendData) -> None:
        stream = self._streams.get(action.conn)
        if stream is None:
            return
        stream.unsent += action.data
        self._flush(stream)

    def _flush(self, stream: Stream) -> None:
        try:
            stream.flush()
        except OSError as error:
            self._broken(stream, error)
            return
        if len(stream.unsent) > UNSENT_BYTES_MAX:
            self._broken(stream, OSError("the server reads nothing"))
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if stream.unsent else 0)
        self._selector.modify(stream.sock, events, stream)

    def _read(self, stream: Stream) -> None:
        try:
            data = stream.read()
        except OSError as error:
            self._broken(stream, error)
            return
        if data is None:
            return
        if data and stream.close_by is None:
            self._happened(DataReceived(conn=stream.conn, data=data))
        elif not data:
            closing = stream.close_by is not None
            self._drop_stream(stream, abort=not closing)
            if not closing:
                self._happened(ConnectionEnded(conn=stream.conn, orderly=True))

    def _broken(self, stream: Stream, error: OSError) -> None:
        self._drop_stream(stream, abort=True)
        if stream.close_by is None:
            self._happened(
                ConnectionEnded(conn=stream.conn, error=error.strerror or str(error))
            )

    def _abort(self, conn: int) -> None:
        dial = self._dials.get(conn)
        if dial is not None:
            self._end_dial(dial)
        stream = self._streams.get(conn)
        if stream is not None:
            self._drop_stream(stream, abort=True)

    def _close(self, conn: int) -> None:
        stream = self._streams.get(conn)
        if stream is None:
            self._abort(conn)
        elif stream.unsent:
            stream.close_by = clock.now() + CLOSE_FLUSH_S
        else:
            self._drop_stream(stream)

    def _drop_stream(self, stream: Stream, *, abort: bool = False) -> None:
        del self._streams[stream.conn]
        self._selector.unregister(stream.sock)
        if abort:
            reset(stream.sock)
        else:
            stream.sock.close()

    # --- the end ---

    def shut(self) -> None:
        """No turn does anything from here on; whoever holds the turn lock then lets go of the sockets with
        :meth:`release`."""
        with self.lock:
            self.is_shut = True
            self._told.notify_all()
        self.wake()

    def release(self, *, abort: bool = False) -> None:
        """Close everything; the turn lock is held, and the machine has said goodbye or was told that it holds
        nothing. If it was not, *abort*. Once more is harmless."""
        with self.lock:
            self.is_shut = True
            if self._released:
                return
            self._released = True
            for dial in list(self._dials.values()):
                self._end_dial(dial)
            for stream in list(self._streams.values()):
                self._drop_stream(stream, abort=abort)
            self._selector.close()
            self._wake_in.close()
            self._wake_out.close()
            self._told.notify_all()

    def let_go_in_child(self) -> None:
        """In a forked child: close the copies of the sockets. Nothing is sent: the parent has them
        still. Neither are the locks touched (another thread of the parent may have held them), nor is
        anything unregistered (the selector's kernel half is shared with the parent)."""
        self.is_shut = True
        for dial in self._dials.values():
            for sock in dial.sockets:
                sock.close()
        for stream in self._streams.values():
            stream.sock.close()
        self._wake_in.close()
        self._wake_out.close()
        self._selector.close()
