"""How things are called in Redis."""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import sha256

# Of a longer one all but the first part is a digest: tenants choose theirs.
MAX_NAME_BYTES = 200


def name_in_redis(parts: Sequence[str | None]) -> str:
    """A name that says what it is about, unless that is too long; no two are alike.

    Args:
        parts: the first one is of the configuration.
    """
    text = json.dumps(parts)
    return text if len(text) <= MAX_NAME_BYTES else f"{parts[0]}:{sha256(text.encode()).hexdigest()}"
