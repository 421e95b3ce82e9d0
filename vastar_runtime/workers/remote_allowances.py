"""A worker's allowances: the supervisor counts, so that token limits and budgets hold over all workers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vastar_runtime.policies.allowance import (
    Allowance,
    AllowanceKey,
    AllowanceRefused,
    Amount,
    Reserved,
    Standing,
)

from .channel import Channel
from .messages import Decided, Reserve, Settle


class RemoteAllowances:
    """See AllowanceBackend."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def reserve(self, allowances: Sequence[Allowance], amount: Amount) -> Reserved | AllowanceRefused:
        """As the protocol says."""
        decided: Decided = await self._channel.ask(Reserve(tuple(allowances), amount), self._undo)
        decision = decided.reserved or decided.refused
        assert decision is not None
        return decision

    def settle(self, reserved: Reserved, used: Amount) -> None:
        """As the protocol says."""
        self._channel.tell(Settle(reserved.id, used))

    async def settle_policies(self, is_set: Callable[[AllowanceKey], bool]) -> None:
        """Nothing is counted here."""

    def standings(self, at_most: int) -> tuple[Standing, ...]:
        """Nothing is counted here."""
        return ()

    def __len__(self) -> int:
        return 0

    def _undo(self, decided: Decided) -> None:
        """Whoever asked has gone."""
        if decided.reserved is not None:
            self.settle(decided.reserved, Amount(0, 0))
