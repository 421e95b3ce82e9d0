"""Settings that must be right."""

from collections.abc import Mapping
from typing import Any

from vastar_runtime.config import Settings, examine


def load(environ: Mapping[str, str], **given: Any) -> Settings:
    """The daemon's, of these variables and flags, or its error."""
    return examine(environ, **given).valid()
