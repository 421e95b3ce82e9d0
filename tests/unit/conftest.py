"""Stages of the pipeline on a clock that the test moves."""

import pytest
from clocks import Clock

from vastar_runtime.policies.circuit_breaker import CircuitBreaker
from vastar_runtime.policies.rate_limit import RateLimiter
from vastar_runtime.policies.token_bucket import LocalBackend


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> CircuitBreaker:
    return CircuitBreaker(clock)


@pytest.fixture
def limiter(clock: Clock) -> RateLimiter:
    return RateLimiter(LocalBackend(clock), clock)
