"""The models that exist: ``GET /v1/models`` and ``GET /v1/models/{id}``, in OpenAI's form and in Anthropic's.

Source: OpenAI API reference, "Models"; Anthropic API reference, "List Models" and "Get a Model".
"""

from collections.abc import Mapping
from typing import Any

from .api_error import ApiError, simulated_error
from .request import MAX_MODEL_CHARS, whole_number

# Shown where every name is known.
USUAL = (
    "gpt-4o",
    "gpt-4o-mini",
    "gpt-3.5-turbo",
    "text-embedding-3-small",
    "text-embedding-3-large",
    "claude-sonnet-4-5",
    "claude-haiku-4-5",
)

_CREATED = 1_735_689_600
_CREATED_AT = "2025-01-01T00:00:00Z"
_PAGE = 20
_MAX_PAGE = 1000


class Models:
    """The names of those that exist; () means that every name does."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names
        self._shown = names or USUAL

    def check(self, name: str) -> None:
        """Refuse a name.

        Raises:
            ApiError: it is unknown (404), or stands for an error of the API.
        """
        if error := simulated_error(name):
            raise error
        if (self._names and name not in self._names) or len(name) > MAX_MODEL_CHARS:
            raise ApiError(
                404,
                f"The model {name[:MAX_MODEL_CHARS]!r} does not exist; the simulator was started with others.",
                param="model",
                code="model_not_found",
            )

    def list(self) -> dict[str, Any]:
        """OpenAI's list."""
        return {"object": "list", "data": [self.one(name) for name in self._shown]}

    def one(self, name: str) -> dict[str, Any]:
        """OpenAI's model."""
        return {"id": name, "object": "model", "created": _CREATED, "owned_by": "simulator"}

    def anthropic_list(self, query: Mapping[str, str]) -> dict[str, Any]:
        """Anthropic's page of the list.

        Args:
            query: ``limit``, ``after_id`` and ``before_id``.

        Raises:
            ApiError: status 400: the limit is none.
        """
        limit = whole_number(query.get("limit", str(_PAGE)), 1, _MAX_PAGE)
        if limit is None:
            raise ApiError(400, f"limit: a whole number from 1 to {_MAX_PAGE}.", param="limit")
        names = list(self._shown)
        if (before := query.get("before_id")) in names:
            names = names[: names.index(before)]
            page = names[-limit:]
        else:
            if (after := query.get("after_id")) in names:
                names = names[names.index(after) + 1 :]
            page = names[:limit]
        return {
            "data": [self.anthropic_one(name) for name in page],
            "has_more": len(page) < len(names),
            "first_id": page[0] if page else None,
            "last_id": page[-1] if page else None,
        }

    def anthropic_one(self, name: str) -> dict[str, Any]:
        """Anthropic's model."""
        return {"type": "model", "id": name, "display_name": name, "created_at": _CREATED_AT}
