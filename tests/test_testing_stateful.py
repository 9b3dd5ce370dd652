"""TriadMachine: Hypothesis looks for faults that break a product."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import invariant, rule, run_state_machine_as_test

from flexcore.errors import CheckoutDenied, ServerError
from flexcore.override import override
from flexcore_testing import TriadMachine, Violation

QUICK = settings(
    max_examples=5, stateful_step_count=15, deadline=None, database=None, derandomize=True,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip


class TwoUsers(TriadMachine):
    """A product that holds one licence of two, and looks whether it does."""

    triad_arguments = {"features": {"f1": 2}, "heartbeat_interval_s": 1}
    believes_for_ever = False

    def __init__(self):
        super().__init__()
        self.seats = {}

    @rule()
    def ann_opens(self):
        self.open("ann")

    @rule()
    def bob_opens(self):
        self.open("bob")

    def open(self, name):
        with contextlib.suppress(CheckoutDenied, ServerError):
            self.seats[name] = self.triad.client(name).checkout("f1", wait_s=1)

    def may_save(self, name):
        return name in self.seats and (self.believes_for_ever or self.seats[name].held)

    @invariant()
    def nobody_saves_without_a_licence(self):
        for name, seat in self.seats.items():
            assert not self.may_save(name) or seat.held

    @override
    def recovered(self):
        self.triad.advance(2 * self.triad.lease_s)
        for seat in self.seats.values():
            seat.checkin()
        self.triad.client("cid").checkout("f1")


def test_a_right_product_stands_all_of_it():
    run_state_machine_as_test(TwoUsers, settings=QUICK)


def test_a_careless_product_is_found_out():
    """Steps that such a product falls over, by hand: Hypothesis takes half a minute to find some."""
    machine = TwoUsers()
    machine.believes_for_ever = True
    machine.settle()
    machine.ann_opens()
    machine.crash_or_start("primary")
    machine.pause_or_resume("tertiary")
    machine.nobody_saves_without_a_licence()
    machine.a_lease_passes()
    machine.promises_hold()
    with pytest.raises(AssertionError):
        machine.nobody_saves_without_a_licence()
    machine.teardown()
    assert machine.triad.master is not None
    assert machine.triad.state("tertiary") == "follower"


def test_a_broken_promise_is_told_by_the_step_that_broke_it():
    class Forgetful(TwoUsers):
        @rule()
        def a_server_forgets(self):
            run = self.triad._sim.master()
            if run is not None:
                run.ledger.state.seats.clear()

    with pytest.raises(Violation, match=r"I4: (ann|bob) believes in handle"):
        run_state_machine_as_test(Forgetful, settings=settings(QUICK, max_examples=100, phases=[Phase.generate]))
