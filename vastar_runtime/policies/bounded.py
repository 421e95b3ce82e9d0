"""A table whose keys clients choose: it keeps to its limit, and forgets only what may be forgotten."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
State = TypeVar("State")

# Tenants that are limited, or circuits with failures, at once: 20 to 50 MiB when all are taken.
MAX_KEYS = 65_536
# The most that one call looks at, so that no request pays for a sweep of the table.
LOOKED_AT = 8


class BoundedTable(Generic[Key, State]):
    """States by key, at most ``max_keys``.

    Only a full table forgets. It looks at the least recently used state: an idle one goes, another is moved to the
    other end and the next is looked at, as the hand of a clock goes round. Each step forgets what one ``put`` has
    brought, or is one of at most LOOKED_AT, so a call's work is bounded whatever the table holds. An idle state that
    the hand has not come to yet may keep its place for a while; the caller must do without room for so long.

    Args:
        max_keys: at least 1.
        is_idle: whether a state may be forgotten at a time, in nanoseconds of the caller's clock.
        on_gone: told of each key that has no state any more.
    """

    def __init__(
        self,
        max_keys: int,
        is_idle: Callable[[State, int], bool],
        on_gone: Callable[[Key], None] | None = None,
    ) -> None:
        self._max_keys = max_keys
        self._is_idle = is_idle
        self._on_gone = on_gone
        # No plain dict: finding the first key of one that loses its first keys takes longer each time.
        self._states: OrderedDict[Key, State] = OrderedDict()

    def __len__(self) -> int:
        return len(self._states)

    def __contains__(self, key: Key) -> bool:
        return key in self._states

    def get(self, key: Key) -> State | None:
        """The key's state, which is now the one used last; None: it has none."""
        state = self._states.get(key)
        if state is not None:
            self._states.move_to_end(key)
        return state

    def make_room(self, wanted: int, now_ns: int) -> int:
        """Forget idle states until there is room for so many; how many there is room for, which may be fewer."""
        for _ in range(LOOKED_AT):
            if self._max_keys - len(self._states) >= wanted or not self._states:
                break
            key, state = next(iter(self._states.items()))
            if self._is_idle(state, now_ns):
                self.remove(key)
            else:
                self._states.move_to_end(key)
        return self._max_keys - len(self._states)

    def put(self, key: Key, state: State) -> None:
        """Set the key's state; for a new key there must be room."""
        self._states[key] = state
        assert len(self._states) <= self._max_keys

    def remove(self, key: Key) -> None:
        """Forget the key, if it has a state."""
        if self._states.pop(key, None) is not None and self._on_gone is not None:
            self._on_gone(key)

    def latest(self) -> Iterator[tuple[Key, State]]:
        """All keys and states, the one used last first."""
        return reversed(self._states.items())
