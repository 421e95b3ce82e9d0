"""Which paths are those of language models' APIs. Pure.

A path is compared as lenient servers read it: in any case, with escapes undone, without parameters (";a=b"), doubled
slashes, and what some of them strip from its end.
"""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import unquote

import msgspec

from .members import printable

_WITHOUT_COMPLETION = ("/embeddings", "/moderations", "/rerank", "/audio/speech", "/images/generations")
_ASKING = ("/completions", "/responses", "/messages", "/messages/batches", *_WITHOUT_COMPLETION)
# These answer how many there would be, and use none.
_COUNTING = ("/messages/count_tokens", "/responses/input_tokens")
# Azure's own name for a model that is set up there; a "model" in the body has no effect.
_DEPLOYMENT = re.compile(r"/openai/deployments/([^/;]*)", re.IGNORECASE)
_PARAMETERS = re.compile(r";[^/]*")
_SLASHES = re.compile(r"//+")
_STRIPPED = "/. \t\r\n\0"

MAX_REMEMBERED = 256
MAX_REMEMBERED_CHARACTERS = 256


class Api(msgspec.Struct, frozen=True):
    """What a path tells.

    Attributes:
        is_known: whatever is sent there is for a language model.
        has_completion: False: what is there answers with none.
        counts_only: it uses nothing.
        deployment: Azure's name of the model, printable, or "".
    """

    is_known: bool
    has_completion: bool
    counts_only: bool
    deployment: str


def api_of(path: str) -> Api:
    """What the path of a URL tells; a query is ignored."""
    return _remembered(path) if len(path) <= MAX_REMEMBERED_CHARACTERS else _api_of(path)


def _api_of(path: str) -> Api:
    plain = unquote(path.partition("?")[0])
    deployment = _DEPLOYMENT.search(plain)
    # Some servers take parameters off every segment, for others all after the first is one: either may hold.
    views = [_comparable(_PARAMETERS.sub("", plain)), _comparable(plain.partition(";")[0])]
    return Api(
        is_known=any(view.endswith(_ASKING) for view in views),
        has_completion=not all(view.endswith(_WITHOUT_COMPLETION) for view in views),
        counts_only=all(view.endswith(_COUNTING) for view in views),
        deployment="" if deployment is None else printable(deployment[1]),
    )


_remembered = lru_cache(MAX_REMEMBERED)(_api_of)


def _comparable(path: str) -> str:
    return _SLASHES.sub("/", path).rstrip(_STRIPPED).lower()
