"""The network between the servers of a real triad: a proxy on each connection, so that it can be cut."""

from __future__ import annotations

from flexcore.identity import Rank
from flexcore.wire.messages import ServerAddress
from flexcore_testing.proxy import ProxyLink, ProxyThread


class Links:
    """A proxy for each server on its way to each other one, all in one thread."""

    def __init__(self, addresses: tuple[ServerAddress, ...]) -> None:
        self._addresses = addresses
        self._thread = ProxyThread()
        self._thread.__enter__()
        self._proxies: dict[tuple[Rank, Rank], ProxyLink] = {}
        try:
            for source in Rank:
                for target in Rank:
                    if source is not target:
                        host, port = addresses[target]
                        self._proxies[source, target] = self._thread.add((host, port))
        except BaseException:
            self.close()
            raise

    def addresses_for(self, rank: Rank) -> tuple[ServerAddress, ...]:
        """Where this server finds itself and, through its proxies, the others."""
        return tuple(
            self._addresses[other] if other is rank
            else ServerAddress(self._proxies[rank, other].host, self._proxies[rank, other].port)
            for other in Rank
        )  # fmt: skip

    def cut(self, source: Rank, target: Rank) -> None:
        """Let nothing pass from *source* to *target*, whichever of them opened the connection."""
        self._proxies[source, target].set(way="there", cut=True)
        self._proxies[target, source].set(way="back", cut=True)

    def heal(self, first: Rank | None = None, second: Rank | None = None) -> None:
        """Undo all cuts, or those between two servers. What waited arrives."""
        for pair, proxy in self._proxies.items():
            if first is None or second is None or set(pair) == {first, second}:
                proxy.heal()

    def close(self) -> None:
        """End all proxies."""
        self._thread.__exit__(None, None, None)
