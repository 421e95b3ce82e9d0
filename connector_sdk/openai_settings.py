"""What the variables and the files of the existing examples say, for a connector."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from .azure import AzureDeployment
from .chat_request import DEFAULT_BASE_URL, DEFAULT_TIMEOUT_MS
from .config import RuntimeConfig
from .errors import ConnectorException
from .wire.messages import ErrorClass

API_BASE_URL = "https://api.openai.com"
SIMULATOR_BASE_URL = DEFAULT_BASE_URL
DEFAULT_MODEL = "gpt-4o-mini"

# What examples have in place of a key or a resource: sk-proj-xxxx…, sk-..., your_api_key_here, <key>, your-resource;
# paste-your-key-here. A resource of somebody's own may be called made-for-your-home.
_PLACEHOLDER = re.compile(
    r"(sk-)?(proj-)?([x*.…]{3,}|<.*>|\[.*\]|change-?me)|(https?://)?(sk-)?(proj-)?your\b.*|[^/]*\byour\b[^/]*\bkey\b.*",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class OpenAISettings:
    """What a connector is made of.

    Attributes:
        base_url: of the API, of the simulator, or of the Azure resource.
        api_key: None: none is sent.
        runtime: how to reach the daemon; None: nothing is said about that.
        azure: the deployment; None: it is no Azure resource.
    """

    base_url: str
    api_key: str | None = field(default=None, repr=False)
    model: str | None = None
    timeout_ms: int = DEFAULT_TIMEOUT_MS
    max_tokens: int | None = None
    temperature: float | None = None
    runtime: RuntimeConfig | None = None
    azure: AzureDeployment | None = None


def refuse_placeholder(name: str, value: str, instead: str) -> None:
    """Say so when a value is an example's and not the user's own.

    Args:
        instead: what to do if no value is meant, as the end of a sentence.

    Raises:
        ConnectorException: INVALID_REQUEST, naming what holds it.
    """
    if _PLACEHOLDER.fullmatch(value.strip().replace("_", "-")):
        raise ConnectorException(
            f"{name} still holds the example's placeholder; put your own there, or {instead}",
            ErrorClass.INVALID_REQUEST,
        )
