"""One page of the guides, followed as its reader does: in one directory, from the first block to the last."""

from __future__ import annotations

import io
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

from guide_blocks import Block

_PATIENCE_S = 40
_LISTENS = re.compile(r"http://[^:\s]+:(\d+)")

# What the shell of a block leaves to the next one: its exported variables and its directory.
_KEEP = '\nenv -0 > "$GUIDE_ENVIRONMENT"'


class Session:
    """What a page has done so far.

    Args:
        directory: empty; its files are written there.
        environ: of its commands.
        places: what stands on the page, and what the tests have in its place: ports, sockets, names of hosts.
    """

    def __init__(self, directory: Path, environ: Mapping[str, str], places: Mapping[str, str]) -> None:
        self.directory = directory
        self.environ = {**environ, "PWD": str(directory), "GUIDE_ENVIRONMENT": str(directory / ".environment")}
        self.places = dict(places)
        self.output = ""
        self._background: list[subprocess.Popen[str]] = []
        self._modules = set(sys.modules)

    def write(self, block: Block) -> Path:
        """The file that a block is."""
        path = self.directory / block.markers["file"]
        assert path.resolve().is_relative_to(self.directory), block.place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.localised(block.text), encoding="utf-8")
        return path

    def python(self, block: Block) -> None:
        """Run a block as a script; in this process, where what it imports is there already."""
        script = self.directory / f"block_{block.line}.py"
        # At its line of the page, so that a traceback leads there.
        script.write_text("\n" * block.line + self.localised(block.text), encoding="utf-8")
        out, err = io.StringIO(), io.StringIO()
        stdin = io.StringIO(_input(block))
        status: object = 0
        before = os.getcwd()
        with (
            patch.dict(os.environ, self.environ, clear=True),
            patch.object(sys, "path", [str(self.directory), *sys.path]),
            patch.object(sys, "stdin", stdin),
            redirect_stdout(out),
            redirect_stderr(err),
        ):
            os.chdir(self.environ["PWD"])
            try:
                runpy.run_path(str(script), run_name="__main__")
            except SystemExit as left:
                status = left.code or 0
            except Exception as error:
                error.add_note(f"{block.place}, after it printed:\n{out.getvalue()}")
                raise
            finally:
                os.chdir(before)
        self.output = out.getvalue()
        assert err.getvalue() == "", block.place
        assert str(status) == block.markers.get("exit", "0"), f"{block.place}: {status}"

    def shell(self, block: Block) -> None:
        """Run a block as ``bash -euo pipefail``."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", self.localised(block.text) + _KEEP],
            cwd=self.environ["PWD"],
            env=self.environ,
            input=_input(block),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_PATIENCE_S,
            check=False,
        )
        self.output = done.stdout
        assert str(done.returncode) == block.markers.get("exit", "0"), f"{block.place}:\n{done.stdout}"
        kept = Path(self.environ["GUIDE_ENVIRONMENT"])
        if kept.exists():
            self.environ = dict(entry.split("=", 1) for entry in kept.read_text().split("\0") if entry)
            kept.unlink()

    def background(self, block: Block) -> None:
        """Start a command that listens, on any free port, which stands for the one on the page from here on."""
        (port,) = re.findall(r"--port (\d+)", block.text)
        command = self.localised(block.text.replace(f"--port {port}", "--port 0"))
        # By a shell, as it is typed; which becomes the command, and so is what is ended.
        process = subprocess.Popen(
            ["bash", "-euc", f"exec {command}"],
            cwd=self.environ["PWD"],
            env=self.environ,
            text=True,
            stdout=subprocess.PIPE,
        )
        self._background.append(process)
        assert process.stdout is not None
        said = ""
        for line in process.stdout:  # what does not apply is said before
            said += line
            if listens := _LISTENS.search(line):
                self.places[port] = listens[1]
                return
        raise AssertionError(f"{block.place}: it does not listen:\n{said}")

    def check_output(self, block: Block) -> None:
        """Compare what the last block printed with what the page shows."""
        shown = self.output
        for on_page, here in self.places.items():
            shown = shown.replace(here, on_page)
        lines = [
            r"(?:.*\n)*" if line.strip() == "…" else re.escape(line.rstrip()).replace("…", ".*") + r" *\n"
            for line in block.text.splitlines()
        ]
        assert re.fullmatch("".join(lines), shown.rstrip("\n") + "\n"), f"{block.place}, but it printed:\n{shown}"

    def localised(self, text: str) -> str:
        """With the places of the tests in place of those on the page."""
        if not self.places:
            return text
        # In one pass: what stands in place of one may look like another.
        found = re.compile("|".join(map(re.escape, sorted(self.places, key=len, reverse=True))))
        return found.sub(lambda match: self.places[match[0]], text)

    def end(self) -> None:
        """Stop what runs, and forget the modules of the page."""
        for process in self._background:
            process.terminate()
        for process in self._background:
            with process:
                process.communicate(timeout=_PATIENCE_S)
        for name in set(sys.modules) - self._modules:
            file = getattr(sys.modules[name], "__file__", None)
            if file and Path(file).is_relative_to(self.directory):
                del sys.modules[name]


def _input(block: Block) -> str:
    lines = block.markers.get("input", "")
    return "".join(f"{line}\n" for line in lines.split(" | ")) if lines else ""


@contextmanager
def session(directory: Path, environ: Mapping[str, str], places: Mapping[str, str]) -> Iterator[Session]:
    """A session that is ended whatever happens in it."""
    begun = Session(directory, environ, places)
    try:
        yield begun
    finally:
        begun.end()
