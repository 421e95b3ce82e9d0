"""Customers, in the manner of a payment API: lists by cursor, a bearer key, forms or JSON, and Idempotency-Key.

There are 230 customers, the same in every run. What is created comes on top and is kept until the simulator ends.
"""

import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from .api_error import ApiError
from .catalog_endpoint import KeyCheck, endpoint_routes
from .customer_fields import fields_of
from .customer_records import CUSTOMERS, customer, customer_id
from .request import whole_number

ROOT = "/v1/customers"

DEFAULT_LIMIT = 10
MAX_LIMIT = 100

# With the longest texts they are 64 MiB.
MAX_CREATED = 1000
# Each answer is a customer that is kept anyway. The key that was not used for the longest time is forgotten.
MAX_IDEMPOTENCY_KEYS = 1000
MAX_IDEMPOTENCY_KEY_CHARS = 255

_ERROR_TYPES = {401: "authentication_error", 429: "rate_limit_error"}


class _Done(msgspec.Struct, frozen=True):
    """What was asked for with an Idempotency-Key, and the answer."""

    asked: dict[str, Any]
    customer: dict[str, Any]


def routes(check_key: KeyCheck) -> list[Route]:
    """The routes of this API.

    Args:
        check_key: raises ApiError for a key that is not the right one.
    """
    customers = _Customers()
    paths = {ROOT: {"GET": customers.list, "POST": customers.create}, ROOT + "/{id}": {"GET": customers.one}}
    return endpoint_routes(ROOT, paths, error_response, check_key)


def error_response(error: ApiError, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """An error in this API's form; its type goes by the status, where it says none of its own."""
    kind = _ERROR_TYPES.get(error.status, "api_error" if error.status >= 500 else error.type)
    shown = {"type": kind, "message": error.message, "param": error.param}
    return JSONResponse({"error": shown}, error.status, headers)


class _Customers:
    def __init__(self) -> None:
        self._customers = [customer(number) for number in range(CUSTOMERS)]  # oldest first
        self._places = {found["id"]: place for place, found in enumerate(self._customers)}
        self._done: OrderedDict[str, _Done] = OrderedDict()

    def list(self, request: Request, body: bytes) -> Response:
        query = request.query_params
        for name, _ in query.multi_items():
            if name not in ("limit", "starting_after"):
                raise ApiError(400, f"Received unknown parameter: {name}", param=name)
        limit = whole_number(query.get("limit", str(DEFAULT_LIMIT)), 1, MAX_LIMIT)
        if limit is None:
            raise ApiError(400, f"limit is a whole number from 1 to {MAX_LIMIT}.", param="limit")
        end = len(self._customers)
        if (after := query.get("starting_after")) is not None:
            end = self._place(after, 400, "starting_after")
        begin = max(0, end - limit)
        return JSONResponse(
            {
                "object": "list",
                "data": self._customers[begin:end][::-1],
                "has_more": begin > 0,
                "url": ROOT,
            }
        )

    def one(self, request: Request, body: bytes) -> Response:
        return JSONResponse(self._customers[self._place(request.path_params["id"], 404, "id")])

    def create(self, request: Request, body: bytes) -> Response:
        key = request.headers.get("idempotency-key")
        if key is not None and not 1 <= len(key) <= MAX_IDEMPOTENCY_KEY_CHARS:
            raise ApiError(400, f"The Idempotency-Key has 1 to {MAX_IDEMPOTENCY_KEY_CHARS} characters.")
        asked = fields_of(request.headers.get("content-type", ""), body)
        if key is not None and (done := self._done.get(key)) is not None:
            self._done.move_to_end(key)
            if done.asked != asked:
                raise ApiError(
                    400,
                    "This Idempotency-Key was used with other parameters; take a new one for another request.",
                    type="idempotency_error",
                )
            return JSONResponse(done.customer, headers={"idempotent-replayed": "true"})
        created = self._create(asked)
        if key is not None:
            self._done[key] = _Done(asked, created)
            if len(self._done) > MAX_IDEMPOTENCY_KEYS:
                self._done.popitem(last=False)
        return JSONResponse(created)

    def _create(self, asked: dict[str, Any]) -> dict[str, Any]:
        number = len(self._customers)
        if number >= CUSTOMERS + MAX_CREATED:
            raise ApiError(503, f"The simulator keeps {MAX_CREATED} created customers; start it anew to make room.")
        created = customer(number) | {
            "created": int(time.time()),
            "name": None,
            "email": None,
            "description": None,
            "phone": None,
            "metadata": {},
        }
        created |= asked | {"id": customer_id(number)}
        self._places[created["id"]] = number
        self._customers.append(created)
        return created

    def _place(self, id: str, status: int, param: str) -> int:
        place = self._places.get(id)
        if place is None:
            raise ApiError(status, f"No such customer: {id[:40]!r}", param=param)
        return place
