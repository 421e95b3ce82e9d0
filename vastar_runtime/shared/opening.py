"""What the configuration says of shared limits, made to work."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from vastar_runtime.config import SharedLimits
from vastar_runtime.errors import StartupError
from vastar_runtime.policies.allowance import UsedBefore

from .redis_address import RedisAddress
from .unavailable import Fail

if TYPE_CHECKING:
    from .redis_limits import RedisLimits


def redis_limits(
    settings: SharedLimits, password: str | None, *, daemon: str, used_before: UsedBefore | None
) -> RedisLimits:
    """Those that these settings describe; there is a backend among them.

    Args:
        password: the value of the variable that the settings name.
        daemon, used_before: see RedisLimits.

    Raises:
        StartupError: the address is not understood, or what it takes is not installed.
    """
    assert settings.backend is not None
    address = RedisAddress.parse(settings.backend, password)
    try:
        # Late: without Redis nobody needs its client, which takes a third of a second to import.
        from .redis_limits import RedisLimits
    except ModuleNotFoundError as error:
        raise StartupError(
            f"shared_limits.backend needs a package that is not installed ({error.name}): "
            "pip install 'vastar-runtime[redis]'"
        ) from error
    return RedisLimits(
        address, prefix=settings.prefix, daemon=daemon, fail=cast(Fail, settings.fail), used_before=used_before
    )
