"""A batch of requests to a language model, in one body: ``requests``, each with its ``params``. Pure."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from .members import NOTHING, amount, decoded, name

# So many are looked through one by one, which takes 8 ms.
MAX_REQUESTS = 10_000
# Each has two objects, and one for each message.
MAX_OBJECTS = 150_000


class _Params(msgspec.Struct, frozen=True, gc=False):
    model: msgspec.Raw = NOTHING
    max_completion_tokens: msgspec.Raw = NOTHING
    max_output_tokens: msgspec.Raw = NOTHING
    max_tokens: msgspec.Raw = NOTHING
    n: msgspec.Raw = NOTHING


class _Request(msgspec.Struct, frozen=True, gc=False):
    params: _Params | None = None


_REQUESTS = msgspec.json.Decoder(list[_Request])


class BatchAsked(NamedTuple):
    """What a batch asks for in all.

    Attributes:
        model: the first that is named; "" when none is.
        max_completion_tokens: None: no request says.
        completions: how many it asks for.
    """

    model: str
    max_completion_tokens: int | None
    completions: int


def read_batch(requests: msgspec.Raw, max_tokens: int) -> BatchAsked:
    """What the requests ask for. A request that does not limit its answer counts as the one that allows the most. A
    batch that cannot be looked through is taken for the greatest.

    Args:
        max_tokens: that a batch can be taken for.
    """
    text = bytes(requests)
    batch = decoded(_REQUESTS, text) if text.count(b"{") <= MAX_OBJECTS else None
    if batch is None or len(batch) > MAX_REQUESTS:
        return BatchAsked("", max_tokens, 1)
    all_params = [request.params for request in batch if request.params is not None]
    model = next((named for params in all_params if (named := name(params.model))), "")
    choices = [1 if params.n is NOTHING else amount(params.n, max_tokens) or 1 for params in all_params]
    limits = [_limit(params, max_tokens) for params in all_params]
    greatest = max(limits, default=0)
    if not greatest:
        return BatchAsked(model, None, min(sum(choices), max_tokens) or 1)
    total = sum([(limit or greatest) * count for limit, count in zip(limits, choices, strict=True)])
    return BatchAsked(model, min(total, max_tokens), len(all_params))


def _limit(params: _Params, max_tokens: int) -> int:
    limit = 0
    for member in (params.max_tokens, params.max_completion_tokens, params.max_output_tokens):
        if member is not NOTHING:
            limit = max(limit, amount(member, max_tokens) or 0)
    return limit
