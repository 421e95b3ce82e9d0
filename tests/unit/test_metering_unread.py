"""What is sent where language models are asked is counted, whether it can be read or not: some server may read it."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from metered_answers import read_asked

from vastar_runtime.metering.asked import MAX_TOKENS, Asked
from vastar_runtime.metering.members import MAX_MENDED_BYTES
from vastar_runtime.metering.request_batch import MAX_OBJECTS, MAX_REQUESTS
from vastar_runtime.metering.request_body import EDGE_BYTES, MAX_LISTED

CHAT = "/v1/chat/completions"
BATCH = "/v1/messages/batches"
MIB = 1024 * 1024
QUESTION: dict[str, Any] = {
    "model": "gpt-4",
    "messages": [{"role": "user", "content": "Größe?"}],
    "max_tokens": 500,
}
BODY = json.dumps(QUESTION, ensure_ascii=False).encode()
PLAIN = read_asked("POST", CHAT, BODY)

READ: dict[str, bytes] = {
    "its name with escapes": BODY.replace(b'"model"', b'"\\u006d\\u006f\\u0064el"'),
    "a byte order mark": b"\xef\xbb\xbf" + BODY,
    "UTF-16": BODY.decode().encode("utf-16"),
    "UTF-16, little-endian": BODY.decode().encode("utf-16-le"),
    "UTF-16, big-endian, spaced": b"\0 \0\n" + BODY.decode().encode("utf-16-be"),
    "UTF-32": BODY.decode().encode("utf-32"),
    "UTF-32, big-endian": BODY.decode().encode("utf-32-be"),
    "Model": BODY.replace(b'"model"', b'"Model"'),
    "all names in upper case": json.dumps({key.upper(): value for key, value in QUESTION.items()}).encode(),
    "long s": BODY.replace(b'"messages"', '"meſſages"'.encode()),
    "nested deeply": BODY[:-1] + b',"x":' + b"[" * 100 + b"]" * 100 + b"}",
    "an infinite number": BODY[:-1] + b',"x":1e999}',
}


@pytest.mark.parametrize("path", [CHAT, "/api/chat"])
@pytest.mark.parametrize("kind", READ)
def test_a_body_is_read_as_leniently_as_servers_do(kind: str, path: str) -> None:
    found = read_asked("POST", path, READ[kind])
    assert found is not None
    assert PLAIN is not None
    assert found == Asked("gpt-4", found.prompt_tokens, 500)
    assert PLAIN.prompt_tokens <= found.prompt_tokens <= PLAIN.prompt_tokens + 80


UNREADABLE: dict[str, tuple[bytes, str]] = {
    "NaN": (BODY[:-1] + b',"x":NaN}', "gpt-4"),
    "a control character": (BODY[:-1] + b',"x":"\x01"}', "gpt-4"),
    "nested too deeply": (BODY[:-1] + b',"x":' + b"[" * 5000 + b"]" * 5000 + b"}", "gpt-4"),
    "nested without end": (BODY[:-1] + b',"x":' + b"[" * 100_000, "gpt-4"),
    "cut off": (BODY[:-1], "gpt-4"),
    "more after its end": (BODY + b"x", "gpt-4"),
    "no UTF-8": (b'{"model":"\xff","messages":[]', ""),
    "UTF-16 cut in a character": (BODY.decode().encode("utf-16-le")[:-1], "gpt-4"),
    "UTF-16 with half a pair": (BODY.decode().encode("utf-16-le") + b"\x00\xd8", "gpt-4"),
    "another name's case": (BODY[:-1].replace(b'"model"', b'"mODEL"'), "gpt-4"),
    "half of an emoji in much text": (BODY[:-1] + b',"x":"' + b"x" * MAX_MENDED_BYTES + b'\\ud83d"}', "gpt-4"),
}


@pytest.mark.parametrize("path", [CHAT, "/api/chat"])
@pytest.mark.parametrize("kind", UNREADABLE)
def test_what_cannot_be_read_counts_by_its_size(kind: str, path: str) -> None:
    body, model = UNREADABLE[kind]
    found = read_asked("POST", path, body)
    if path != CHAT and not model:
        assert found is None
        return
    assert found is not None
    assert (found.model, found.max_completion_tokens) == (model, None)
    assert len(body) // 4 <= found.prompt_tokens <= len(body) // 3 + 10


NO_OBJECTS = (gzip.compress(BODY), b"[" + BODY + b"]", b"\xa0" + BODY, b"model=gpt-4", b"7", b" ", b"\0", b"\xff\xfe")


@pytest.mark.parametrize("body", NO_OBJECTS)
def test_what_is_no_json_object_counts_where_models_are_asked(body: bytes) -> None:
    found = read_asked("POST", CHAT, body)
    assert found is not None
    assert found == Asked("gpt-4" if b'"gpt-4"' in body else "", found.prompt_tokens, None)
    assert len(body) / 3 <= found.prompt_tokens <= len(body) / 3 + 6
    assert read_asked("POST", "/api/chat", body) is None


@pytest.mark.parametrize("model", [None, "", " ", 7, ["m"], {"model": "m"}])
def test_without_a_model_it_counts_as_that_of_none(model: Any) -> None:
    found = read_asked("POST", CHAT, json.dumps({**QUESTION, "model": model}).encode())
    assert found is not None
    assert found == Asked("", found.prompt_tokens, 500)


@pytest.mark.parametrize(
    "path",
    [
        "/V1/Chat/COMPLETIONS",
        "/v1/chat/completions/",
        "/v1/chat/completions//",
        "/v1/chat/completions?x=/count_tokens",
        "/v1/chat/completions?x=/embeddings",
        "/v1/chat/completions?x=/openai/deployments/free/",
        "/v1/chat/completions;a=b",
        "/v1/chat/completions;a=/count_tokens",
        "/v1/chat/completions;a=/messages/count_tokens",
        "/v1/chat/completions;/embeddings",
        "/v1/chat;a=b/completions",
        "/v1/chat/c%6Fmpletions",
        "/v1/chat/completions%2F",
        "/v1/chat/completions%20",
        "/v1//chat//completions",
        "/v1/messages",
        "/v1/responses/",
        "/v1/messages//batches",
        "/p" * 999 + "/v1/messages",
    ],
)
def test_a_path_is_known_however_it_is_written(path: str) -> None:
    found = read_asked("POST", path, b"\x1f\x8b" + bytes(298))
    assert found == Asked("", 104, None)
    whole = read_asked("POST", path, BODY)
    assert whole is not None
    assert (whole.model, whole.max_completion_tokens) == ("gpt-4", 500)


@pytest.mark.parametrize(
    "path",
    ["/v1/embeddings", "/V1/Embeddings/;a", "/openai/deployments/d/embeddings", "/v1/rerank", "/v1/audio/speech"],
)
def test_where_there_is_no_completion_there_is_none_of_what_cannot_be_read(path: str) -> None:
    found = read_asked("POST", path, b"\x1f\x8b" + bytes(298))
    assert found == Asked("d" if "/d/" in path else "", 104, 0)


def test_azures_deployment_counts_for_what_cannot_be_read_and_is_looked_for_in_the_path_alone() -> None:
    for path in ("/openai/deployments/d/chat/completions", "/OpenAI/Deployments/d;x/chat/completions?a"):
        for body in (b"{", BODY[:-1], gzip.compress(BODY)):
            found = read_asked("POST", path, body)
            assert found is not None
            assert found.model == "d"
    assert read_asked("POST", "/x?/openai/deployments/d/chat/completions", b'{"messages":[]}') is None
    assert read_asked("POST", "/openai/deployments//chat/completions", b'{"messages":[]}') == Asked("", 5, None)


@pytest.mark.parametrize("name", ["model", "Model"])
@pytest.mark.parametrize("path", [CHAT, "/api/chat"])
def test_a_body_of_very_many_members_is_read(name: str, path: str) -> None:
    tools = [{"a": 1}] * (MAX_LISTED + 1)
    found = read_asked("POST", path, json.dumps({name: "m", "tools": tools, "messages": [], "max_tokens": 9}).encode())
    assert found is not None
    assert found.model == "m"
    assert found.prompt_tokens >= 9 * MAX_LISTED // 3
    assert found.max_completion_tokens == 9 or (name, path) == ("Model", "/api/chat")


def test_names_are_looked_for_at_both_ends_of_what_cannot_be_read() -> None:
    filling = b'"x":"' + b"xy z" * EDGE_BYTES + b'",'
    for body in (b"{" + filling + BODY[1:-1], BODY[:-1] + b"," + filling):
        found = read_asked("POST", "/api/chat", body)
        assert found is not None
        assert found.model == "gpt-4"
    assert read_asked("POST", CHAT, b"{" + filling + BODY[1:-1] + b"," + filling) == Asked("", 174803, None)


# --- batches ---


def batch(*params: dict[str, Any]) -> bytes:
    return json.dumps({"requests": [{"custom_id": str(n), "params": each} for n, each in enumerate(params)]}).encode()


@pytest.mark.parametrize("path", [BATCH, "/a/proxy"])
@pytest.mark.parametrize(
    ("params", "limit", "completions"),
    [
        ([QUESTION], 500, 1),
        ([QUESTION] * 3, 1500, 3),
        ([QUESTION, {**QUESTION, "max_tokens": "20", "n": 2}], 540, 2),
        ([QUESTION, {"messages": []}], 1000, 2),
        ([{"model": "gpt-4", "n": 3}, {"max_tokens": 0}], None, 4),
        ([{"model": "gpt-4", "max_tokens": 10**9}] * 3, MAX_TOKENS, 3),
    ],
)
def test_a_batch_asks_for_all_that_its_requests_do(
    path: str, params: list[dict[str, Any]], limit: int | None, completions: int
) -> None:
    body = batch(*params)
    found = read_asked("POST", path, body)
    assert found is not None
    assert found == Asked("gpt-4", found.prompt_tokens, limit, completions, answers_later=True)
    assert len(body) // 4 <= found.prompt_tokens <= len(body) // 3 + 5


@pytest.mark.parametrize("requests", [None, 7, [], {}, [7], [{"params": 7}, {"params": QUESTION}], [{}]])
def test_a_batch_that_is_none_counts_where_batches_go(requests: Any) -> None:
    body = json.dumps({"requests": requests}).encode()
    found = read_asked("POST", BATCH, body)
    assert found is not None
    assert found.max_completion_tokens in (None, MAX_TOKENS)
    assert found.completions == 1


@pytest.mark.parametrize("path", [BATCH, "/a/proxy"])
@pytest.mark.parametrize("count", [MAX_REQUESTS + 1, MAX_OBJECTS])
def test_a_batch_that_is_too_long_to_look_through_is_taken_for_the_greatest(path: str, count: int) -> None:
    body = batch(*[{"model": "m", "max_tokens": 1}] * count)
    found = read_asked("POST", path, body)
    assert found is not None
    assert (found.model, found.max_completion_tokens) == ("m" if path != BATCH else found.model, MAX_TOKENS)


def test_work_in_the_background_answers_later() -> None:
    values: list[tuple[Any, bool]] = [(True, True), (1, True), ("yes", True), (False, False), (None, False), (0, False)]
    for value, is_later in values:
        found = read_asked("POST", "/v1/responses", json.dumps({"model": "m", "background": value}).encode())
        assert found is not None
        assert found.answers_later == is_later


UNITS: dict[str, Callable[[], bytes]] = {
    "half surrogates": lambda: b'{"model":"m","messages":"' + b"\\ud83d" * 1_500_000 + b'"}',
    "names": lambda: b'{"x":\xff' + b'"model":' * 1_000_000,
    "quotes": lambda: b'{"model":"m","prompt":["' + b'\\"' * 4_000_000 + b'"]}',
    "members": lambda: b"{" + b",".join(b'"A%d":1' % n for n in range(700_000)) + b"}",
    "requests": lambda: b'{"requests":[' + b",".join([b'{"params":{}}'] * 600_000) + b"]}",
    "UTF-16": lambda: ("{" + "世" * 4_000_000).encode("utf-16"),
    "half surrogates of UTF-16": lambda: b"{\0" + b"\x00\xd8" * 4_000_000,
}


@pytest.mark.parametrize("path", [CHAT, BATCH, "/api/chat"])
@pytest.mark.parametrize("unit", UNITS)
def test_nothing_that_cannot_be_read_takes_long(unit: str, path: str) -> None:
    body = UNITS[unit]()
    begun_s = time.process_time()
    read_asked("POST", path, body)
    assert time.process_time() - begun_s < 0.5  # it takes up to 20 ms
