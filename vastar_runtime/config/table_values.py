"""What the keys of the tables may be set to that are not the pipeline's: lists, names, secrets' places, money.

Every ValueError's text goes after the key. What may be a secret, put where its place is to be named, is never quoted.
"""

from __future__ import annotations

import grp
import ipaddress
import os
import pwd
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

from .networks import parse_rule
from .origins import parse_pattern
from .policy import EgressPolicy
from .quoting import quoted
from .settings import Listen, SharedLimits, Usage, Value
from .tables import AccessRule, Budget, Credential, Price

MAX_ITEMS = 1000
MAX_TOLD = 5  # of the mistakes in one array
MAX_NAME_CHARACTERS = 64
MAX_PRICE = 1_000_000
MAX_COST = 4_000_000  # in 10**-9 of a currency it must be counted exactly in a double
MAX_TOKENS = 10**15

_NAME = re.compile(rf"[A-Za-z0-9_.-]{{1,{MAX_NAME_CHARACTERS}}}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,128}")  # RFC 9110, section 5.6.2
_MAX_PATTERN_CHARACTERS = 256
_OWN_DOMAIN = re.compile(r"[^*]*(?:\*[^*]*)*\*[^.*]*(?:\.[^.*]+){2,}")
# Those tell how a request is framed or where it goes: with another value it would be another request.
_NOT_A_SECRET = ("host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer")


def is_loopback_host(host: str) -> bool:
    """Whether an origin's host can only mean this machine; ``localhost`` should, and is looked at once it is connected.

    Args:
        host: in lower case; IPv6 with or without brackets.
    """
    if host == "localhost" or host.endswith(".localhost"):  # RFC 6761, section 6.3
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


# --- lists ---


def _list(
    read_item: Callable[[object], str], what: str, *, may_be_empty: bool = False
) -> Callable[[object, str], Value]:
    def read_all(found: object, or_none: str) -> Value:
        allowed = f"an array of {what}{or_none}"
        if not isinstance(found, list):
            hint = f"; write [{quoted(found)}]" if isinstance(found, str) and found != "none" else ""
            raise ValueError(f"found {quoted(found)}; allowed: {allowed}{hint}")
        if not found and not may_be_empty:
            raise ValueError(f"it is empty; allowed: {allowed}")
        if len(found) > MAX_ITEMS:
            raise ValueError(f"it holds {len(found)}; allowed: at most {MAX_ITEMS}")
        read: dict[str, None] = {}
        wrong: list[str] = []
        for item in found:
            try:
                read[read_item(item)] = None
            except ValueError as error:
                wrong.append(str(error))
        if wrong:
            more = f"; and {len(wrong) - MAX_TOLD} more of them" if len(wrong) > MAX_TOLD else ""
            raise ValueError("; and ".join(wrong[:MAX_TOLD]) + more)
        return tuple(read)

    return read_all


def _rule(found: object) -> str:
    return str(parse_rule(found))


def _pattern(found: object) -> str:
    if not isinstance(found, str) or len(found) > _MAX_PATTERN_CHARACTERS:
        raise ValueError(f"found {quoted(found)}; allowed: strings of up to {_MAX_PATTERN_CHARACTERS} characters")
    return re.sub(r"\*+", "*", found)


def _user(found: object) -> str:
    return _account(found, "user", lambda name: pwd.getpwnam(name).pw_uid)


def _group(found: object) -> str:
    return _account(found, "group", lambda name: grp.getgrnam(name).gr_gid)


def _account(found: object, kind: str, look_up: Callable[[str], int]) -> str:
    """Its number: names are looked up when the file is read, and not once a request waits."""
    if isinstance(found, int) and not isinstance(found, bool) and 0 <= found < 2**32 - 1:
        return str(found)
    if not isinstance(found, str) or not found or "\0" in found:
        raise ValueError(f"found {quoted(found)}; allowed: names and numbers of {kind}s")
    if found.isascii() and found.isdigit():
        if len(found) > 10 or int(found) >= 2**32 - 1:
            raise ValueError(f"found {quoted(found)}; a {kind}'s number is below 4294967295")
        return str(int(found))
    try:
        return str(look_up(found))
    except (KeyError, UnicodeEncodeError) as error:
        raise ValueError(f"there is no {kind} {quoted(found)} on this machine") from error


def _credential_origin(found: object) -> str:
    pattern = parse_pattern(found)
    if "*" in pattern.host and not _OWN_DOMAIN.fullmatch(pattern.host):
        raise ValueError(
            f"found {quoted(found)}; whoever has such a name would get the secret: "
            'after its last * a host needs a domain of at least two parts, as in "https://*.example.com"'
        )
    if pattern.scheme == "https" or (pattern.scheme == "http" and is_loopback_host(pattern.host)):
        return str(pattern)
    port = f":{pattern.port}" if pattern.port not in ("", "80") else ""
    raise ValueError(
        f"found {quoted(found)}; a secret goes over https, or over http to this machine: "
        f"write {quoted(f'https://{pattern.host}{port}')}"
    )


# --- single ones ---


def _ip_address(found: object, _or_none: str) -> Value:
    try:
        if not isinstance(found, str):
            raise ValueError("no string")
        address = ipaddress.ip_address(found)
        if isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None:
            raise ValueError("a zone")
    except ValueError as error:
        raise ValueError(f'found {quoted(found)}; allowed: an IP address, such as "127.0.0.1" or "::1"') from error
    return str(address)


def _one_of(*choices: str) -> Callable[[object, str], Value]:
    def read(found: object, _or_none: str) -> Value:
        if found not in choices or not isinstance(found, str):
            raise ValueError(f"found {quoted(found)}; allowed: {', '.join(map(quoted, choices))}")
        return found

    return read


def _name(found: object, _or_none: str) -> Value:
    if not isinstance(found, str) or not _NAME.fullmatch(found):
        allowed = f"up to {MAX_NAME_CHARACTERS} letters, digits, and . _ -"
        raise ValueError(f"found {quoted(found)}; allowed: {allowed}")
    return found


def _one_pattern(found: object, _or_none: str) -> Value:
    return _pattern(found)


def _origin(found: object, _or_none: str) -> Value:
    return str(parse_pattern(found))


def _header(found: object, _or_none: str) -> Value:
    if not isinstance(found, str) or not _TOKEN.fullmatch(found):
        raise ValueError('it is no name of a header field, such as "Authorization" or "x-api-key"')
    if found.lower() in _NOT_A_SECRET:
        raise ValueError(f"{found} is not for a secret")
    return found.lower()


def _scheme(found: object, or_none: str) -> Value:
    if not isinstance(found, str) or not _TOKEN.fullmatch(found):
        raise ValueError(f'it is no authentication scheme, such as "Bearer"; allowed: one, "auto"{or_none}')
    return found


def _variable(found: object, _or_none: str) -> Value:
    if not isinstance(found, str) or not _VARIABLE.fullmatch(found):
        raise ValueError(
            "it is no name of an environment variable (letters, digits, _); the secret itself does not belong here"
        )
    return found


def _secret_file(found: object, _or_none: str) -> Value:
    if not isinstance(found, str) or not os.path.isabs(found) or "\0" in found:
        raise ValueError("it is no absolute path of a file; the secret itself does not belong here")
    return found


def _command(found: object, _or_none: str) -> Value:
    if (
        not isinstance(found, list)
        or not found
        or not all(isinstance(item, str) and "\0" not in item for item in found)
    ):
        raise ValueError(
            'allowed: an array of strings, a program and its arguments: ["/usr/bin/pass", "show", "openai"]'
        )
    if not os.path.isabs(found[0]):
        raise ValueError("its first string is no absolute path of a program; the secret itself does not belong here")
    if len(found) > MAX_ITEMS:
        raise ValueError(f"it holds {len(found)}; allowed: at most {MAX_ITEMS}")
    return tuple(found)


def _usage_file(found: object, or_none: str) -> Value:
    if found == "auto":
        return "auto"
    if not isinstance(found, str) or not os.path.isabs(found) or "\0" in found:
        raise ValueError(f'found {quoted(found)}; allowed: an absolute path, "auto"{or_none}')
    return found


def _currency(found: object, _or_none: str) -> Value:
    if not isinstance(found, str) or not re.fullmatch(r"[A-Z]{3}", found):
        raise ValueError(f'found {quoted(found)}; allowed: three capitals, such as "USD" (ISO 4217)')
    return found


def _backend(found: object, or_none: str) -> Value:
    allowed = f'allowed: "redis://HOST:PORT/DATABASE", "rediss://…" for TLS, "unix:///PATH"{or_none}'
    if not isinstance(found, str):
        raise ValueError(f"found {quoted(found)}; {allowed}")
    if "@" in found:  # not quoted: what stands there may be a password
        raise ValueError("it holds '@'; a password does not belong here: name its variable in password_env")
    try:
        url = urlsplit(found)
        is_place = not url.fragment and (
            (
                url.scheme == "unix"
                and not url.netloc
                and len(url.path) > 1
                and re.fullmatch("|db=[0-9]{1,5}", url.query)
            )
            or (
                url.scheme in ("redis", "rediss")
                and url.hostname
                and url.port != 0
                and re.fullmatch(r"/?|/[0-9]{1,5}", url.path)
                and not url.query
            )
        )
    except ValueError as error:
        raise ValueError(f"found {quoted(found)}; {allowed}") from error
    if not is_place:
        raise ValueError(f"found {quoted(found)}; {allowed}")
    return found


def _number(most: int, *, above_zero: bool = False) -> Callable[[object, str], Value]:
    def read(found: object, or_none: str) -> Value:
        is_number = isinstance(found, int | float) and not isinstance(found, bool)
        if not is_number or not 0 <= found <= most or (above_zero and not found):  # type: ignore[operator]
            allowed = f"a number {'above 0' if above_zero else 'from 0'} up to {most}"
            raise ValueError(f"found {quoted(found)}; allowed: {allowed}{or_none}")
        return float(found)  # type: ignore[arg-type]

    return read


def _tokens(found: object, _or_none: str) -> Value:
    if not isinstance(found, int) or isinstance(found, bool) or not 1 <= found <= MAX_TOKENS:
        raise ValueError(f"found {quoted(found)}; allowed: a whole number from 1 to {MAX_TOKENS}")
    return found


Reader = Callable[[object, str], Value]

BY_FIELD: Mapping[tuple[type[msgspec.Struct], str], Reader] = {
    (Listen, "tcp_host"): _ip_address,
    (EgressPolicy, "allow"): _list(_rule, "origins and networks", may_be_empty=True),
    (EgressPolicy, "deny"): _list(_rule, "origins and networks", may_be_empty=True),
    (EgressPolicy, "private"): _one_of("allow", "deny"),
    (Usage, "file"): _usage_file,
    (Usage, "currency"): _currency,
    (SharedLimits, "backend"): _backend,
    (SharedLimits, "password_env"): _variable,
    (SharedLimits, "prefix"): _name,
    (SharedLimits, "fail"): _one_of("open", "closed", "local"),
    (AccessRule, "users"): _list(_user, "names and numbers of users"),
    (AccessRule, "groups"): _list(_group, "names and numbers of groups"),
    (AccessRule, "tenants"): _list(_pattern, "tenant ids, with * for any characters"),
    (Credential, "name"): _name,
    (Credential, "origins"): _list(_credential_origin, "origins"),
    (Credential, "tenants"): _list(_pattern, "tenant ids, with * for any characters"),
    (Credential, "header"): _header,
    (Credential, "scheme"): _scheme,
    (Credential, "env"): _variable,
    (Credential, "file"): _secret_file,
    (Credential, "command"): _command,
    (Price, "model"): _one_pattern,
    (Price, "origin"): _origin,
    (Price, "prompt_per_million"): _number(MAX_PRICE),
    (Price, "cached_prompt_per_million"): _number(MAX_PRICE),
    (Price, "completion_per_million"): _number(MAX_PRICE),
    (Budget, "name"): _name,
    (Budget, "tenant"): _one_pattern,
    (Budget, "per"): _one_of("day", "month"),
    (Budget, "tokens"): _tokens,
    (Budget, "cost"): _number(MAX_COST, above_zero=True),
}


def contradictions(item: Any) -> Iterator[tuple[str, str]]:
    """What a table says or leaves out that cannot be meant: the key, or "", and a text."""
    match item:
        case AccessRule(users=(), groups=(), tcp=False):
            yield "", "it names nobody: set users, groups, or tcp = true"
        case Credential():
            sources = [key for key in ("env", "file", "command") if getattr(item, key) is not None]
            if len(sources) != 1:
                found = " and ".join(sources) or "none of them"
                yield "", f"it has {found}; a secret comes from one of env, file and command"
        case Budget(tokens=tokens, cost=cost) if (tokens is None) == (cost is None):
            yield "", "it has both tokens and cost; make it two" if tokens else "it limits nothing: set tokens or cost"
