"""The fenced blocks of the guides, and what their source says is to be done with them.

A block that needs more than its language has comments right above it, each on a line of its own:

    <!-- file: NAME -->        it is that file, for what follows on the page
    <!-- output -->            what the block before prints; … stands for anything, alone on a line for any lines
    <!-- input: A | B -->      these lines are its standard input
    <!-- exit: N -->           it ends with that status
    <!-- background -->        a command that goes on running; its --port is another one where the tests run it
    <!-- running -->           a command that goes on running, as the one of the tests does
    <!-- not run: REASON -->   it is only read; commands of this project are checked nevertheless
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))

MARKERS = frozenset({"file", "output", "input", "exit", "background", "running", "not run"})
"""Those that take no argument: output, background, running."""

_FENCE = re.compile(r"(?P<comments>(?:^<!-- [^\n]* -->\n)*)^```(?P<language>[a-z]*)\n(?P<text>.*?)^```$", re.M | re.S)
# Where a command can stand: at the beginning, after another one, and after what starts one.
_CALLED = r"(?:^\s*|[;&|(]\s*|\bsudo (?:-u \w+ )?|-- |CMD |Exec\w+=)"
# Up to a pipe, a redirection, a comment or the like, but for those in quotes.
_ARGUMENTS = re.compile(r"""(?:"[^"]*"|'[^']*'|(?<!\s)#|\d(?!\d*>)|[^"'|;&<>)`#\d])*""")
_COMMENT = re.compile(r"<!-- ([a-z ]+?)(?:: (.*))? -->")
_LOOKS_LIKE_ONE = re.compile(r"^\s*(```|~~~)", re.M)


class Block(NamedTuple):
    """A fenced block.

    Attributes:
        line: of its opening fence, from 1.
        language: "" when it says none.
        markers: name to argument, "" for none.
    """

    page: str
    line: int
    language: str
    markers: dict[str, str]
    text: str

    @property
    def place(self) -> str:
        return f"docs/{self.page}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    """All blocks of a page, in order; an AssertionError for what looks like one and is none."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(text):
        line = text.count("\n", 0, match.start("language")) + 1
        comments = [_COMMENT.fullmatch(comment) for comment in match["comments"].splitlines()]
        markers = {comment[1]: comment[2] or "" for comment in comments if comment is not None}
        found.append(Block(page.name, line, match["language"], markers, match["text"]))
    fences = len(_LOOKS_LIKE_ONE.findall(text))
    assert fences == 2 * len(found), f"{page.name}: a fence is indented, not closed, or has more than a language"
    return found


def commands_in(text: str, name: str) -> list[str]:
    """The arguments of each call of ``name`` in the text of a shell, a unit or a container file; without comments,
    continued lines joined, pipes and redirections left out."""
    joined = re.sub(r"\\\n\s*", " ", text)
    lines = re.findall(rf"{_CALLED}(?:[A-Z_]+=\S* )*(?:[\w/.]*/)?{re.escape(name)}(?![\w/.-])([^\n]*)", joined, re.M)
    return [_ARGUMENTS.match(line)[0].strip() for line in lines]  # type: ignore[index]  # it matches anything
