"""The simulator's issues and customers: pages, cursors, keys, and errors as such APIs have them."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from simulator_client import Answer, Simulator, simulator

from vastar_runtime.simulator import customers_api, issues_api

KEY = {"Authorization": "Bearer key"}
ISSUES = "/repos/ada/engine/issues"
CUSTOMERS = "/v1/customers"


async def get(ask: Simulator, path: str, **headers: str) -> Answer:
    return await ask(b"", path=path, method="GET", **(headers or KEY))


async def post(ask: Simulator, path: str, body: object, **headers: str) -> Answer:
    return await ask(body, path=path, **{"Content-Type": "application/json"} | KEY | headers)


def links(answer: Answer) -> dict[str, str]:
    return {
        name: url for url, name in re.findall(r'<http://[^/]+([^>]+)>; rel="(\w+)"', answer.headers.get("link", ""))
    }


async def every_page(ask: Simulator, path: str) -> list[Any]:
    found, answer = [], await get(ask, path)
    while True:
        found += answer.json
        if "next" not in links(answer):
            return found
        answer = await get(ask, links(answer)["next"])


async def test_issues_come_in_pages_that_lead_to_each_other() -> None:
    async with simulator() as ask:
        everything = await every_page(ask, f"{ISSUES}?state=all&per_page=40")
        open_ones = await every_page(ask, ISSUES)
        closed = await get(ask, f"{ISSUES}?state=closed")
        middle = await get(ask, f"{ISSUES}?state=all&per_page=30&page=2")
        beyond = await get(ask, f"{ISSUES}?page=99&per_page=100")
        other = await get(ask, "/repos/ada/other/issues?state=all&per_page=100")
    assert [issue["number"] for issue in everything] == list(range(95, 0, -1))
    assert [issue["state"] for issue in everything].count("closed") == len(closed.json) == 19
    assert open_ones == [issue for issue in everything if issue["state"] == "open"]
    assert "link" not in closed.headers
    assert links(middle) == {
        name: f"{ISSUES}?state=all&per_page=30&page={page}"
        for name, page in [("prev", 1), ("next", 3), ("last", 4), ("first", 1)]
    }
    assert (beyond.json, set(links(beyond))) == ([], {"prev", "first"})
    assert len({issue["id"] for issue in everything + other.json}) == 190
    assert not [name for name in middle.headers if "ratelimit" in name]


async def test_issues_are_the_same_in_every_run() -> None:
    runs = []
    for _ in range(2):
        async with simulator() as ask:
            runs.append([{**issue, "url": ""} for issue in (await get(ask, ISSUES)).json])
    assert runs[0] == runs[1]


async def test_an_issue_is_created_and_found_again() -> None:
    async with simulator() as ask:
        created = await post(ask, ISSUES, {"title": "Ünicode", "body": "text", "labels": ["bug", "mine"], "x": 1})
        found = await get(ask, created.headers["location"].removeprefix(ask.url))
        newest = await get(ask, "/repos/ADA/engine/issues?per_page=1")
        elsewhere = await get(ask, "/repos/ada/other/issues/96")
    assert (created.status, created.json["number"], created.json["title"]) == (201, 96, "Ünicode")
    assert [label["name"] for label in created.json["labels"]] == ["bug", "mine"]
    assert found.json == newest.json[0] == created.json
    assert (elsewhere.status, elsewhere.json) == (404, {"message": "Not Found"})


async def test_issues_of_the_same_title_are_two() -> None:
    async with simulator() as ask:
        places = (ISSUES, ISSUES, "/repos/ada/other/issues")
        created = [(await post(ask, place, {"title": "Again"})).json["id"] for place in places]
        first = (await get(ask, f"{ISSUES}/1")).json["id"]
    assert [number - first for number in created[:2]] == [95, 96]
    assert len(set(created)) == 3


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({}, 422, {"resource": "Issue", "field": "title", "code": "missing_field"}),
        ({"title": ""}, 422, {"code": "missing_field"}),
        ({"title": 1}, 422, {"field": "title", "code": "invalid"}),
        ({"title": "x" * 257}, 422, {"field": "title", "code": "invalid"}),
        ({"title": "x", "labels": [1]}, 422, {"field": "labels"}),
        ({"title": "x", "labels": {}}, 201, {}),
        ({"title": "x", "labels": {"a": 1}}, 422, {"field": "labels"}),
        ({"title": "x", "body": []}, 422, {"field": "body"}),
        ([], 400, {}),
        (b"{", 400, {}),
        (b"[" * 60_000, 400, {}),
        (b" " * 70_000, 413, {}),
    ],
)
async def test_what_is_no_issue_is_refused_as_a_forge_does(body: object, status: int, says: dict[str, str]) -> None:
    async with simulator() as ask:
        answer = await post(ask, ISSUES, body)
    assert answer.status == status
    if status == 422:
        assert answer.json["message"] == "Validation Failed"
        assert answer.json["errors"][0].items() >= says.items()
    elif status >= 400:
        assert set(answer.json) == {"message"}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (f"{ISSUES}?per_page=101", 422),
        (f"{ISSUES}?per_page=0", 422),
        (f"{ISSUES}?page=%C2%B2", 422),
        (f"{ISSUES}?state=ajar", 422),
        (f"{ISSUES}/0", 404),
        (f"{ISSUES}/{'9' * 5000}", 404),
        (f"{ISSUES}/1/comments", 404),
        ("/repos/a%0Ab/engine/issues", 404),
        ("/repos/ada", 404),
    ],
)
async def test_what_there_is_not_has_the_form_of_the_forge(path: str, status: int) -> None:
    async with simulator() as ask:
        answer = await get(ask, path)
    assert answer.status == status
    assert "message" in answer.json


async def test_links_hold_no_host_that_breaks_out_of_them() -> None:
    async with simulator() as ask:
        answer = await get(ask, ISSUES, Host='x>; rel="next", <http://evil', **KEY)
        named = await get(ask, ISSUES, Host="forge.example", **KEY)
    assert "evil" not in answer.headers["link"]
    assert answer.json[0]["url"] == f"{ask.url}{ISSUES}/94"
    assert named.headers["link"].startswith(f"<http://forge.example{ISSUES}?page=2>")


@pytest.mark.parametrize("host", ["[", "]", "a]", "[::1", "[::::]", "[1]", "x:65536", "x:", "a:b", "::1", ""])
async def test_what_is_no_host_is_in_no_link(host: str) -> None:
    async with simulator() as ask:
        answer = await get(ask, ISSUES, Host=host, **KEY)
        numbers = await get(ask, ISSUES, Host="[::1]:65535", **KEY)
    assert answer.headers["link"].startswith(f"<{ask.url}{ISSUES}?page=2>")
    assert numbers.headers["link"].startswith(f"<http://[::1]:65535{ISSUES}?page=2>")


@pytest.mark.parametrize("path", [ISSUES, CUSTOMERS])
async def test_a_key_is_asked_for_any_or_the_one(path: str) -> None:
    async with simulator() as ask:
        statuses = [
            (await get(ask, path, Accept="*/*")).status,
            (await get(ask, path, Authorization="Basic key")).status,
            (await get(ask, path, Authorization="Bearer ")).status,
            (await get(ask, path)).status,
        ]
        wrong_method = await ask(b"", path=path, method="DELETE", **KEY)
        head = await ask(b"", path=path, method="HEAD", **KEY)
    async with simulator(require_key="right") as ask:
        refused = await get(ask, path)
        statuses.append((await get(ask, path, Authorization="Bearer right")).status)
    assert statuses == [401, 401, 401, 200, 200]
    assert (wrong_method.status, wrong_method.headers["allow"]) == (405, "GET, POST")
    assert (head.status, head.body) == (200, b"")
    assert refused.status == 401
    assert "Incorrect API key" in json.dumps(refused.json)


async def test_customers_come_by_cursor() -> None:
    found: list[dict[str, Any]] = []
    async with simulator() as ask:
        more: bool = True
        while more:
            after = f"&starting_after={found[-1]['id']}" if found else ""
            page = (await get(ask, f"{CUSTOMERS}?limit=100{after}")).json
            assert (page["object"], page["url"]) == ("list", CUSTOMERS)
            found += page["data"]
            more = page["has_more"]
        first = (await get(ask, CUSTOMERS)).json
        one = await get(ask, f"{CUSTOMERS}/{found[7]['id']}")
        exactly = (await get(ask, f"{CUSTOMERS}?limit=100&starting_after={found[129]['id']}")).json
    assert len({customer["id"] for customer in found}) == 230
    assert [customer["created"] for customer in found] == sorted((c["created"] for c in found), reverse=True)
    assert (first["data"], first["has_more"]) == (found[:10], True)
    assert one.json == found[7]
    assert (len(exactly["data"]), exactly["has_more"]) == (100, False)


@pytest.mark.parametrize(
    ("path", "status", "param", "says"),
    [
        ("?limit=0", 400, "limit", "from 1 to 100"),
        ("?limit=101", 400, "limit", "from 1 to 100"),
        ("?starting_after=cus_x", 400, "starting_after", "No such customer: 'cus_x'"),
        ("?page=2", 400, "page", "Received unknown parameter: page"),
        ("/cus_x", 404, "id", "No such customer: 'cus_x'"),
        ("/cus_x/sources", 404, None, "Invalid URL"),
    ],
)
async def test_what_there_is_not_names_the_parameter(path: str, status: int, param: str | None, says: str) -> None:
    async with simulator() as ask:
        answer = await get(ask, CUSTOMERS + path)
    assert answer.status == status
    assert answer.json["error"]["type"] == "invalid_request_error"
    assert answer.json["error"]["param"] == param
    assert says in answer.json["error"]["message"]


async def test_a_customer_from_a_form_is_the_same_as_one_from_json() -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    async with simulator() as ask:
        by_json = await post(ask, CUSTOMERS, {"name": "Ada", "email": "ada@example.com", "metadata": {"plan": "free"}})
        by_form = await post(ask, CUSTOMERS, b"name=Ada&email=ada%40example.com&metadata[plan]=free&phone=", **form)
        newest = (await get(ask, f"{CUSTOMERS}?limit=1")).json["data"]
        empty = await post(ask, CUSTOMERS, b"")
    assert by_json.status == 200
    assert newest == [by_form.json]
    assert by_json.json["created"] >= 1_700_000_000
    same = ("name", "email", "metadata", "phone", "description")
    assert [by_json.json[name] for name in same] == [by_form.json[name] for name in same]
    assert by_json.json["id"] != by_form.json["id"]
    assert empty.status == 400


@pytest.mark.parametrize(
    ("body", "content_type", "param"),
    [
        ({"nom": "Ada"}, "application/json", "nom"),
        ({"name": 1}, "application/json", "name"),
        ({"name": "x" * 257}, "application/json", "name"),
        ({"email": "nobody"}, "application/json", "email"),
        ({"metadata": {"a": 1}}, "application/json", "metadata"),
        ({"metadata": {"a" * 41: ""}}, "application/json", "metadata"),
        ({"metadata": []}, "application/json", "metadata"),
        ([], "application/json", None),
        (b"name=%FF", "application/x-www-form-urlencoded", None),
        (b"a&" * 1000, "application/x-www-form-urlencoded", None),
        (b"name=Ada", "text/plain", None),
    ],
)
async def test_what_is_no_customer_is_refused(body: object, content_type: str, param: str | None) -> None:
    async with simulator() as ask:
        answer = await post(ask, CUSTOMERS, body, **{"Content-Type": content_type})
    assert (answer.status, answer.json["error"]["param"]) == (400, param)


async def test_an_idempotency_key_makes_one_customer_of_a_request_whose_answer_was_lost() -> None:
    """The answer breaks off after the customer is made."""
    key = {"Idempotency-Key": "k1"}
    async with simulator() as ask:
        with pytest.raises((ConnectionError, OSError)):
            await post(ask, CUSTOMERS, {"name": "Ada"}, **key, **{"X-Simulate": "cut-after=1"})
        again = await post(ask, CUSTOMERS, {"name": "Ada"}, **key)
        other = await post(ask, CUSTOMERS, {"name": "Bob"}, **key)
        too_long = await post(ask, CUSTOMERS, {"name": "Ada"}, **{"Idempotency-Key": "k" * 256})
        newest = (await get(ask, f"{CUSTOMERS}?limit=2")).json["data"]
    assert (again.status, again.headers["idempotent-replayed"]) == (200, "true")
    assert newest[0] == again.json
    assert newest[1]["name"] != "Ada"
    assert (other.status, other.json["error"]["type"]) == (400, "idempotency_error")
    assert too_long.status == 400


async def test_what_is_created_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(customers_api, "MAX_CREATED", 1)
    monkeypatch.setattr(customers_api, "MAX_IDEMPOTENCY_KEYS", 1)
    monkeypatch.setattr(issues_api, "MAX_CREATED", 1)
    async with simulator() as ask:
        first = [await post(ask, ISSUES, {"title": "a"}), await post(ask, CUSTOMERS, {"name": "a"})]
        second = [await post(ask, "/repos/b/c/issues", {"title": "a"}), await post(ask, CUSTOMERS, {"name": "a"})]
    assert [answer.status for answer in first + second] == [201, 200, 503, 503]
    assert "keeps 1 created issues; start it anew" in second[0].json["message"]


async def test_a_fault_for_all_makes_them_apis_with_rate_limits() -> None:
    async with simulator(fault="status=429;retry-after=1;first=1") as ask:
        limited = await get(ask, ISSUES)
        again = await get(ask, ISSUES)
    assert (limited.status, limited.headers["retry-after"], set(limited.json)) == (429, "1", {"message"})
    assert again.status == 200


async def test_a_path_that_an_api_does_not_have_is_answered_in_its_form():
    async with simulator() as ask:
        for path, members in (("/repos", {"message"}), ("/v1/customers/a/b", {"error"})):
            answer = await get(ask, path)
            assert answer.status == 404, path
            assert set(json.loads(answer.body)) == members, path
