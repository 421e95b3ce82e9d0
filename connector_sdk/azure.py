"""Azure OpenAI: where the API of a deployment is."""

from __future__ import annotations

from dataclasses import dataclass

from .config import check_type, invalid

DEFAULT_API_VERSION = "2024-10-21"

# Versions are dates; what is none of them ("preview") sorts behind all.
_FIRST_WITH_STREAM_USAGE = "2024-09-01"

_MAX_CHARACTERS = 256


@dataclass(frozen=True)
class AzureDeployment:
    """A model that is deployed at an Azure endpoint.

    Attributes:
        deployment: its name.
        api_version: such as "2024-10-21", or "2025-01-01-preview".

    Raises:
        ConnectorException: INVALID_REQUEST, a value that cannot be used.
        TypeError: a value of another type.
    """

    deployment: str
    api_version: str = DEFAULT_API_VERSION

    def __post_init__(self) -> None:
        _check("deployment", self.deployment, "the name of a deployment")
        _check("api_version", self.api_version, "a version such as 2024-10-21")

    @property
    def tells_stream_usage(self) -> bool:
        """False for versions that refuse a request whose stream is to end with its usage."""
        return not self.api_version[:10] < _FIRST_WITH_STREAM_USAGE

    def url(self, endpoint: str) -> str:
        """Where its chat completions are.

        Args:
            endpoint: as ``azure_endpoint`` gives it.
        """
        from urllib.parse import quote  # an import of several milliseconds, which few need

        deployment, version = quote(self.deployment, safe=""), quote(self.api_version, safe="")
        return f"{endpoint}/openai/deployments/{deployment}/chat/completions?api-version={version}"


def azure_endpoint(endpoint: str) -> str:
    """``endpoint`` without what follows its resource: "https://my-resource.openai.azure.com".

    Raises:
        ConnectorException: INVALID_REQUEST, it is no such URL.
        TypeError: it is no text.
    """
    from urllib.parse import urlsplit

    check_type("endpoint", endpoint, str)
    allowed = "the URL of an Azure resource, such as https://my-resource.openai.azure.com"
    try:
        parts = urlsplit(endpoint)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise invalid("endpoint", endpoint, allowed) from error
    is_plain = endpoint.isascii() and endpoint.isprintable() and not set(endpoint) & set(' \\"<>?#@')
    if not (host and is_plain and parts.scheme in ("http", "https")):
        raise invalid("endpoint", endpoint if "@" not in endpoint else "(not shown: it holds a password)", allowed)
    resource = endpoint.rstrip("/")
    for shown_as in ("/openai/v1", "/openai"):  # with one of these, too, the portal shows it
        resource = resource.removesuffix(shown_as)
    return resource.rstrip("/")


def _check(name: str, value: str, allowed: str) -> None:
    check_type(name, value, str)
    is_text = value.isprintable() and value == value.strip() and value.strip(".") and len(value) <= _MAX_CHARACTERS
    if not is_text:
        raise invalid(name, value, allowed)
