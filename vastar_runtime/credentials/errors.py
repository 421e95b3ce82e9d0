"""Why a secret cannot be had. Nothing here ever quotes what was found in its place."""

from __future__ import annotations

from vastar_runtime.errors import Denied, RuntimeFault


class CredentialError(Denied):
    """A request would need a secret that cannot be had; nothing was sent upstream.

    Args:
        name: the credential's.
        problem: where it should come from, and what is wrong there.
    """

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"credential {name!r} cannot be used: {problem}")


class Unusable(RuntimeFault):
    """What was found is no secret, or nothing was found. ``str()`` goes on after the name of the place."""
