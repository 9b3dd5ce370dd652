"""Faults in any order, by Hypothesis: it looks for a sequence that breaks the product, and shortens what it finds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from flexcore.identity import Rank
from flexcore.override import override
from flexcore_testing.harness import Triad

SERVERS = tuple(rank.word for rank in Rank)

servers = st.sampled_from(SERVERS)
"""The name of a server."""

RECOVERY_TIMEOUTS = 3.0
"""How many timeouts of the triad may pass after all faults until a server serves: promises and pauses that overlap."""

RECOVERY_S = 10.0


class TriadMachine(RuleBasedStateMachine):
    """A Hypothesis state machine whose rules hurt a simulated triad; subclass it and add what the product does.

    ``self.triad`` is the :class:`flexcore_testing.Triad`, made with *triad_arguments*. After every step its ``check()``
    is called. Within the rules everything stays inside what the triad promises to survive. At the end of each run
    :meth:`recover` undoes all faults, and :meth:`recovered` may say what the product must be able to do then.
    """

    triad_arguments: ClassVar[Mapping[str, Any]] = {}
    """The arguments of the triad; a subclass sets its own."""

    def __init__(self) -> None:
        super().__init__()
        self.triad = Triad(**self.triad_arguments)

    # --- faults ---------------------------------------------------------------------------------------------------

    @initialize()
    def settle(self) -> None:
        """Begin with a triad that has been up for some time."""
        self.triad.advance(self.triad.timeout_s)

    @rule(server=servers)
    def crash_or_start(self, server: str) -> None:
        """A server that runs crashes, one that is down starts, one that is paused crashes, too."""
        if self.triad.state(server) == "down":
            self.triad.start(server)
        else:
            self.triad.crash(server)

    @rule(server=servers)
    def pause_or_resume(self, server: str) -> None:
        """A server that runs is frozen, a frozen one goes on."""
        state = self.triad.state(server)
        if state == "paused":
            self.triad.resume(server)
        elif state != "down":
            self.triad.pause(server)

    @rule(server=servers)
    def stop_in_order(self, server: str) -> None:
        """A server that runs is told to stop."""
        if self.triad.state(server) not in ("down", "paused"):
            self.triad.stop(server)

    @rule(ends=st.permutations(SERVERS), one_way=st.booleans())
    def cut(self, ends: list[str], one_way: bool) -> None:
        """The network between two servers is cut."""
        self.triad.cut(ends[0], ends[1], one_way=one_way)

    @rule()
    def heal(self) -> None:
        """The network is whole again."""
        self.triad.heal()

    @precondition(lambda self: self._all_take_part())
    @rule(server=servers)
    def replace_disk(self, server: str) -> None:
        """A server crashes, and its disk is replaced, while both others take part."""
        self.triad.crash(server)
        self.triad.lose_disk(server)

    @rule(share=st.sampled_from((0.0001, 0.01, 0.1, 0.5, 1.1, 2.0)))
    def time_passes(self, share: float) -> None:
        """Some of the triad's timeout passes, or more than that."""
        self.triad.advance(share * self.triad.timeout_s)

    @rule()
    def a_lease_passes(self) -> None:
        """So much time passes that clients lose what no server confirms."""
        self.triad.advance(1.05 * self.triad.lease_s)

    @invariant()
    def promises_hold(self) -> None:
        """Every promise of the protocol holds."""
        self.triad.check()

    # --- the end --------------------------------------------------------------------------------------------------

    def recover(self) -> None:
        """Undo all faults, and wait until somebody serves."""
        self.triad.heal()
        for server in SERVERS:
            state = self.triad.state(server)
            if state == "paused":
                self.triad.resume(server)
            elif state == "down":
                self.triad.start(server)
        self.triad.wait_for_master(RECOVERY_TIMEOUTS * self.triad.timeout_s + RECOVERY_S)

    def recovered(self) -> None:
        """What must be so after all faults are over; a subclass says it."""

    @override
    def teardown(self) -> None:
        if self.triad.broken:
            return  # the step that broke it has been told
        self.recover()
        self.recovered()
        self.triad.check()

    def _all_take_part(self) -> bool:
        return all(self.triad.state(server) in ("serving", "follower") for server in SERVERS)
