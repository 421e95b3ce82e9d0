"""The guides tell the truth: every block of every page is run, compared or checked, in the order of the page.

Without a marker (guide_blocks.py has them) a block of Python is a script and one of a shell is typed in; everything
else says what it is. Ports and sockets are those of the tests.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from daemon_process import DaemonProcess
from guide_blocks import DOCS, MARKERS, PAGES, ROOT, Block, blocks_of
from guide_files import check_commands, check_file
from guide_session import Session, session
from simulator_process import simulator_port_of
from threaded_upstream import Call, upstream

BIN = Path(sys.executable).parent
READ_ONLY = ("go", "typescript", "java", "diff")
SIMULATED = ("4545", "https://api.openai.com")
AZURE = "https://your-resource.openai.azure.com"
SOCKETS = ("/tmp/vastar-connector-runtime.sock", "/run/vastar/runtime.sock")
# A page that starts and stops a daemon has one of its own, as its reader has.
CONTROLS = re.compile(r"^vastar-runtime (start|stop|restart|reload)\b", re.MULTILINE)

Follow = Callable[[list[Block]], AbstractContextManager[Session]]


@pytest.fixture(scope="module")
def simulator_port() -> Iterator[str]:
    """The simulator of all pages, at its quickest."""
    command = [str(BIN / "vastar-runtime"), "simulator", "--port", "0", "--tokens-per-second", "0"]
    with simulator_port_of(command) as port:
        yield port


@pytest.fixture
def azure_url() -> Iterator[str]:
    """A resource at Azure with one deployment, at an address of its own."""

    def answer(call: Call) -> None:
        path = "/openai/deployments/gpt-4o-mini/chat/completions?api-version=2024-10-21"
        is_known = call.seen.target == path and ("api-key", "4711") in call.seen.headers
        message = {"role": "assistant", "content": "Hello from a deployment"}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        call.answer(200 if is_known else 404, json.dumps({"choices": choices}).encode())

    with upstream(answer) as azure:
        yield azure.url


@pytest.fixture
def directory() -> Iterator[Path]:
    """Short enough for a socket in it."""
    path = tempfile.mkdtemp(prefix="guide-", dir="/tmp")
    yield Path(path)
    shutil.rmtree(path)


NOBODY = "127.0.0.1:1"


@pytest.fixture
def follow_in(directory: Path, request: pytest.FixtureRequest) -> Iterator[Follow]:
    """Readers with a machine of their own: no daemon, no log and no key of the person who runs the tests."""
    environ = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("VASTAR_", "OPENAI_", "AZURE_", "ANTHROPIC_")) and not name.lower().endswith("_proxy")
    }
    environ |= {
        "HOME": str(directory / "home"),
        "PATH": f"{BIN}{os.pathsep}{environ['PATH']}",
        "TERM": "dumb",
        "VASTAR_CONFIG": os.devnull,
        "VASTAR_LOG_FILE": str(directory / "log"),
        "VASTAR_SOCKET_PATH": str(directory / "socket"),
        "XDG_STATE_HOME": str(directory / "state"),
    }
    (directory / "work").mkdir()
    (directory / "home").mkdir()

    def begin(blocks: list[Block]) -> AbstractContextManager[Session]:
        run = "".join(block.text for block in blocks if is_run(block))
        places = {"/tmp/vastar-runtime.log": environ["VASTAR_LOG_FILE"]}
        if run and not CONTROLS.search(run):
            daemon: DaemonProcess = request.getfixturevalue("running")
            environ["VASTAR_SOCKET_PATH"] = daemon.socket_path
            places |= {f"{before}5000": f"{before}{daemon.tcp_port}" for before in (":", "tcp_port=", "TCP_PORT=")}
        if any(name in run for name in SIMULATED):
            port: str = request.getfixturevalue("simulator_port")
            environ["SIMULATOR_URL"] = url = f"http://127.0.0.1:{port}"
            # A page without Python speaks of the real one, and asks nothing of it.
            is_asked = SIMULATED[1] in run and any(block.language == "python" for block in blocks)
            places |= ({SIMULATED[1]: url} if is_asked else {}) | {SIMULATED[0]: port}
        if AZURE in run:
            places[AZURE] = request.getfixturevalue("azure_url")
        places |= dict.fromkeys(SOCKETS, environ["VASTAR_SOCKET_PATH"])
        # Nobody listens there, and the daemon leaves it alone after the failures of other tests: a place for each page.
        nobody = f"127.0.{1 + [page.name for page in PAGES].index(blocks[0].page)}.1:1" if blocks else NOBODY
        places |= {f"{NOBODY}{end}": f"{nobody}{end}" for end in '/":'}
        return session(directory / "work", environ, places)

    yield begin
    for path in [path for path in directory.rglob("*") if path.is_socket()]:
        subprocess.run([BIN / "vastar-runtime", "stop", "--socket", path], env=environ, timeout=50, check=True)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_can_be_followed(page: Path, follow_in: Follow) -> None:
    blocks = blocks_of(page)
    with follow_in(blocks) as following:
        for block in blocks:
            follow(block, following)


def is_run(block: Block) -> bool:
    return not {"not run", "running", "file"} & block.markers.keys()


def follow(block: Block, following: Session) -> None:
    """Do with a block what its reader does."""
    unknown = block.markers.keys() - MARKERS
    assert not unknown, f"{block.place}: unknown: {', '.join(unknown)}"
    if block.language in ("sh", "dockerfile", "ini"):
        check_commands(block.text, block.place)
    match block.language, block.markers:
        case _, {"file": _}:
            check_file(following.write(block), block.place)
        case _, {"output": _}:
            following.check_output(block)
        case "sh", {"running": _}:
            pass
        case "sh", {"background": _}:
            following.background(block)
        case "sh" | "python", {"not run": reason}:
            assert reason, block.place
        case language, {"not run": reason} if language in READ_ONLY:
            assert reason, block.place
        case "sh", _:
            following.shell(block)
        case "python", _:
            following.python(block)
        case _:
            raise AssertionError(f"{block.place}: what is to be done with this block of {block.language or 'nothing'}?")


def test_a_block_that_nobody_has_thought_of_is_noticed(tmp_path: Path, follow_in: Follow) -> None:
    page = tmp_path / "page.md"
    for text, problem in (
        ("```cobol\nSTOP RUN.\n```\n", "what is to be done with this block of cobol"),
        ("```\nx\n```\n", "what is to be done with this block of nothing"),
        ("<!-- later -->\n```python\n```\n", "unknown: later"),
        ("```sh\nvastar-runtime status --jsn\n```\n", "No such option '--jsn'"),
        ("<!-- file: limits.toml -->\n```toml\n[policy]\nx = 1\n```\n", "policy.x: unknown"),
        ('```python\nprint("a")\n```\n\n<!-- output -->\n```text\nb\n```\n', "but it printed:\na\n"),
        ("- x\n\n    ```sh\n    ls\n    ```\n", "a fence is indented"),
    ):
        page.write_text(text)
        with follow_in([]) as following, pytest.raises(AssertionError, match=re.escape(problem)):
            for block in blocks_of(page):
                follow(block, following)


def built(root: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """Without --quiet, which keeps warnings from being counted."""
    command = [BIN / "mkdocs", "build", "--strict", "--site-dir", site]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=50, check=False)


def test_a_link_that_leads_nowhere_fails_the_build(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[0]
    (tmp_path / "mkdocs.yml").write_text(settings)
    for link, is_right in (("#here", True), ("#nowhere", False), ("nowhere.md", False), ("/index.html", False)):
        (tmp_path / "docs" / "index.md").write_text(f"# Here\n\n[a link]({link})\n")
        assert (built(tmp_path, tmp_path / "site").returncode == 0) is is_right, link


def test_the_guides_are_built_without_a_warning_and_load_nothing_from_elsewhere(tmp_path: Path) -> None:
    done = built(ROOT, tmp_path / "site")

    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    assert {page.stem for page in PAGES} <= {page.stem for page in (tmp_path / "site").glob("*.html")}
    for page in (tmp_path / "site").glob("*.html"):
        assert not re.search(r"<(?:script|link|img)[^>]* (?:src|href)=\"(?:https?:)?//", page.read_text()), page.name


def test_every_example_of_the_command_line_has_options_that_there_are() -> None:
    examples = re.findall(r"^Example: `(.*)`$", (DOCS / "command-line.md").read_text(), re.MULTILINE)

    assert len(examples) > 12
    for example in examples:
        check_commands(example, example)


def test_the_connector_that_the_guide_builds_has_fewer_than_60_lines() -> None:
    (connector,) = [block for block in blocks_of(DOCS / "connector.md") if block.markers.get("file") == "issues.py"]

    assert len(connector.text.splitlines()) < 60


def test_the_links_of_the_readme_lead_to_pages_and_headings() -> None:
    links = re.findall(r"\]\((docs/[^)#]*)#?([^)]*)\)", (ROOT / "README.md").read_text())

    assert len(links) > 10
    for page, anchor in links:
        headings = re.findall(r"^#+ (.*)$", (ROOT / page).read_text(), re.MULTILINE)
        anchors = {re.sub(r"[^a-z0-9_ -]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert not anchor or anchor in anchors, f"{page}#{anchor}"


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text().partition("\nnav:")[2]

    assert [page.name for page in PAGES if f" {page.name}\n" not in navigation] == []
    assert not list(DOCS.glob("*/*.md"))


def test_every_command_within_a_sentence_has_the_options_that_it_is_named_with() -> None:
    named = 0
    for page in [*PAGES, ROOT / "README.md"]:
        for span in re.findall(r"`(vastar-runtime [^`]+)`", page.read_text(encoding="utf-8")):
            named += 1
            # "config explain" alone is a name, and no command to type.
            check_commands(span if " -" in span else f"{span} --help", f"{page.name}: {span}")
    assert named > 20
