"""Where requests may go.

A host that is a name says little about where it leads: names are judged by the addresses that they are found at, right
before one of those is connected to, and whenever a connection that was kept is used again.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache

from vastar_runtime.config.networks import Network, rule_of
from vastar_runtime.config.origins import OriginPattern, Target, split_origin
from vastar_runtime.config.policy import EgressPolicy
from vastar_runtime.errors import EgressDenied

from .address_kinds import Kind, special_kind
from .carried_addresses import perhaps_reached, reached
from .network_table import Address, NetworkTable

# Policies that differ, of all scopes; and origins, and addresses of origins, that came lately: some hundred bytes each.
MAX_GUARDS = 256
MAX_REMEMBERED = 4096


def address_guard(policy: EgressPolicy, origin: str) -> EgressGuard | None:
    """What the addresses of an origin are to be judged by.

    Args:
        origin: as policies go by it.

    Returns:
        None: whatever its address is, it may be connected to.

    Raises:
        EgressDenied: the origin alone is enough to deny it.
    """
    if not policy.limits_anything:
        return None
    guard = _guard(policy)
    if (refusal := _origin_refusal(guard, origin)) is not None:
        raise EgressDenied(refusal)
    return guard if guard.judges_addresses else None


class EgressGuard:
    """A policy's rules, taken apart.

    Attributes:
        judges_addresses: whether there is any rule that needs to know them.
    """

    def __init__(self, policy: EgressPolicy) -> None:
        self._allows_all = policy.allow is None
        self._allow_origins, allow_networks = _taken_apart(policy.allow or ())
        self._deny_origins, deny_networks = _taken_apart(policy.deny)
        self._allow_networks = NetworkTable((network, network) for network in allow_networks)
        self._deny_networks = NetworkTable((network, network) for network in deny_networks)
        self._has_allow_networks = bool(allow_networks)
        self._denies_private = policy.private == "deny"
        # Of origins whose host is an address that address is meant, whatever name leads there.
        self._allow_addresses = _by_address(self._allow_origins)
        self._deny_addresses = _by_address(self._deny_origins)
        self.judges_addresses = bool(allow_networks or deny_networks or self._deny_addresses) or self._denies_private

    def refusal(self, origin: str, address: str) -> str | None:
        """Why a connection to this origin must not go to this address; None: it may."""
        return _address_refusal(self, origin, address)

    def judge_origin(self, origin: str) -> str | None:
        """As far as the origin tells; wholly, if its host is an address."""
        target = split_origin(origin)
        for pattern in self._deny_origins:
            if pattern.matches(target):
                return _denied(origin, None, f'it matches "{pattern}" of egress.deny')
        if (address := _literal(target.host)) is not None:
            return self._judge(origin, target, address)
        if not self._has_allow_networks and not self._allows_origin(target):
            return _denied(origin, None, "it is not in egress.allow")
        return None

    def judge_address(self, origin: str, address: str) -> str | None:
        """An origin that has passed ``judge_origin`` and leads to this address."""
        try:
            parsed = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return _denied(origin, address[:64], "this is no IP address")
        return self._judge(origin, split_origin(origin), parsed)

    def _judge(self, origin: str, target: Target, address: Address) -> str | None:
        shown = None if _literal(target.host) == address else str(address)
        for place in perhaps_reached(address):
            if (denied := self._deny_networks.find(place)) is not None:
                return _denied(origin, shown, f'{_which(place, address)} in "{denied}" of egress.deny')
            for pattern in self._deny_addresses.get(place, ()):
                if _is_at(pattern, target):
                    return _denied(origin, shown, f'{_which(place, address)} that of "{pattern}" of egress.deny')
        if self._denies_private:
            for place in reached(address):
                kind = special_kind(place)
                if kind is None or self._opens(kind, place) or self._names(target, address):
                    continue
                return _denied(origin, shown, f'{_which(place, address)} {kind}, and egress.private is "deny"')
        if not self._allows_origin(target):
            for place in reached(address):
                if self._allow_networks.find(place) is None:
                    return _denied(origin, shown, f"{_which(place, address)} not in egress.allow")
        return None

    def _allows_origin(self, target: Target) -> bool:
        return self._allows_all or any(pattern.matches(target) for pattern in self._allow_origins)

    def _opens(self, kind: Kind, place: Address) -> bool:
        """Whether a network in allow is an exception for this address. That of clouds' secrets must be named itself:
        it lies in networks that are opened for something else."""
        network = self._allow_networks.find(place)
        return network is not None and (not kind.is_metadata or network.prefixlen == network.max_prefixlen)

    def _names(self, target: Target, address: Address) -> bool:
        """Whether an origin is allowed whose host is that very address."""
        return any(pattern.matches(target) for pattern in self._allow_addresses.get(address, ()))


_guard = lru_cache(MAX_GUARDS)(EgressGuard)
_origin_refusal = lru_cache(MAX_REMEMBERED)(EgressGuard.judge_origin)
_address_refusal = lru_cache(MAX_REMEMBERED)(EgressGuard.judge_address)


def _taken_apart(rules: tuple[str, ...]) -> tuple[list[OriginPattern], list[Network]]:
    origins: list[OriginPattern] = []
    networks: list[Network] = []
    for rule in map(rule_of, rules):
        if isinstance(rule, OriginPattern):
            origins.append(rule)
        else:
            networks.append(rule)
    return origins, networks


def _by_address(patterns: list[OriginPattern]) -> dict[Address, list[OriginPattern]]:
    """Those whose host is an address, by all that this is."""
    found: dict[Address, list[OriginPattern]] = {}
    for pattern in patterns:
        if (named := _literal(pattern.host)) is not None:
            for address in dict.fromkeys((named, *reached(named))):
                found.setdefault(address, []).append(pattern)
    return found


def _is_at(pattern: OriginPattern, target: Target) -> bool:
    """Whether scheme and port are meant, whatever the host."""
    return pattern._replace(host="*").matches(target)


def _literal(host: str) -> Address | None:
    """The address that an origin's host is; None: it is a name."""
    if not host or not (host[0] == "[" or host[-1].isdigit()):
        return None
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None


def _which(place: Address, address: Address) -> str:
    return "it is" if place == address else f"it leads to {place}, which is"


def _denied(origin: str, address: str | None, why: str) -> str:
    place = origin if address is None else f"{origin} ({address})"
    return f"egress denies {place}: {why}"
