"""The simulator's models, embeddings and Azure's paths, over a real socket."""

from __future__ import annotations

import base64
import json
import math
import struct
from typing import Any

import pytest
from simulator_client import Simulator, question, simulator

from vastar_runtime.simulator import embeddings
from vastar_runtime.simulator.api_error import ApiError

EMBEDDINGS = "/v1/embeddings"
AZURE = "/openai/deployments/{}/chat/completions"
VERSION = "?api-version=2024-10-21"
ANTHROPIC = {"anthropic-version": "2023-06-01"}


async def test_without_a_list_a_few_models_are_shown_and_every_name_is_answered() -> None:
    async with simulator() as ask:
        found = await ask(path="/v1/models", method="GET")
        one = await ask(path="/v1/models/some/model", method="GET")
        unknown = await ask(path="/v1/models/simulate-unknown", method="GET")
    assert found.json["object"] == "list"
    assert "gpt-4o-mini" in [model["id"] for model in found.json["data"]]
    assert one.json == {"id": "some/model", "object": "model", "created": 1735689600, "owned_by": "simulator"}
    assert (unknown.status, unknown.error["code"]) == (404, "model_not_found")


async def test_with_a_list_others_do_not_exist_in_any_api() -> None:
    async def asked(ask: Simulator, model: str) -> list[Any]:
        return [
            await ask(question(model=model)),
            await ask({"model": model, "input": "Hello"}, path=EMBEDDINGS),
            await ask({"model": model, "input": "Hello"}, path="/v1/responses"),
            await ask(question(model=model, max_tokens=9), path="/v1/messages", **ANTHROPIC),
            await ask(path=f"/v1/models/{model}", method="GET"),
            await ask(question(model=model), path="/test_completion"),
        ]

    async with simulator(models=("large", "small")) as ask:
        found = await ask(path="/v1/models", method="GET")
        known, unknown = await asked(ask, "small"), await asked(ask, "medium")
        quota = await ask(question(model="simulate-quota"))
        deployment = await ask(question(), path=AZURE.format("medium") + VERSION)
    assert [model["id"] for model in found.json["data"]] == ["large", "small"]
    assert [answer.status for answer in known] == [200] * 6
    assert [answer.status for answer in unknown] == [404] * 6
    assert unknown[0].error["code"] == "model_not_found"
    assert unknown[3].json["error"]["type"] == "not_found_error"
    assert quota.status == 429
    assert (deployment.status, deployment.error["code"]) == (404, "DeploymentNotFound")


async def test_anthropic_s_form_has_pages() -> None:
    async def names(ask: Simulator, query: str) -> tuple[list[str], bool]:
        page = (await ask(path=f"/v1/models{query}", method="GET", **ANTHROPIC)).json
        ids = [model["id"] for model in page["data"]]
        assert (page["first_id"], page["last_id"]) == ((ids[0], ids[-1]) if ids else (None, None))
        return ids, page["has_more"]

    async with simulator(models=("a", "b", "c", "d", "e")) as ask:
        assert await names(ask, "?limit=2") == (["a", "b"], True)
        assert await names(ask, "?limit=2&after_id=b") == (["c", "d"], True)
        assert await names(ask, "?limit=2&after_id=d") == (["e"], False)
        assert await names(ask, "?limit=2&after_id=e") == ([], False)
        assert await names(ask, "?limit=2&before_id=d") == (["b", "c"], True)
        assert await names(ask, "") == (["a", "b", "c", "d", "e"], False)
        one = await ask(path="/v1/models/a", method="GET", **ANTHROPIC)
        bad = await ask(path="/v1/models?limit=many", method="GET", **ANTHROPIC)
        unknown = await ask(path="/v1/models/x", method="GET", **ANTHROPIC)
    assert (one.json["type"], one.json["id"]) == ("model", "a")
    assert (bad.status, bad.json["error"]["type"]) == (400, "invalid_request_error")
    assert (unknown.status, unknown.json["error"]["type"]) == (404, "not_found_error")


async def test_a_deployment_answers_as_its_model_and_needs_an_api_version() -> None:
    path = AZURE.format("my-deployment")
    async with simulator() as ask:
        chat = await ask({"messages": question()["messages"]}, path=path + VERSION)
        named = await ask(question(model="gpt-4o"), path=f"{path}?api-version=2025-01-01-preview")
        vector = await ask({"input": "Hello"}, path=f"/openai/deployments/my-deployment/embeddings{VERSION}")
        refused = [await ask(question(), path=path), await ask(question(), path=f"{path}?api-version=newest")]
    assert (chat.json["model"], named.json["model"], vector.json["model"]) == (
        "my-deployment",
        "gpt-4o",
        "my-deployment",
    )
    assert [(answer.status, answer.error["code"]) for answer in refused] == [(404, "404")] * 2
    assert all("api-version" in answer.error["message"] for answer in refused)


async def test_azure_has_openai_s_paths_as_well() -> None:
    body = {"model": "mine", "input": "Hello"}
    async with simulator(require_key="right", models=("mine",)) as ask:

        async def asked(path: str, body: object = None, method: str = "POST") -> Any:
            return await ask(body, path=f"/openai{path}", method=method, **{"api-key": "right"})

        answers = [
            await asked(f"/responses{VERSION}", body),
            await asked(f"/models{VERSION}", method="GET"),
            await asked(f"/models/mine{VERSION}", method="GET"),
            await asked("/v1/chat/completions", question(model="mine")),
            await asked("/v1/responses", body),
            await asked("/v1/embeddings", body),
            await asked("/v1/models/mine", method="GET"),
        ]
        refused = [
            await ask(body, path="/openai/v1/responses"),
            await asked(f"/models/other{VERSION}", method="GET"),
            await asked("/responses", body),
            await asked("/models", method="GET"),
            await asked("/models/mine", method="GET"),
        ]
    assert [answer.status for answer in answers] == [200] * 7
    assert answers[2].json == answers[6].json
    codes = [(answer.status, answer.error["code"]) for answer in refused]
    assert codes == [(401, "invalid_api_key"), (404, "model_not_found"), *[(404, "404")] * 3]


@pytest.mark.parametrize(
    ("model", "dimensions", "size"),
    [
        ("text-embedding-3-small", None, 1536),
        ("text-embedding-3-large", None, 3072),
        ("text-embedding-3-large", 5, 5),
        ("text-embedding-ada-002", None, 1536),
        ("other", None, 1536),
        ("other", 3072, 3072),
    ],
)
def test_a_known_model_has_its_dimensions(model: str, dimensions: int | None, size: int) -> None:
    body = json.dumps({"model": model, "input": "Hello", "dimensions": dimensions}).encode()
    (data,) = embeddings.embed(embeddings.parse(body))["data"]
    assert len(json.loads(bytes(data["embedding"]))) == size


@pytest.mark.parametrize(
    ("model", "dimensions", "says"),
    [
        ("text-embedding-3-small", 1537, "less than or equal to 1536"),
        ("text-embedding-ada-002", 1536, "does not support 'dimensions'"),
    ],
)
def test_a_known_model_has_no_other_dimensions(model: str, dimensions: int, says: str) -> None:
    body = json.dumps({"input": "Hello", "dimensions": dimensions}).encode()
    with pytest.raises(ApiError, match=says) as caught:
        embeddings.parse_for_deployment(body, model)
    assert caught.value.param == "dimensions"


async def test_embeddings_in_both_forms_are_equal_and_of_unit_length() -> None:
    asked = {"model": "embed", "input": ["The sky is blue.", "Blue is the sky", "A file was closed"], "dimensions": 64}
    async with simulator() as ask:
        whole = await ask(asked, path=EMBEDDINGS)
        packed = await ask(asked | {"encoding_format": "base64"}, path=EMBEDDINGS)
        default = await ask({"model": "embed", "input": "The sky is blue."}, path=EMBEDDINGS)
    vectors = [item["embedding"] for item in whole.json["data"]]
    assert [item["index"] for item in whole.json["data"]] == [0, 1, 2]
    unpacked = [struct.unpack("<64f", base64.b64decode(item["embedding"])) for item in packed.json["data"]]
    assert [list(vector) for vector in unpacked] == vectors
    assert all(math.isclose(math.hypot(*vector), 1, rel_tol=1e-6) for vector in vectors)
    assert len(default.json["data"][0]["embedding"]) == 1536
    assert whole.json["usage"] == {"prompt_tokens": 13, "total_tokens": 13}
    assert (whole.json["object"], whole.json["model"]) == ("list", "embed")
    sky, again, other = vectors
    assert sky == again
    assert sum(map(float.__mul__, sky, other)) < 0.5


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "input"),
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a", ""]}, "input[1]"),
        ({"input": ["a", [1]]}, "input[1]"),
        ({"input": [[1], []]}, "input[1]"),
        ({"input": [1, "a"]}, "input[1]"),
        ({"input": [-1]}, "input[0]"),
        ({"input": ["a"] * 2049}, "input"),
        ({"input": "a " * 8193}, "input"),
        ({"input": ["a " * 8000] * 38}, "input"),
        ({"input": "a", "dimensions": 0}, "dimensions"),
        ({"input": "a", "dimensions": 4000}, "dimensions"),
        ({"input": "a", "encoding_format": "hex"}, "encoding_format"),
    ],
)
async def test_inputs_that_cannot_be_embedded_are_named(fields: dict[str, Any], param: str) -> None:
    async with simulator() as ask:
        answer = await ask({"model": "embed"} | fields, path=EMBEDDINGS)
    assert (answer.status, answer.error["type"], answer.error["param"]) == (400, "invalid_request_error", param)


async def test_tokens_are_words_too_and_odd_inputs_have_a_vector() -> None:
    async with simulator() as ask:
        numbers = await ask({"model": "e", "input": [5, 7]}, path=EMBEDDINGS)
        lists = await ask({"model": "e", "input": [[7, 5], [5]]}, path=EMBEDDINGS)
        odd = await ask({"model": "e", "input": ["!!!", " ", "a b c d e f"], "dimensions": 1}, path=EMBEDDINGS)
    assert numbers.json["data"][0] == lists.json["data"][0]
    assert numbers.json["usage"]["prompt_tokens"] == 2
    assert {item["embedding"][0] for item in odd.json["data"]} <= {1.0, -1.0}
