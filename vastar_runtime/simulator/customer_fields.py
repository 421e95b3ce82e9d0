"""The fields of a customer to create, from a form or from JSON."""

import re
from typing import Any
from urllib.parse import parse_qsl

from .api_error import ApiError
from .catalog_endpoint import json_object

# The longest text of each field, in characters.
_TEXTS = {"name": 256, "email": 512, "description": 350, "phone": 20}
MAX_METADATA = 50
MAX_METADATA_KEY_CHARS = 40
MAX_METADATA_VALUE_CHARS = 500

_METADATA = re.compile(r"metadata\[([^\[\]]+)\]")


def fields_of(content_type: str, body: bytes) -> dict[str, Any]:
    """What ``body`` says of a customer, checked; fields that it does not name are absent.

    Raises:
        ApiError: status 400.
    """
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == "application/json":
        said = json_object(body)
    elif media_type == "application/x-www-form-urlencoded" or not body:
        said = _form(body)
    else:
        raise ApiError(
            400,
            "The body is a form or JSON; its Content-Type says application/x-www-form-urlencoded or application/json.",
        )
    return {name: _checked(name, value) for name, value in said.items()}


def _form(body: bytes) -> dict[str, object]:
    """The fields of a form; ``metadata[KEY]=VALUE`` is one key of metadata."""
    try:
        pairs = parse_qsl(
            body.decode(), keep_blank_values=True, max_num_fields=len(_TEXTS) + MAX_METADATA, errors="strict"
        )
    except ValueError as error:
        raise ApiError(400, f"The body is no form: {error}.") from error
    said: dict[str, object] = {}
    metadata: dict[str, str] = {}
    for name, value in pairs:
        if found := _METADATA.fullmatch(name):
            metadata[found[1]] = value
            said["metadata"] = metadata
        else:
            said[name] = value
    return said


def _checked(name: str, value: object) -> object:
    if name == "metadata":
        return _metadata(value)
    if name not in _TEXTS:
        raise ApiError(400, f"Received unknown parameter: {name}", param=name)
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > _TEXTS[name]:
        raise ApiError(400, f"{name} is a text of at most {_TEXTS[name]} characters.", param=name)
    if name == "email" and not re.fullmatch(r"[^@\s]+@[^@\s]+", value):
        raise ApiError(400, f"Invalid email address: {value}", param=name)
    return value


def _metadata(value: object) -> dict[str, str]:
    if not isinstance(value, dict) or len(value) > MAX_METADATA:
        raise ApiError(400, f"metadata is an object of at most {MAX_METADATA} keys.", param="metadata")
    for key, text in value.items():
        if len(key) > MAX_METADATA_KEY_CHARS or not isinstance(text, str) or len(text) > MAX_METADATA_VALUE_CHARS:
            raise ApiError(
                400,
                f"metadata: a key has at most {MAX_METADATA_KEY_CHARS} characters, "
                f"and its value is a text of at most {MAX_METADATA_VALUE_CHARS}.",
                param="metadata",
            )
    return value
