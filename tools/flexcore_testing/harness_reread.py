"""Licence files that change while the simulated triad runs: the part of :class:`flexcore_testing.Triad` about that."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from flexcore.identity import Rank
from flexcore.licensefile import LicenseFile
from flexcore_testing.harness_licence import Terms, read_terms
from flexcore_testing.harness_names import ServerName
from flexcore_testing.harness_service import HarnessTriad
from flexcore_testing.server_run import READ_S, NodeRun

_SAID = 'REREAD: license file "'


class ChangesFiles:
    """What a Triad can do with other licence files than the one that it began with."""

    _sim: HarnessTriad
    _terms: Terms

    def reread(
        self,
        license: str | os.PathLike[str] | LicenseFile | None = None,
        *,
        features: Mapping[str, int] | None = None,
        server: ServerName | None = None,
    ) -> dict[str, str]:
        """Put another licence file on all three servers, or on *server*, and have it read anew as ``lmreread`` does.

        *license* and *features* are as for :class:`Triad`; HEARTBEAT_INTERVAL and PRIMARY_IS_MASTER stay as they are.
        Returns what each server that runs says of its file, ``{"primary": "reread completed: 1 added", ...}``. One that
        is down reads the new file when it starts, one that is paused when it goes on.

        Raises:
            LicenseError: no server would start with this file, or it does not verify with the keys of the triad.
        """
        file = self._terms.license
        terms = read_terms(
            license, features=features, keys=self._terms.given_keys, heartbeat_interval_s=file.heartbeat_interval_s,
            primary_is_master=file.primary_is_master,
        )  # fmt: skip
        ranks = tuple(Rank) if server is None else (self._rank(server),)
        logged: dict[Rank, int] = {}
        for rank in ranks:
            self._sim.put_file(rank, terms)
            run = self._sim.run_of(rank)
            if run is not None:
                assert isinstance(run, NodeRun)
                logged[rank] = len(run.log)
                run.post(("reread",))
        self._run_for(3 * READ_S)
        return {rank.word: text for rank, since in logged.items() if (text := self._last_word(rank, since))}

    def _last_word(self, rank: Rank, since: int) -> str:
        run = self._sim.run_of(rank)
        lines = run.log[since:] if isinstance(run, NodeRun) else []
        said = [text for _, text in lines if text.startswith(_SAID)]
        return said[-1].removeprefix(_SAID).partition('" ')[2] if said else ""

    def _rank(self, server: ServerName) -> Rank:
        raise NotImplementedError

    def _run_for(self, seconds: float, stop: Callable[[], bool] | None = None) -> bool:
        raise NotImplementedError
