"""The settings of a text, and what is wrong in it."""

import tomllib

from vastar_runtime.config import Settings
from vastar_runtime.config.check import check
from vastar_runtime.config.lines import key_lines

ONE = "[[scope]]\ntenant = 'a'\n"


def problems(text: str) -> list[str]:
    """LINE: KEY: TEXT"""
    checked = check(tomllib.loads(text), key_lines(text))
    assert all("\n" not in problem.text for problem in checked.problems)
    return [f"{problem.line}: {problem.text}" for problem in checked.problems]


def settings(text: str) -> Settings:
    assert problems(text) == []
    return check(tomllib.loads(text), key_lines(text)).settings
