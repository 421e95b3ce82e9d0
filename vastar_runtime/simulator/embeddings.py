"""OpenAI's ``POST /v1/embeddings``: vectors of unit length, nearer to each other the more words their texts share.

Source: OpenAI API reference, "Create embeddings". Other fields are accepted and have no effect.

A vector is the sum of one sparse vector for each different word, whose places and signs a hash of the word tells.
"""

import base64
import hashlib
import math
import re
import struct
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

import msgspec

from . import answers
from .api_error import ApiError
from .request import MAX_MODEL_CHARS, parse_as
from .unread import explained

PATH = "/v1/embeddings"

# The API's own limits.
MAX_INPUTS = 2048
MAX_TOKENS = 8192
MAX_ALL_TOKENS = 300_000

# Of a model with a name that is not OpenAI's.
DEFAULT_DIMENSIONS = 1536
MAX_DIMENSIONS = 3072

# Of OpenAI's the dimensions, which are also the most that can be asked for.
_DIMENSIONS = {
    "text-embedding-3-small": 1536,
    "text-embedding-3-large": 3072,
    "text-embedding-ada-002": 1536,
}
_OF_ONE_SIZE = "text-embedding-ada-002"

_PLACES_OF_A_WORD = 8
_WORD = re.compile(r"\w+")
_KINDS = ((r"encoding_format", "the formats are float and base64"),)

_Token = Annotated[int, msgspec.Meta(ge=0)]
_Text = Annotated[str, msgspec.Meta(min_length=1)]
_Tokens = Annotated[list[_Token], msgspec.Meta(min_length=1)]


class EmbeddingsRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request; null is the same as absent in the optional fields."""

    model: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_MODEL_CHARS)]
    input: _Text | Annotated[list[str | list[_Token] | _Token], msgspec.Meta(min_length=1)]
    dimensions: Annotated[int, msgspec.Meta(ge=1, le=MAX_DIMENSIONS)] | None = None
    encoding_format: Literal["float", "base64"] | None = None

    @property
    def size(self) -> int:
        """The numbers of each vector."""
        return self.dimensions or _DIMENSIONS.get(self.model, DEFAULT_DIMENSIONS)

    @property
    def inputs(self) -> list[str | list[int]]:
        """One text or list of tokens for each vector."""
        if isinstance(self.input, str):
            return [self.input]
        if isinstance(self.input[0], int):
            return [[item for item in self.input if isinstance(item, int)]]
        return [item for item in self.input if not isinstance(item, int)]


class _DeploymentRequest(EmbeddingsRequest, frozen=True, kw_only=True):
    """The same to a deployment, which stands for its model."""

    model: Annotated[str, msgspec.Meta(max_length=MAX_MODEL_CHARS)] | None = None  # type: ignore[assignment]


def parse(body: bytes) -> EmbeddingsRequest:
    """The request in ``body``.

    Raises:
        ApiError: status 400, naming the field that is wrong, or that the body is not JSON.
    """
    request = _parse_as(EmbeddingsRequest, body)
    _check_dimensions(request)
    return request


def parse_for_deployment(body: bytes, deployment: str) -> EmbeddingsRequest:
    """The same; the model is the deployment where the body has none. Raises as ``parse``."""
    request = _parse_as(_DeploymentRequest, body)
    named = msgspec.structs.replace(request, model=request.model or deployment)
    _check_dimensions(named)
    return named


def _parse_as(kind: type[EmbeddingsRequest], body: bytes) -> EmbeddingsRequest:
    try:
        request = parse_as(kind, body, ())
    except ApiError as error:
        raise explained(error, _KINDS) from error
    if not isinstance(request.input, str):
        _check_items(request.input)
    return request


def _check_dimensions(request: EmbeddingsRequest) -> None:
    if request.dimensions is None:
        return
    if request.model == _OF_ONE_SIZE:
        raise ApiError(400, f"The model {_OF_ONE_SIZE} does not support 'dimensions'.", param="dimensions")
    most = _DIMENSIONS.get(request.model, MAX_DIMENSIONS)
    if request.dimensions > most:
        raise ApiError(
            400,
            f"Invalid value for 'dimensions' = {request.dimensions}. Must be less than or equal to {most}.",
            param="dimensions",
        )


def _check_items(items: Sequence[Any]) -> None:
    kind = type(items[0])
    if kind is not int and len(items) > MAX_INPUTS:
        raise ApiError(400, f"'input' has {len(items)} items; it has {MAX_INPUTS} at most.", param="input")
    for index, item in enumerate(items):
        if type(item) is not kind:
            raise ApiError(400, "'input' mixes texts and tokens.", param=f"input[{index}]")
        if not isinstance(item, int) and not item:
            raise ApiError(400, f"'input[{index}]' is empty.", param=f"input[{index}]")


def embed(request: EmbeddingsRequest) -> dict[str, Any]:
    """The list of embeddings, for msgspec to encode.

    Raises:
        ApiError: status 400: an input, or all of them together, have more tokens than the API takes.
    """
    inputs = request.inputs
    counts = [len(item) if isinstance(item, list) else answers.count_tokens(item) for item in inputs]
    for index, tokens in enumerate(counts):
        if tokens > MAX_TOKENS:
            raise ApiError(
                400,
                f"This model's maximum context length is {MAX_TOKENS} tokens, however input {index} has {tokens}.",
                param="input",
            )
    if sum(counts) > MAX_ALL_TOKENS:
        raise ApiError(400, f"A request has {MAX_ALL_TOKENS} tokens at most; this has {sum(counts)}.", param="input")
    dimensions = request.size
    data = []
    for index, item in enumerate(inputs):
        packed = struct.pack(f"<{dimensions}f", *_vector(list(_words(item)), dimensions))
        embedding: Any
        if request.encoding_format == "base64":
            embedding = base64.b64encode(packed).decode()
        else:
            # Of the same precision: both forms are equal. Encoded at once: so many numbers take much less memory.
            embedding = msgspec.Raw(msgspec.json.encode(struct.unpack(f"<{dimensions}f", packed)))
        data.append({"object": "embedding", "index": index, "embedding": embedding})
    usage = {"prompt_tokens": sum(counts), "total_tokens": sum(counts)}
    return {"object": "list", "data": data, "model": request.model, "usage": usage}


def _words(item: str | list[int]) -> Iterator[str]:
    if isinstance(item, list):
        yield from map(str, item)
    else:
        yield from _WORD.findall(item.casefold()) or [item]


def _vector(words: Sequence[str], dimensions: int) -> list[float]:
    vector = [0.0] * dimensions
    for word in dict.fromkeys(words):
        _add(vector, word)
    length = math.sqrt(sum(value * value for value in vector))
    if length == 0:  # they have cancelled each other, which only a vector of few dimensions makes likely
        return [1.0] + [0.0] * (dimensions - 1)
    return [value / length for value in vector]


def _add(vector: list[float], word: str) -> None:
    digest = hashlib.blake2b(word.encode(), digest_size=2 * _PLACES_OF_A_WORD).digest()
    for (number,) in struct.iter_unpack("<H", digest):
        vector[(number >> 1) % len(vector)] += 1.0 if number & 1 else -1.0
