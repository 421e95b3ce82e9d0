"""The messages that the guides explain are those of the source, and the protocol's page has the whole schema."""

import re
from pathlib import Path

import pytest

from connector_sdk.wire import ErrorClass, MessageType

ROOT = Path(__file__).resolve().parents[2]
TROUBLESHOOTING = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
PROTOCOL = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
SCHEMA = (ROOT / "schemas" / "connector_ipc.fbs").read_text(encoding="utf-8")

# What stands for names and numbers on the page.
PLACEHOLDERS = (
    "socket PATH|ADDRESS|ENCODING|ENDPOINT|FILE|GROUP|HOST:PORT|LOG|METHOD|MODE|NAME|N|ORIGIN|PATH|R|SOCKET|T|VALUE"
)
_PLACEHOLDER = re.compile(rf"…|(?<![\w.])(?:{PLACEHOLDERS})(?!\w)")
# Where messages are put together from several: the words before and after are looked for apart.
_JOINT = re.compile(r"(?<=: )|(?=; )|[()]")


def messages() -> list[str]:
    """What stands as code in the first column of the tables."""
    first_cells = re.findall(r"^\| ((?:`[^`]+`(?:, (?:or )?)?)+) \|", TROUBLESHOOTING, re.MULTILINE)
    return [message for cell in first_cells for message in re.findall(r"`([^`]+)`", cell)]


def source() -> str:
    """All literals, those that stand one below the other joined."""
    paths = [*(ROOT / "vastar_runtime").rglob("*.py"), *(ROOT / "connector_sdk").glob("*.py")]
    paths += (ROOT / "connector_sdk" / "wire").glob("*.py")
    text = "\n".join(path.read_text(encoding="utf-8") for path in paths)
    return re.sub(r"\"\s*\n\s*f?r?\"", "", text).replace('\\"', '"')


def test_every_message_that_is_explained_is_one_that_the_source_has() -> None:
    text, unknown = source(), []
    for message in messages():
        for part in _PLACEHOLDER.split(message):
            words = part.strip(" '\"`,")
            if len(words) > 3 and words not in text and not all(piece.strip() in text for piece in _JOINT.split(words)):
                unknown.append(f"{message}: {words}")
    assert unknown == []
    assert len(messages()) > 70


def test_a_message_that_there_is_not_would_be_noticed() -> None:
    assert "no daemon answers at" in source()
    assert "the daemon is out for lunch" not in source()


def rows(heading: str) -> dict[str, str]:
    """First and second column of the table below a heading."""
    (section,) = re.findall(rf"^### {heading}\n(.*?)(?=^##|\Z)", PROTOCOL, re.MULTILINE | re.DOTALL)
    return dict(re.findall(r"^\| `(\w+)` \| ([^|]+?) \|", section, re.MULTILINE))


@pytest.mark.parametrize("table", re.findall(r"^table (\w+)", SCHEMA, re.MULTILINE))
def test_every_table_of_the_schema_is_on_the_page_with_its_fields_in_order(table: str) -> None:
    (body,) = re.findall(rf"^table {table} \{{(.*?)^\}}", SCHEMA, re.MULTILINE | re.DOTALL)
    fields = re.findall(r"^\s+(\w+): ([\w\[\]]+)", body, re.MULTILINE)

    assert list(rows(table).items()) == fields
    for name in re.findall(r"^\s+(\w+): \w+ \(required\)", body, re.MULTILINE):
        assert re.search(rf"^\| `{name}` \| string \| required", PROTOCOL, re.MULTILINE), name


def test_every_value_of_every_enum_is_on_the_page() -> None:
    for enum, body in re.findall(r"^enum (\w+) : byte \{(.*?)\}", SCHEMA, re.MULTILINE | re.DOTALL):
        assert f"`{enum}`" in PROTOCOL
        for name, value in re.findall(r"(\w+) = (\d+)", body):
            assert re.search(rf"^\| {value} \| {name} \||\b{name} = {value}\b", PROTOCOL, re.MULTILINE), name
    assert len(re.findall(r"^\| \d+ \| \w+ \|", PROTOCOL, re.MULTILINE)) == len(MessageType) + len(ErrorClass)
