"""Who may speak for which tenant."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from vastar_runtime.config import AccessRule
from vastar_runtime.config.origins import glob
from vastar_runtime.errors import Denied

from .peer import Peer

# Of users, with their groups, and tenants that came lately.
MAX_REMEMBERED = 4096
MAX_NAME_CHARACTERS = 64


class Access:
    """The stage.

    Args:
        rules: none: anybody may speak for any tenant.
    """

    def __init__(self, rules: Sequence[AccessRule]) -> None:
        self._rules = [
            (frozenset(map(int, rule.users)), frozenset(map(int, rule.groups)), rule.tcp, rule.tenants)
            for rule in rules
        ]
        self._allows = lru_cache(MAX_REMEMBERED)(self._judge)

    def check(self, peer: Peer | None, tenant_id: str) -> None:
        """Whether this client may.

        Args:
            peer: None: the kernel does not say who it is; a client on TCP.

        Raises:
            Denied: it may not.
        """
        if not self._rules:
            return
        who = None if peer is None else (peer.uid, (peer.gid, *peer.groups))
        if self._allows(who, tenant_id):
            return
        tenant = repr(tenant_id[:MAX_NAME_CHARACTERS])
        name = "a client on TCP" if peer is None else f"uid {peer.uid}"
        raise Denied(f"{name} may not use tenant {tenant}: no [[access]] of the configuration allows it")

    def _judge(self, who: tuple[int, tuple[int, ...]] | None, tenant_id: str) -> bool:
        """Of a user with its groups; None: on TCP."""
        for users, groups, tcp, tenants in self._rules:
            is_meant = tcp if who is None else who[0] in users or not groups.isdisjoint(who[1])
            if is_meant and any(glob(pattern, tenant_id) for pattern in tenants):
                return True
        return False
