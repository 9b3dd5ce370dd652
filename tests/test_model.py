"""Pools, options, queue, linger, lmremove, TIMEOUT, borrowing, rereads, failovers and restarts together, against the
slow model of tests/slow_model.py.

CI looks at a few histories; ``FLEXCORE_EXAMPLES=20 python -m pytest tests/test_model.py`` at twenty times as many, each
time others. What it would notice: ``python -m tests.model_mutants``.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.budget import examples
from tests.model_machine import TriadAndModel

RUN = settings(
    max_examples=examples(8), stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
)


def test_the_triad_does_what_the_model_says():
    run_state_machine_as_test(TriadAndModel, settings=RUN)
