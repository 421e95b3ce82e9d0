"""What people write that is no TOML, and what they are told: what stands twice and where first, or what was meant."""

import tomllib
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastar_runtime.config.no_toml import reason


def told(text: str) -> str:
    """LINE: TEXT"""
    with pytest.raises(tomllib.TOMLDecodeError) as caught:
        tomllib.loads(text)
    why = reason(text, caught.value)
    assert "\n" not in why.text
    return f"{why.line}: {why.text}"


NO_VALUE = "this is no TOML: Invalid value"
ENDS = ("", "\n", "\r\n\r\n# more\r\n", "\nlater = 1\n[other]\nlater = 2\n")
TWICE = [
    (
        "[policy.retry]\nmax_retries = 1\n# more\nmax_retries = [\n2]",
        "4: policy.retry.max_retries: it stands here a second time; first in line 2; keep one of them",
    ),
    (
        "policy.retry.max_retries = 1\npolicy.'retry'.\"max_retries\" = 2",
        "2: policy.retry.max_retries: it stands here a second time; first in line 1; keep one of them",
    ),
    (
        "[[scope]]\ntenant = 'a'\n[[scope]]\ntenant = 'b'\nretry.max_retries = 1\ntenant = 'c'",
        "6: [[scope]] number 2: tenant: it stands here a second time; first in line 4; keep one of them",
    ),
    ("x = 1\nx.y = 2", "2: x: it stands here a second time; first in line 1; keep one of them"),
    (
        "[policy.retry]\nx = 1\n[listen]\n[policy.retry]\nx = 2",
        "4: [policy.retry] stands here a second time; first in line 1; put their keys into one",
    ),
    (
        "[policy]\nretry.max_retries = 1\n[policy.retry]\nx = 2",
        "3: [policy.retry] stands here a second time; first in line 2; put their keys into one",
    ),
    (
        "[[scope]]\n[scope.retry]\n[[scope]]\n[scope.retry]\nx = 1\n[scope.retry]",
        "6: [scope.retry] stands here a second time; first in line 4; "
        "put their keys into one, or begin another [[scope]] before it",
    ),
    (
        "[scope.retry]\nmax_retries = 1\n[[scope]]\ntenant = 'a'",
        "3: the first [[scope]] must come before [scope.retry], which stands in line 1",
    ),
    (
        "[scope]\ntenant = 'a'\n[[scope]]\ntenant = 'b'",
        "3: scope has double brackets here and single ones in line 1; write [[scope]] in both",
    ),
    (
        "[[scope]]\ntenant = 'a'\n[scope]\ntenant = 'b'",
        "3: scope has single brackets here and double ones in line 1; write [[scope]] in both",
    ),
]


@pytest.mark.parametrize(("case", "end"), list(product(TWICE, ENDS)))
def test_what_stands_twice_is_named_with_the_line_of_the_first(case: tuple[str, str], end: str) -> None:
    text, expected = case
    assert told(text + end) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\nenabled = True\n", f"2: {NO_VALUE} (column 11); true and false are written in lower case"),
        ("enabled = FALSE", f"1: {NO_VALUE} (column 11); true and false are written in lower case"),
        ("x = [1, False]", f"1: {NO_VALUE} (column 9); true and false are written in lower case"),
        ("x = Falsehood", f"1: {NO_VALUE} (column 5); a string needs quotes"),
        ("x = none\r\n", f"1: {NO_VALUE} (column 5); a string needs quotes"),
        ("y = 1\r\nx = “a”\r\n", f'2: {NO_VALUE} (column 5); quotes are straight: "…"'),
        ("x = ‘a’", f'1: {NO_VALUE} (column 5); quotes are straight: "…"'),
        ("“x” = 1", '1: this is no TOML: Invalid statement (column 1); quotes are straight: "…"'),
        ('x = "a”\n', "1: this is no TOML: Illegal character '\\n' (column 8); quotes are straight: \"…\""),
        ("x =\ny = 1", f"1: {NO_VALUE} (column 4); no value stands here"),
        ("x = # later", f"1: {NO_VALUE} (column 5); no value stands here"),
        ("x = ", "1: this is no TOML: Invalid value (end of the file); no value stands here"),
        ("x = [1,,2]", f"1: {NO_VALUE} (column 8)"),
        ("x = { a = 1, a = 2 }", "1: this is no TOML: Duplicate inline table key 'a' (column 19)"),
    ],
)
def test_what_was_meant_is_said(text: str, expected: str) -> None:
    assert told(text) == expected


@given(st.lists(st.text(alphabet="ab.[]{}=\"'“#\n 1Tr", max_size=12), max_size=8).map("\n".join))
def test_any_text_that_is_no_toml_gets_a_short_line(text: str) -> None:
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        why = reason(text, error)
        assert why.line is not None
        assert 1 <= why.line <= text.count("\n") + 1
        assert len(why.text) < 400
