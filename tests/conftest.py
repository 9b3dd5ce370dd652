"""For all tests: Hypothesis looks for wrong answers, never for slow ones (a busy machine is no failure)."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("flexcore", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("flexcore")
