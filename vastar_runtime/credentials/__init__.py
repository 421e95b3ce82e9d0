"""Secrets that the daemon puts into requests on their way out.

The rooms: ``credentials`` (all of them, and the task that keeps them current), ``rules`` (which apply to a tenant and
an origin), ``injection`` (one that applies), ``outbound`` (a request with them),
``request_secrets`` (on which connections). Where a secret comes from: ``source``
(what all sources have in common, and variables), ``file_source``, ``file_reading`` and ``file_looks`` (files),
``command_source``, ``program`` and ``child`` (commands); ``secret`` (what may be one), ``errors``.

No secret is in any repr, error or line of the log; nor is its length, or how it begins.
"""

from .credentials import Credentials, CredentialStatistics
from .errors import CredentialError
from .injection import Injection
from .outbound import with_credentials
from .request_secrets import RequestSecrets

__all__ = ["CredentialError", "CredentialStatistics", "Credentials", "Injection", "RequestSecrets", "with_credentials"]
