"""Under which names things are counted: what one tenant thinks of costs no other tenant its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .batch import OTHER, UsageKey, named, of_tenant

# Models at origins that are counted apart in an hour: of one tenant; of all tenants that were seen before (a thousand
# with three models at three origins fit); and of all others.
MAX_KEYS_OF_TENANT = 200
MAX_KEYS_OF_KNOWN = 10_000
MAX_KEYS_OF_NEWCOMERS = 2_048
# Tenants that are seen for the first time in an hour, and have a name of their own.
MAX_NEWCOMERS = 2_048
# Tenants that were seen before, and have a name of their own, besides those of the configuration.
MAX_KNOWN = 8_192


class Names:
    """Of one process. So many rows an hour come into the file: MAX_KEYS_OF_KNOWN + MAX_KEYS_OF_NEWCOMERS, and one for
    each tenant with a name.

    A tenant of the configuration always keeps its name, and so does one that was seen in an hour before, while there
    are MAX_KNOWN of those; then those go that were seen in the fewest hours.
    """

    def __init__(self) -> None:
        self._kept: frozenset[str] = frozenset()
        self._known: dict[str, int] = {}  # in how many hours
        self._hour = -1
        self._begin_hour()

    def keep(self, tenant_ids: Iterable[str]) -> None:
        """The configuration names these tenants, and no others."""
        self._kept = frozenset(map(named, tenant_ids))

    def recall(self, tenants: Mapping[str, int]) -> None:
        """These were seen before this process began, in so many hours."""
        for tenant_id, hours in tenants.items():
            self._known[tenant_id] = self._known.get(tenant_id, 0) + hours
        self._forget()

    def is_known(self, tenant_id: str) -> bool:
        """It keeps its name."""
        return tenant_id in self._known or tenant_id in self._kept

    def key_of(self, key: UsageKey) -> UsageKey:
        """The key, or one that it shares with others.

        Args:
            key: its names are as long as they may be.
        """
        if key.hour != self._hour:
            for tenant_id in self._keys_of_tenant:
                self._known[tenant_id] = self._known.get(tenant_id, 0) + 1
            self._forget()
            self._hour = key.hour
            self._begin_hour()
        if key in self._keys:
            return key
        tenant_id, is_known = key.tenant_id, self.is_known(key.tenant_id)
        count = self._keys_of_tenant.get(tenant_id)
        if count is None:
            if not is_known:
                if self._newcomers >= MAX_NEWCOMERS:
                    return UsageKey(key.hour, OTHER, OTHER, OTHER)
                self._newcomers += 1
            count = self._keys_of_tenant[tenant_id] = 0
        if count >= MAX_KEYS_OF_TENANT or not self._room[is_known]:
            return of_tenant(key)
        self._room[is_known] -= 1
        self._keys_of_tenant[tenant_id] = count + 1
        self._keys.add(key)
        return key

    def _begin_hour(self) -> None:
        self._keys: set[UsageKey] = set()
        self._keys_of_tenant: dict[str, int] = {}
        self._newcomers = 0
        self._room = {True: MAX_KEYS_OF_KNOWN, False: MAX_KEYS_OF_NEWCOMERS}

    def _forget(self) -> None:
        if len(self._known) > MAX_KNOWN:
            # Of two that were seen as often, the one that has been known for longer stays.
            longest = sorted(self._known.items(), key=lambda item: item[1], reverse=True)[:MAX_KNOWN]
            self._known = dict(longest)
