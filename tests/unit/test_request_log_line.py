"""The line of a request is written by hand, and is the line that structlog would write."""

import re

import pytest
import structlog
from log_text import LogText

from vastar_runtime.telemetry import log as logging


@pytest.fixture
def stream():
    stream = LogText()
    logging.configure(stream)
    yield stream
    structlog.reset_defaults()


@pytest.mark.parametrize(
    "value",
    ["plain", "two words", "a=b", 'say "hi"', "back\\slash", 'both \\ and "', "tab\there", "é", "", 0.0, 12, -1.5],
)
def test_a_value_is_written_as_structlog_writes_it(stream, value):
    fields = {"method": "GET", "error": value, "tenant": "x"}
    logging.write_request(fields)
    structlog.get_logger().info("request", **fields)
    by_hand, by_structlog = stream.getvalue().splitlines()
    stamp = re.compile(r"timestamp=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?Z ")
    assert stamp.match(by_hand)
    assert stamp.sub("", by_hand) == stamp.sub("", by_structlog)


def test_without_a_log_of_its_own_the_line_goes_where_structlog_writes(monkeypatch):
    monkeypatch.setattr(logging, "_writer", None)
    with structlog.testing.capture_logs() as lines:
        logging.write_request({"method": "GET"})
    assert lines == [{"event": "request", "log_level": "info", "method": "GET"}]
