"""The page of the command line is made from the commands, and says all of them."""

import re
import runpy
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import click
import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = runpy.run_path(str(ROOT / "scripts" / "generate_command_reference.py"))
COMMANDS: list[tuple[list[str], click.Command]] = list(SCRIPT["commands"]())
PAGE: str = SCRIPT["page"]()


def section(words: list[str]) -> str:
    heading = f"{'#' * (len(words) + 1)} {' '.join(words)}\n"
    return PAGE.split(f"\n{heading}")[1].split("\n#")[0]


def test_the_committed_page_is_that_of_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main: Any = SCRIPT["main"]
    stale = tmp_path / "command-line.md"
    with patch.object(sys, "argv", ["generate_command_reference.py", "--check"]):
        main()
        assert capsys.readouterr().out == "docs/command-line.md is up to date\n"
        stale.write_text("old")
        with patch.dict(main.__globals__, PAGE=stale), pytest.raises(SystemExit) as told:
            main()
    assert str(told.value) == "Error: stale: docs/command-line.md; run: python scripts/generate_command_reference.py"
    assert stale.read_text() == "old", "--check writes nothing"


@pytest.mark.parametrize(("words", "command"), COMMANDS, ids=lambda each: " ".join(each) if type(each) is list else "")
def test_a_command_is_there_with_all_its_options_and_an_example(words: list[str], command: click.Command) -> None:
    text = section(words)
    for option in command.params:
        if isinstance(option, click.Option) and not option.hidden:
            for name in (*option.opts, *option.secondary_opts):
                assert re.search(rf"^\| .*`{name}[ `]", text, re.MULTILINE), name
            assert option.help
    assert re.search(rf"^Example: `.*vastar-runtime {' '.join(words)}\b.*`$", text, re.MULTILINE)
    assert "\\_" not in "".join(re.findall(r"`[^`]*`", text)), "code needs no escapes"
