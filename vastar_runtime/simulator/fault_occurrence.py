"""Which requests a fault happens to, of all that ask for it."""

import hashlib
import random
from collections import OrderedDict

from .faults import Fault

# Different requests that are counted for ``first``. The one that was not seen for the longest time is forgotten.
MAX_COUNTED = 10_000


class Occurrence:
    """Draws for ``rate`` and counts for ``first``."""

    def __init__(self, seed: int | None) -> None:
        """With the same seed the same requests are hit, if they come in the same order; None: others in each run."""
        self._random = random.Random(seed)
        self._seen: OrderedDict[bytes, int] = OrderedDict()

    def happens(self, fault: Fault, method: str, target: bytes, body: bytes) -> bool:
        """Whether the fault happens to this request; to be asked once.

        Args:
            target: path and query.
            body: only its beginning, if it is a very long one.
        """
        if fault.rate is not None:
            return self._random.random() < fault.rate
        if fault.first is not None:
            return self._count(_digest(fault.text.encode(), method.encode(), target, body)) <= fault.first
        return True

    def forget(self) -> None:
        """Count from the start again; ``rate`` goes on where it is."""
        self._seen.clear()

    def _count(self, key: bytes) -> int:
        count = self._seen.pop(key, 0) + 1
        self._seen[key] = count
        if len(self._seen) > MAX_COUNTED:
            self._seen.popitem(last=False)
        return count


def _digest(*parts: bytes) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        # The length keeps "a" + "bc" apart from "ab" + "c".
        digest.update(b"%d:%b" % (len(part), part))
    return digest.digest()
