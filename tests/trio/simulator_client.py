"""A running simulator for tests, and a plain HTTP client for it."""

import json
from contextlib import asynccontextmanager
from functools import partial
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import msgspec
import trio

from vastar_runtime.simulator.faults import parse
from vastar_runtime.simulator.serve import serve
from vastar_runtime.simulator.settings import SimulatorSettings

COMPLETIONS = "/v1/chat/completions"


class Answer(msgspec.Struct):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        assert set(self.json) == {"error"}
        assert set(self.json["error"]) == {"message", "type", "param", "code"}
        return self.json["error"]

    @property
    def events(self) -> list[str]:
        *events, rest = self.body.decode().split("\n\n")
        assert rest == ""
        assert all(event.startswith("data: ") for event in events)
        return [event.removeprefix("data: ") for event in events]


def question(text: str = "Hello", **fields: object) -> dict[str, Any]:
    return {"model": "any", "messages": [{"role": "user", "content": text}]} | fields


def ask(url: str, body: object = None, *, path: str = COMPLETIONS, method: str = "POST", **headers: str) -> Answer:
    """One request on a connection of its own; blocking."""
    connection = HTTPConnection(urlsplit(url).netloc, timeout=10)
    try:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection.request(method, path, data, headers)
        response = connection.getresponse()
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
    finally:
        connection.close()


class Simulator(msgspec.Struct):
    """A running simulator; calling it is ``ask``, in a thread."""

    url: str

    async def __call__(self, *args: Any, **kwargs: Any) -> Answer:
        return await trio.to_thread.run_sync(partial(ask, self.url, *args, **kwargs))

    @property
    def port(self) -> int:
        return urlsplit(self.url).port


@asynccontextmanager
async def simulator(tokens_per_second: float = 0, fault: str = "none", **options: Any):
    """Options are those of SimulatorSettings, the fault as text; without others it answers as fast as it can."""
    settings = SimulatorSettings(tokens_per_second=tokens_per_second, fault=parse(fault), **options)
    async with trio.open_nursery() as nursery:
        yield Simulator(await nursery.start(serve, "127.0.0.1", 0, settings))
        nursery.cancel_scope.cancel()


def request_bytes(body: dict[str, Any]) -> bytes:
    data = json.dumps(body).encode()
    return b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (
        COMPLETIONS.encode(),
        len(data),
        data,
    )
