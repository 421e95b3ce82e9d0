"""Which variables of the environment decide where requests go and whom they trust, told without their values."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
_OTHERS = ("SSL_CERT_FILE", "SSL_CERT_DIR")
_DIGITS = 16


def fingerprints(environ: Mapping[str, str]) -> dict[str, str]:
    """For each variable that is set, in upper case: so many digits as tell whether two values are the same.

    A proxy's value may hold a password.
    """
    values = {name.upper(): environ.get(name, environ.get(name.upper(), "")).strip() for name in _PROXIES}
    values |= {name: environ.get(name, "") for name in _OTHERS}
    return {
        name: hashlib.sha256(value.encode("utf-8", "surrogateescape")).hexdigest()[:_DIGITS]
        for name, value in values.items()
        if value
    }
