"""The official ``openai`` package, four ways, at one simulator."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from daemon_process import DaemonProcess
from package_stories import Suite, four_ways, simulator_thread

from connector_sdk import RuntimeConfig

HELLO: Any = [{"role": "user", "content": "Hello, what is a deadline?"}]
ASKED: Any = {"model": "large", "messages": HELLO}


@pytest.fixture(scope="module")
def suite(running: DaemonProcess) -> Iterator[Suite]:
    config = RuntimeConfig(socket_path=running.socket_path, use_tcp=False, tenant_id="openai")
    with simulator_thread(require_key="sk-right", models=("large", "small")) as url, four_ways(config) as ways:
        yield Suite(
            ways,
            url,
            lambda way: (openai.AsyncOpenAI if way.is_async else openai.OpenAI)(
                base_url=f"{url}/v1", api_key="sk-right", max_retries=0, **way.options()
            ),
        )
