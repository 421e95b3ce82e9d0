"""A worker's admission: it asks the supervisor for places, but where nothing is limited it asks nobody."""

from __future__ import annotations

from collections.abc import Iterator

from vastar_runtime.config import Policies, Settings
from vastar_runtime.config.policy import ConcurrencyPolicy

from .channel import Channel
from .messages import Enter, Entered, Left


class _Place:
    """Leave to run."""

    __slots__ = ("_admission", "number", "tenant_id")

    def __init__(self, admission: RemoteAdmission, tenant_id: str, number: int) -> None:
        self._admission: RemoteAdmission | None = admission
        self.tenant_id = tenant_id
        self.number = number  # by which the supervisor knows it; 0: it does not

    def release(self) -> None:
        """Give it back; more than once does no harm."""
        admission, self._admission = self._admission, None
        if admission is not None:
            admission._leave(self)


class RemoteAdmission:
    """The stage.

    Args:
        numbers: of what this worker holds.

    Attributes:
        admitted: requests that nobody was asked about, since the start.
    """

    def __init__(self, settings: Settings, channel: Channel, numbers: Iterator[int]) -> None:
        self._channel = channel
        self._numbers = numbers
        self._is_limited_in_all = settings.admission.max_concurrent is not None
        self._unlimited: set[_Place] = set()
        self.admitted = 0

    @property
    def running(self) -> int:
        """Requests that nobody was asked about, now."""
        return len(self._unlimited)

    def configure(self, settings: Settings, policies: Policies) -> None:
        """Other limits hold from now on. Those that run where there was none count for one that there is now."""
        self._is_limited_in_all = settings.admission.max_concurrent is not None
        for place in list(self._unlimited):
            policy = policies.concurrency_for(place.tenant_id)
            if self._is_limited(policy):
                self._unlimited.remove(place)
                place.number = next(self._numbers)
                self._channel.tell(Entered(place.number, policy, place.tenant_id))

    def try_enter(self, policy: ConcurrencyPolicy, tenant_id: str) -> _Place | None:
        """See Admission; None also where the supervisor must be asked."""
        if self._is_limited(policy):
            return None
        place = _Place(self, tenant_id, 0)
        self._unlimited.add(place)
        self.admitted += 1
        return place

    async def enter(self, policy: ConcurrencyPolicy, tenant_id: str, remaining_s: float) -> _Place:
        """See Admission."""
        if (place := self.try_enter(policy, tenant_id)) is not None:
            return place
        number = next(self._numbers)
        question = Enter(number, policy, tenant_id, remaining_s)
        await self._channel.ask(question, lambda _: self._channel.tell(Left(number)))
        return _Place(self, tenant_id, number)

    def _is_limited(self, policy: ConcurrencyPolicy) -> bool:
        return self._is_limited_in_all or policy.max_per_tenant is not None

    def _leave(self, place: _Place) -> None:
        if place.number:
            self._channel.tell(Left(place.number))
        else:
            self._unlimited.remove(place)
