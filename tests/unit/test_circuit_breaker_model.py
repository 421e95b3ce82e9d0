"""Any order of requests, results and time: one probe at a time, none before its time, closed after a success."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from vastar_runtime.config.policy import CircuitBreakerPolicy
from vastar_runtime.errors import RequestError
from vastar_runtime.policies.circuit_breaker import CircuitBreaker, Permit

TENANTS = ("t", "u")
ORIGIN = "https://a.example"
POLICY = CircuitBreakerPolicy(consecutive_failures=3, open_ms=1_000, max_open_ms=4_000)


class Expected:
    """What one tenant's circuit must be doing, told in the words of the documentation."""

    def __init__(self) -> None:
        self.sent: list[Permit] = []  # since it last opened, and not answered
        self.late: list[Permit] = []  # sent before that
        self.overdue: list[Permit] = []  # probes of this opening that were replaced
        self.probe: Permit | None = None
        self.probe_sent_at_ms = 0
        self.failures = 0
        self.open_ms = 0
        self.probe_at_ms: int | None = None  # None: closed

    def closes(self) -> None:
        self.failures, self.probe_at_ms = 0, None
        self.late += self.overdue
        self.overdue = []

    def opens(self, now_ms: int, open_ms: int) -> None:
        self.open_ms = open_ms
        self.probe_at_ms = now_ms + open_ms
        self.late += self.sent + self.overdue
        self.overdue = []
        self.sent = []


class Breaker(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now_ms = 1_000_000
        self.breaker = CircuitBreaker(lambda: self.now_ms / 1000)
        self.expected = {tenant: Expected() for tenant in TENANTS}

    @rule(ms=st.sampled_from([1, 10, 499, 500, 999, 1000, 4000, 60_000]))
    def time_passes(self, ms: int) -> None:
        self.now_ms += ms

    @rule(tenant=st.sampled_from(TENANTS))
    def request(self, tenant: str) -> None:
        expected = self.expected[tenant]
        if expected.probe_at_ms is None:
            expected.sent.append(self.breaker.permit(POLICY, tenant, ORIGIN))
        elif expected.probe is not None:
            overdue_in_ms = expected.probe_sent_at_ms + expected.open_ms - self.now_ms
            if overdue_in_ms <= 0:
                expected.overdue.append(expected.probe)
                self.probe(expected, tenant)
                return
            with pytest.raises(RequestError, match="unless the one under way succeeds") as refused:
                self.breaker.permit(POLICY, tenant, ORIGIN)
            assert refused.value.retry_after_ms == min(1000, overdue_in_ms)
        elif self.now_ms < expected.probe_at_ms:
            with pytest.raises(RequestError) as caught:
                self.breaker.permit(POLICY, tenant, ORIGIN)
            assert caught.value.retry_after_ms == expected.probe_at_ms - self.now_ms
        else:
            self.probe(expected, tenant)

    def probe(self, expected: Expected, tenant: str) -> None:
        expected.probe = self.breaker.permit(POLICY, tenant, ORIGIN)
        expected.probe_sent_at_ms = self.now_ms

    @rule(tenant=st.sampled_from(TENANTS), times=st.integers(1, 4))
    def requests_fail(self, tenant: str, times: int) -> None:
        for _ in range(times):
            if self.expected[tenant].probe_at_ms is None:
                self.request(tenant)
                self.answer(tenant, "failed", -1)

    @precondition(lambda self: any(expected.sent for expected in self.expected.values()))
    @rule(data=st.data(), told=st.sampled_from(["succeeded", "failed", "failed_otherwise", "abandoned"]))
    def a_request_ends(self, data: st.DataObject, told: str) -> None:
        tenant = data.draw(st.sampled_from([tenant for tenant in TENANTS if self.expected[tenant].sent]))
        self.answer(tenant, told, data.draw(st.integers(0, len(self.expected[tenant].sent) - 1)))

    def answer(self, tenant: str, told: str, index: int) -> None:
        expected = self.expected[tenant]
        permit = expected.sent.pop(index)
        if told == "failed":
            permit.failed("503")
            expected.failures += 1
            if expected.failures == POLICY.consecutive_failures:
                expected.opens(self.now_ms, POLICY.open_ms)
        elif told == "succeeded":
            permit.succeeded()
            expected.failures = 0
        else:
            if told == "failed_otherwise":
                permit.failed_otherwise("not counted")
            permit.abandoned()

    @precondition(lambda self: any(expected.late for expected in self.expected.values()))
    @rule(data=st.data(), told=st.sampled_from(["succeeded", "failed", "failed_otherwise", "abandoned"]))
    def a_late_result_comes(self, data: st.DataObject, told: str) -> None:
        tenant = data.draw(st.sampled_from([tenant for tenant in TENANTS if self.expected[tenant].late]))
        late = self.expected[tenant].late
        permit = late.pop(data.draw(st.integers(0, len(late) - 1)))
        getattr(permit, told)(*(["too late"] if told.startswith("failed") else []))

    @precondition(lambda self: any(expected.overdue for expected in self.expected.values()))
    @rule(data=st.data(), told=st.sampled_from(["succeeded", "failed", "failed_otherwise", "abandoned"]))
    def a_probe_that_was_replaced_ends(self, data: st.DataObject, told: str) -> None:
        tenant = data.draw(st.sampled_from([tenant for tenant in TENANTS if self.expected[tenant].overdue]))
        expected = self.expected[tenant]
        permit = expected.overdue.pop(data.draw(st.integers(0, len(expected.overdue) - 1)))
        getattr(permit, told)(*(["too late"] if told.startswith("failed") else []))
        if told == "succeeded" and expected.probe is not None:
            expected.late.append(expected.probe)
            expected.probe = None
            expected.closes()

    @precondition(lambda self: any(expected.probe for expected in self.expected.values()))
    @rule(data=st.data(), told=st.sampled_from(["succeeded", "failed", "failed_otherwise", "abandoned"]))
    def a_probe_ends(self, data: st.DataObject, told: str) -> None:
        tenant = data.draw(st.sampled_from([tenant for tenant in TENANTS if self.expected[tenant].probe]))
        expected = self.expected[tenant]
        probe, expected.probe = expected.probe, None
        assert probe is not None
        if told == "succeeded":
            probe.succeeded()
            expected.closes()
        elif told.startswith("failed"):
            getattr(probe, told)("503")
            expected.failures += 1
            expected.opens(self.now_ms, min(2 * expected.open_ms, POLICY.max_open_ms))
        else:
            probe.abandoned()
            expected.probe_at_ms = self.now_ms

    @invariant()
    def how_long_it_refuses_is_known(self) -> None:
        for tenant, expected in self.expected.items():
            is_open = expected.probe_at_ms is not None and expected.probe is None
            refuses_for_s = max(0, (expected.probe_at_ms or 0) - self.now_ms) / 1000 if is_open else 0
            assert self.breaker.refuses_for_s(tenant, ORIGIN) == pytest.approx(refuses_for_s)

    @invariant()
    def the_status_says_the_same(self) -> None:
        shown = {circuit.tenant_id: circuit for circuit in self.breaker.statistics().circuits}
        for tenant, expected in self.expected.items():
            assert (tenant in shown) == (expected.probe_at_ms is not None)
            if expected.probe_at_ms is not None:
                assert shown[tenant].state.value == ("half-open" if expected.probe else "open")
                assert shown[tenant].next_probe_in_ms == max(0, expected.probe_at_ms - self.now_ms)
                assert shown[tenant].failures == expected.failures
                assert shown[tenant].last_reason == "503"


TestBreaker = Breaker.TestCase
TestBreaker.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
