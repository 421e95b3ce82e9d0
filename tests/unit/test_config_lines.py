"""The line of each key: as tomllib sees the keys, and where the text's author put them."""

import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastar_runtime.config.lines import MAX_DOTS, TooManyDots, key_lines
from vastar_runtime.config.settings import KeyPath

STRANGE = '''
# [comment]
top = 1 # not = a key
dotted . key = 2
"quoted.part" . 'literal part' = 3

[ table ]  # [other]
text = """
[not.a.table]
fake = 1 \\""" still inside
five quotes:"""""
literal = \'\'\'
# no comment, one \\
[[nor]] 'a' ''b''
\'\'\'\'\'
array = [
  "]", # ]
  [1, 2], { inner = "}" },

  "\\"",
]
after = "a\\"b # c"
\ttab\t=\t{ one = 1, two.three = "#" }
"" = 'empty'
"\\u00fc" = 'u umlaut'

[[list]]
first = 1
[list.sub]
key = 1
[[list.inner]]
x = 1
[[list.inner]]
x = 2
[[list]]
first = 2
list.sub.key = 'of its own'
[list.sub]
key = 2
[table.sub.deep]
last = 1979-05-27T07:32:00Z'''

EXPECTED: dict[KeyPath, int] = {
    ("top",): 3,
    ("dotted",): 4,
    ("dotted", "key"): 4,
    ("quoted.part",): 5,
    ("quoted.part", "literal part"): 5,
    ("table",): 7,
    ("table", "text"): 8,
    ("table", "literal"): 12,
    ("table", "array"): 16,
    ("table", "after"): 22,
    ("table", "tab"): 23,
    ("table", ""): 24,
    ("table", "ü"): 25,
    ("list",): 27,
    ("list", 0): 27,
    ("list", 0, "first"): 28,
    ("list", 0, "sub"): 29,
    ("list", 0, "sub", "key"): 30,
    ("list", 0, "inner"): 31,
    ("list", 0, "inner", 0): 31,
    ("list", 0, "inner", 0, "x"): 32,
    ("list", 0, "inner", 1): 33,
    ("list", 0, "inner", 1, "x"): 34,
    ("list", 1): 35,
    ("list", 1, "first"): 36,
    ("list", 1, "list"): 37,
    ("list", 1, "list", "sub"): 37,
    ("list", 1, "list", "sub", "key"): 37,
    ("list", 1, "sub"): 38,
    ("list", 1, "sub", "key"): 39,
    ("table", "sub"): 40,
    ("table", "sub", "deep"): 40,
    ("table", "sub", "deep", "last"): 41,
}


def paths(tree: Any, path: KeyPath = ()) -> Iterator[KeyPath]:
    """Every key, table and element of an array of tables that tomllib finds."""
    if path:
        yield path
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from paths(value, (*path, key))
    elif isinstance(tree, list) and tree and all(isinstance(item, dict) for item in tree):
        for index, item in enumerate(tree):
            yield from paths(item, (*path, index))


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_every_key_has_its_line(line_end: str) -> None:
    text = STRANGE.replace("\n", line_end)
    assert key_lines(text) == EXPECTED
    inside_inline = {("table", "tab", "one"), ("table", "tab", "two"), ("table", "tab", "two", "three")}
    assert set(paths(tomllib.loads(text))) - inside_inline == set(EXPECTED)


VALUES = st.sampled_from(
    [
        "1",
        "-1.5e3",
        "true",
        "'# no comment'",
        '"[no.table]"',
        '"\\\\"',
        "'\\'",
        '"""one\n[two]\nx = 3 ""\\""""',
        '"""\n\n"""',
        "'''\n#\n'''",
        "''''''",
        "[]",
        "[ # ]\n 1,\n\n ']', # [\n]",
        "[[1], ['''\n]''']]",
        "{}",
        "1979-05-27 07:32:00",
    ]
)
KEYS = st.sampled_from(["a", "b-b", "1_", '"q.q"', "'l # l'", '"\\u00e4\\t"', '"="', "'['"])
DOTS = st.sampled_from([".", " . ", "\t."])
BLANKS = st.sampled_from(["", "\n", "# [comment]\n", "  \t\n", "\n\n# a = 1\n"])
ENDS = st.sampled_from(["\n", " # x = 'y\n", "\t\n"])


@st.composite
def documents(draw: st.DrawFn) -> str:
    """Tables, arrays of tables and keys; whether TOML allows them together is for tomllib to say."""
    text = ""
    for _ in range(draw(st.integers(1, 12))):
        text += draw(BLANKS)
        key = draw(KEYS)
        for _ in range(draw(st.integers(0, 2))):
            key += draw(DOTS) + draw(KEYS)
        shape = draw(st.sampled_from(["[{}]", "[ {} ]", "[[{}]]", "{} = ", "{}=", "{} = "]))
        text += shape.format(key) + (draw(VALUES) if "=" in shape else "") + draw(ENDS)
    return text


@pytest.mark.unmeasured
@given(documents())
def test_any_toml_has_the_keys_of_tomllib_and_each_is_on_its_line(text: str) -> None:
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        key_lines(text)  # may find less, and does not mind
        return
    found = key_lines(text)
    assert set(found) == set(paths(tree))
    for path, line in found.items():
        if isinstance(path[-1], str):
            # A text that is cut off before the line does not have the key, one that is cut off after it does, or is
            # in the middle of a value.
            before = "".join(text.splitlines(keepends=True)[: line - 1])
            assert path not in set(paths(tomllib.loads(before)))
            assert path in key_lines(before + text.splitlines(keepends=True)[line - 1])


@given(st.text(alphabet="ab.[]{}=\"'\\#\n \té", max_size=40))
def test_no_text_upsets_the_scan(text: str) -> None:
    found = key_lines(text)
    assert all(1 <= line <= text.count("\n") + 1 for line in found.values())


@pytest.mark.parametrize("shape", ["{} = 1", "[{}]", "[[{}]]", "x = {{ {} = 1 }}"])
def test_a_key_of_too_many_parts_is_told_before_tomllib_sees_it(shape: str) -> None:
    allowed = "\n" + shape.format(".".join(["a"] * (MAX_DOTS + 1)))
    assert key_lines(allowed)
    with pytest.raises(TooManyDots) as caught:
        key_lines(allowed.replace("a.", "a.a.", 1))
    assert caught.value.line == 2


def test_dots_in_strings_and_comments_are_no_parts() -> None:
    text = f"a = '{'.' * 5000}' # {'.' * 5000}"
    assert key_lines(text) == {("a",): 1}
