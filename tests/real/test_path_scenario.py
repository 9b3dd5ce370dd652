"""The scenario of the search path (tests/scenarios/paths) with three real servers and blocking clients, beside the
simulation: what users are told, what they hold, what each server has out and who waits there has to be the same."""

from __future__ import annotations

import os
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

import flexcore_sync
from flexcore.wire.messages import StatusPage, StatusRequest
from flexcore_testing.scenario import parse_scenario
from flexcore_testing.scenario_path import PathStage, shares_of
from tests.ports import HOSTS
from tests.real.test_path import KEY, Servers
from tests.real.triad import Wire, until

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(os.environ.get("FLEXCORE_SCENARIOS") != "all", reason="of make scenarios: it takes long"),
]

SCENARIOS = sorted((Path(__file__).parents[1] / "scenarios" / "paths").glob("*.txt"))


class RealPathStage:
    """The commands, carried out with processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: list[str] = []
        self.clients: dict[str, flexcore_sync.Client] = {}
        self.prefers: dict[str, str] = {}
        self.waiting: set[str] = set()
        self.heard: Counter[str] = Counter()
        self.servers: Servers | None = None

    def carry_out(self, words: list[str]) -> None:
        """One command that is no question, and lets no time pass."""
        match words:
            case ["servers", *shares]:
                named = shares_of(shares)
                self.names = list(named)
                self.servers = Servers(self.folder, tuple(named.values()))
            case ["run", _]:
                pass
            case ["kill", name]:
                assert self.servers is not None
                self.servers.kill(self.names.index(name))
            case [user, "prefers", order]:
                self.prefers[user] = order
            case [user, "checkin", *which]:
                site = self.names.index(which[0]) if which else None
                next(seat for seat in self.client(user).seats if site in (None, seat.site)).checkin()
            case [user, "queue"]:
                self.client(user).queue("f1", on_change=lambda waiting: self.changed(user, waiting))
            case [user, "checkout", *anywhere]:
                try:
                    seat = self.client(user).checkout("f1", wait_s=60.0)
                except flexcore_sync.CheckoutDenied as denied:
                    self.hear(user, f"is denied: {denied.text} ({denied.code},{denied.minor})")
                else:
                    self.hear(user, "holds a licence" + ("" if anywhere else f" of {self.names[seat.site]}"))
            case _:
                raise AssertionError(words)

    def client(self, user: str) -> flexcore_sync.Client:
        assert self.servers is not None
        if user not in self.clients:
            self.clients[user] = flexcore_sync.connect(
                self.servers.path, keys=[KEY.verifying_key], user=user, prefer=self.prefers.get(user, "path-order"),
                on_loss=lambda seat, _: self.hear(user, f"has lost the licence of {self.names[seat.site]}"),
            )  # fmt: skip
        return self.clients[user]

    def hear(self, user: str, text: str) -> None:
        self.heard[f"{user:<10} {text}"] += 1

    def changed(self, user: str, waiting: flexcore_sync.Waiting) -> None:
        if waiting.seat is not None:
            where = "" if user in self.waiting else f" of {self.names[waiting.seat.site]}"
            self.hear(user, f"holds a licence{where}")
        elif waiting.ahead is not None and user not in self.waiting:
            self.waiting.add(user)
            self.hear(user, "waits")

    def answers(self, question: str) -> list[str]:
        if question == "held?":
            return [f"{user:<10} holds {len(client.seats)}" for user, client in self.clients.items()]
        return [f"{name:<10} {self.at(index)}" for index, name in enumerate(self.names)]

    def has_heard(self, told: Counter[str]) -> bool:
        return self.heard == told

    def has(self, question: str, lines: list[str]) -> bool:
        return self.answers(question) == lines

    def at(self, index: int) -> str:
        """Who holds and who waits at one server."""
        assert self.servers is not None
        if self.servers.processes[index].poll() is not None:
            return "is down"
        wire = Wire(HOSTS[index], self.servers.port)
        try:
            rows = {}
            for seq, what in enumerate(("seats", "queue"), 1):
                page = wire.ask(StatusRequest(seq, what, "", ""))
                assert isinstance(page, StatusPage)
                rows[what] = sorted(row.user for row in (page.seats if what == "seats" else page.queue))
        finally:
            wire.close()
        out = ", ".join(rows["seats"]) or "nobody"
        return f"{out}; {', '.join(rows['queue'])} waits" if rows["queue"] else out

    def close(self) -> None:
        for client in self.clients.values():
            client.close(0.5)
        if self.servers is not None:
            self.servers.close()


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_it_is_with_processes_as_in_the_simulation(path: Path, tmp_path: Path) -> None:
    simulated, real, told = PathStage(), RealPathStage(tmp_path), Counter[str]()
    try:
        for block in parse_scenario(path.read_text(encoding="utf-8")):
            for command in block.commands:
                lines = simulated.run((command,))
                if command.endswith("?"):
                    until(f"{lines}", partial(real.has, command, lines))
                    continue
                told += Counter(line for line in lines if line != "ok")
                real.carry_out(command.split())
                if command.startswith("run"):
                    until(f"{told - real.heard} are told", partial(real.has_heard, told))
        assert real.heard == told
    finally:
        real.close()
