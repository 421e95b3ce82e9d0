"""What the simulator says: the choice of a text, its length in tokens, and how it is cut into words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastar_runtime.simulator import answers
from vastar_runtime.simulator.request import Message, TextPart

TEXTS = answers.load_texts()


def user(text: str) -> Message:
    return Message("user", text)


def test_there_are_texts_of_about_fifty_words():
    assert len(TEXTS) >= 5
    assert all(40 <= len(text.split()) <= 60 for text in TEXTS)


def test_the_same_question_gets_the_same_answer():
    assert answers.answer([user("What is a deadline?")], TEXTS) == answers.answer([user("What is a deadline?")], TEXTS)


def test_different_questions_reach_every_text():
    assert {answers.answer([user(f"question {n}")], TEXTS) for n in range(200)} == set(TEXTS)


def test_the_choice_is_the_same_in_every_process_and_release():
    """Python's own hash() would pass the other tests and differ from run to run."""
    assert [answers.answer([user(word)], ["a", "b", "c"]) for word in ("one", "four", "six")] == ["c", "b", "a"]


def test_content_in_parts_is_the_same_question_as_content_in_one_string():
    parts = Message("user", [TextPart("What is "), TextPart("a deadline?")])
    assert answers.answer([parts], TEXTS) == answers.answer([user("What is a deadline?")], TEXTS)


def test_the_border_between_messages_is_part_of_the_conversation():
    names = [str(n) for n in range(1000)]
    assert answers.answer([user("ab"), user("c")], names) != answers.answer([user("a"), user("bc")], names)


@pytest.mark.parametrize(
    ("earlier", "beginning"),
    [
        ([user("Hello")], "I have read the 1 earlier message here.\n\n"),
        ([user("Hello"), Message("assistant", "Hi")], "I have read the 2 earlier messages here.\n\n"),
        ([Message("system", "Be brief."), user("Hello"), Message("assistant")], "I have read the 2 earlier messages"),
    ],
)
def test_an_answer_says_how_much_history_arrived(earlier, beginning):
    said = answers.answer([*earlier, user("And now?")], TEXTS)
    assert said.startswith(beginning)
    assert said.endswith(TEXTS)


def test_instructions_are_no_history():
    assert answers.answer([Message("system", "Be brief."), user("Hello")], TEXTS) in TEXTS


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("", 0), ("word", 1), ("Two words.", 3), ("  white \n space\t", 2), ("café 東京", 2), ("a-b", 3), ("**bold**", 5)],
)
def test_words_and_punctuation_marks_are_counted(text, tokens):
    assert answers.count_tokens(text) == tokens


@given(st.text(), st.integers(min_value=1, max_value=20))
def test_a_cut_text_is_a_beginning_with_at_most_that_many_tokens(text, max_tokens):
    beginning = answers.cut(text, max_tokens)
    assert text.startswith(beginning)
    assert answers.count_tokens(beginning) == min(max_tokens, answers.count_tokens(text))


def test_a_text_within_the_limit_is_left_whole():
    assert answers.cut("Three words here\n", 3) == "Three words here\n"


SPACED = st.text(st.characters(max_codepoint=0xDFF))


@given(st.text())
def test_pieces_join_to_the_text(text):
    assert "".join(answers.split_words(text)) == text
    assert "".join(answers.split_tokens(text)) == text


@given(SPACED)
def test_pieces_divide_no_word(text):
    assert [word for piece in answers.split_words(text) for word in piece.split()] == text.split()


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("Two  words.\n\nEnd", ["Two  ", "words.\n\n", "End"]),
        ("日本語のテキスト です", ["日本", "語の", "テキ", "スト ", "です"]),
        ("か\u3099き\u3099く\u3099", ["か\u3099き\u3099", "く\u3099"]),
        ("a \u0301b", ["a \u0301b"]),
        ("👩‍👩‍👧 👍🏽 🇩🇪🇫🇷", ["👩‍👩‍👧 ", "👍🏽 ", "🇩🇪🇫🇷"]),
    ],
)
def test_no_piece_begins_with_a_mark_of_the_character_before_it(text, pieces):
    assert list(answers.split_words(text)) == pieces


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("cafe\u0301 au lait", "cafe\u0301"),
        ("नमस्ते दुनिया", "नमस्ते"),
        ("👩‍👩‍👧👍", "👩‍👩‍👧"),
        ("🇩🇪🇫🇷", "🇩🇪"),
        ("👍🏽!", "👍🏽"),
    ],
)
def test_a_character_and_its_marks_are_one_token(text, first):
    assert answers.cut(text, 1) == first


@given(st.text(st.characters(max_codepoint=0x7F)))
def test_the_fast_count_of_ascii_is_the_same(text):
    assert answers.count_tokens(text) == sum(not token.isspace() for token in answers.split_tokens(text))


@pytest.mark.parametrize("char", ["x", "é", "\u0301", " "])
def test_no_piece_and_no_token_is_as_long_as_a_text_may_be(char):
    text = char * (2 * answers.MAX_PIECE_CHARS + 5)
    pieces = list(answers.split_words(text))
    assert "".join(pieces) == text
    assert max(map(len, pieces)) <= answers.MAX_PIECE_CHARS
    assert max(map(len, answers.split_tokens(text))) <= answers.MAX_PIECE_CHARS
    assert answers.count_tokens("x" * len(text)) == answers.count_tokens("é" * len(text)) == 3


def test_pieces_are_made_one_by_one():
    assert next(iter(answers.split_words("word " * 100_000))) == "word "
    assert next(answers.split_tokens("word " * 100_000)) == "word"


@given(st.text(), st.integers(min_value=4, max_value=12))
def test_pieces_of_bytes_divide_no_character(text, most):
    pieces = list(answers.split_bytes(text, most))
    assert "".join(pieces) == text
    assert all(0 < len(piece.encode()) <= most for piece in pieces)
    assert all(len(piece.encode()) > most - 4 for piece in pieces[:-1])
