"""Who is next among many that wait: first come, first served within a key, and the keys in turn."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item", bound=Hashable)


class _Line(Generic[Key, Item]):
    """What waits under one key."""

    __slots__ = ("is_blocked", "items", "key", "turn")

    def __init__(self, key: Key, turn: int) -> None:
        self.key = key
        self.items: OrderedDict[Item, None] = OrderedDict()
        self.turn = turn
        self.is_blocked = False


class FairQueue(Generic[Key, Item]):
    """Items that wait, in lines by key. A key without items holds nothing.

    A line's turn is a number that it draws when it forms, and again each time that it was served; the lowest one is
    next. A blocked line is left out and keeps its number: once unblocked, it goes before all that drew theirs later.
    """

    def __init__(self) -> None:
        self._lines: dict[Key, _Line[Key, Item]] = {}
        # The lines that are not blocked, by turn. A list, as new turns go to its end: only a line that is unblocked
        # again goes into the middle, and moving some thousand pointers is quicker than any tree of Python objects.
        self._ready: list[tuple[int, _Line[Key, Item]]] = []
        # At index n, the lines that are longer than n. The last holds the longest ones, and the sizes of the first n
        # say how many will be served before a newcomer.
        self._levels: list[dict[_Line[Key, Item], None]] = []
        self._turns = 0
        self._size = 0

    def __len__(self) -> int:
        """How many items wait, of all keys."""
        return self._size

    @property
    def longest(self) -> int:
        """How many items the longest line has."""
        return len(self._levels)

    def waiting(self, key: Key) -> int:
        """How many items wait under this key."""
        line = self._lines.get(key)
        return 0 if line is None else len(line.items)

    def ahead_of_newcomer(self, key: Key) -> int:
        """How many items would be taken before one that is pushed now, if no line were blocked."""
        position = self.waiting(key)
        if position + 1 >= len(self._levels):
            return self._size
        return sum(map(len, self._levels[: position + 1]))

    def push(self, key: Key, item: Item) -> None:
        """Put an item at the end of its key's line."""
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = _Line(key, self._next_turn())
            self._ready.append((line.turn, line))
        depth = len(line.items)
        line.items[item] = None
        self._size += 1
        if depth == len(self._levels):
            self._levels.append({})
        self._levels[depth][line] = None

    def remove(self, key: Key, item: Item) -> None:
        """Take out an item that waits no longer; those behind it move up.

        Raises:
            KeyError: it is not in the queue.
        """
        self._remove(self._lines[key], item)

    def block(self, key: Key, is_blocked: bool) -> None:
        """Leave this key out of the turns, or let it take part again; nothing happens if it has no items."""
        line = self._lines.get(key)
        if line is None or line.is_blocked == is_blocked:
            return
        line.is_blocked = is_blocked
        if is_blocked:
            self._leave_turns(line)
        else:
            insort(self._ready, (line.turn, line))

    def take(self) -> tuple[Key, Item] | None:
        """The next item, with its key; None when nothing waits, or only under blocked keys."""
        if not self._ready:
            return None
        line = self._ready[0][1]
        item = next(iter(line.items))
        self._remove(line, item)
        if line.items:
            self._leave_turns(line)
            line.turn = self._next_turn()
            self._ready.append((line.turn, line))
        return line.key, item

    def take_youngest_of_longest(self) -> tuple[Key, Item]:
        """The item that came last in the longest line, with its key; the queue must not be empty.

        Of several longest lines, it is the one that grew so long last.
        """
        line, _ = self._levels[-1].popitem()  # constant in time, which looking at a dict's last key is not
        self._levels[-1][line] = None
        item = next(reversed(line.items))
        self._remove(line, item)
        return line.key, item

    def _remove(self, line: _Line[Key, Item], item: Item) -> None:
        del line.items[item]
        self._size -= 1
        depth = len(line.items)
        level = self._levels[depth]
        del level[line]
        if not level:  # then it was the last one: whoever is in a later level is in this one too
            self._levels.pop()
        if not depth:
            del self._lines[line.key]
            if not line.is_blocked:
                self._leave_turns(line)

    def _leave_turns(self, line: _Line[Key, Item]) -> None:
        del self._ready[bisect_left(self._ready, (line.turn,))]

    def _next_turn(self) -> int:
        self._turns += 1
        return self._turns
