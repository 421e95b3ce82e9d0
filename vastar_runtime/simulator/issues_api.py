"""Issues, in the manner of a forge's REST API: numbered pages with a Link header, a bearer key, 422.

Every repository exists and has 95 issues, the same in every run; those with a number that five divides are closed.
What is created comes on top and is kept until the simulator ends.
"""

import re
import time
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from .api_error import ApiError
from .catalog_endpoint import KeyCheck, endpoint_routes, json_object
from .issue_records import ISSUES, created_issue, issue
from .record_pages import base_url, page_links
from .request import whole_number

ROOT = "/repos"
_LIST = ROOT + "/{owner}/{repo}/issues"

DEFAULT_PER_PAGE = 30
MAX_PER_PAGE = 100
MAX_PAGE = 1_000_000

# Of all repositories together; with the longest texts they are 32 MiB.
MAX_CREATED = 500
MAX_TITLE_CHARS = 256
MAX_LABELS = 100

_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")
_STATES = ("open", "closed", "all")


class ValidationFailed(ApiError):
    """Status 422: fields that are not valid.

    Attributes:
        errors: ``{"resource", "field", "code"}`` for each, some with a message.
    """

    def __init__(self, *errors: dict[str, str]) -> None:
        super().__init__(422, "Validation Failed")
        self.errors = errors


def routes(check_key: KeyCheck) -> list[Route]:
    """The routes of this API.

    Args:
        check_key: raises ApiError for a key that is not the right one.
    """
    issues = _Issues()
    paths = {_LIST: {"GET": issues.list, "POST": issues.create}, _LIST + "/{number}": {"GET": issues.one}}
    return endpoint_routes(ROOT, paths, error_response, check_key)


def error_response(error: ApiError, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """An error in this API's form: ``{"message"}``, with ``errors`` for what is not valid."""
    body: dict[str, object] = {"message": error.message}
    if isinstance(error, ValidationFailed):
        body["errors"] = error.errors
    return JSONResponse(body, error.status, headers)


class _Issues:
    """The issues of all repositories."""

    def __init__(self) -> None:
        self._created: dict[tuple[str, str], list[dict[str, Any]]] = {}
        self._count = 0

    def list(self, request: Request, body: bytes) -> Response:
        repository = _repository(request)
        state = request.query_params.get("state", "open")
        if state not in _STATES:
            raise _invalid("state", f"state is {state!r}; it is one of {', '.join(_STATES)}")
        page = _number(request, "page", 1, MAX_PAGE)
        per_page = _number(request, "per_page", DEFAULT_PER_PAGE, MAX_PER_PAGE)
        newest = ISSUES + len(self._created.get(repository, ()))
        numbers = [
            number for number in range(newest, 0, -1) if state == "all" or (state == "closed") == _is_closed(number)
        ]
        shown = numbers[(page - 1) * per_page : page * per_page]
        last = max(1, -(-len(numbers) // per_page))
        url = base_url(request)
        return JSONResponse(
            [self._issue(repository, number, url) for number in shown], headers=page_links(request, page, last)
        )

    def one(self, request: Request, body: bytes) -> Response:
        repository = _repository(request)
        newest = ISSUES + len(self._created.get(repository, ()))
        number = whole_number(request.path_params["number"], 1, newest)
        if number is None:
            raise ApiError(404, "Not Found")
        return JSONResponse(self._issue(repository, number, base_url(request)))

    def create(self, request: Request, body: bytes) -> Response:
        repository = _repository(request)
        title, text, labels = _new_issue(json_object(body))
        if self._count >= MAX_CREATED:
            raise ApiError(503, f"The simulator keeps {MAX_CREATED} created issues; start it anew to make room.")
        self._count += 1
        created = self._created.setdefault(repository, [])
        number = ISSUES + len(created) + 1
        created.append(created_issue(*repository, number, title=title, text=text, labels=labels, at=int(time.time())))
        shown = self._issue(repository, number, base_url(request))
        return JSONResponse(shown, 201, {"location": shown["url"]})

    def _issue(self, repository: tuple[str, str], number: int, url: str) -> dict[str, Any]:
        owner, name = repository
        fields = (
            issue(owner, name, number, is_closed=_is_closed(number))
            if number <= ISSUES
            else self._created[repository][number - ISSUES - 1]
        )
        return {"url": f"{url}/repos/{owner}/{name}/issues/{number}", "number": number} | fields


def _is_closed(number: int) -> bool:
    return number <= ISSUES and number % 5 == 0


def _repository(request: Request) -> tuple[str, str]:
    """Owner and name; they are the same in either case."""
    owner, name = request.path_params["owner"], request.path_params["repo"]
    if not (_NAME.fullmatch(owner) and _NAME.fullmatch(name)):
        raise ApiError(404, "Not Found")
    return owner.lower(), name.lower()


def _number(request: Request, name: str, default: int, most: int) -> int:
    text = request.query_params.get(name, str(default))
    number = whole_number(text, 1, most)
    if number is None:
        raise _invalid(name, f"{name} is {text[:40]!r}; it takes 1 to {most}")
    return number


def _new_issue(fields: dict[str, object]) -> tuple[str, str | None, list[str]]:
    """Title, text and labels of an issue to create; other fields have no effect."""
    title, text, labels = fields.get("title"), fields.get("body"), fields.get("labels") or []
    if title is None or title == "":
        raise ValidationFailed({"resource": "Issue", "field": "title", "code": "missing_field"})
    if not isinstance(title, str) or len(title) > MAX_TITLE_CHARS:
        raise _invalid("title", f"title is a text of at most {MAX_TITLE_CHARS} characters")
    if text is not None and not isinstance(text, str):
        raise _invalid("body", "body is a text")
    names = [label for label in labels if isinstance(label, str)] if isinstance(labels, list) else None
    if names is None or names != labels or len(names) > MAX_LABELS:
        raise _invalid("labels", f"labels is a list of at most {MAX_LABELS} names")
    return title, text, names


def _invalid(field: str, message: str) -> ValidationFailed:
    return ValidationFailed({"resource": "Issue", "field": field, "code": "invalid", "message": message})
