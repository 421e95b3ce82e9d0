"""The table of usage, in a terminal of 80 columns and in others."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastar_runtime.cli.usage_table import decimal, table
from vastar_runtime.metering.report import By, Group, Report

NANO = 10**9
GROUPS = (
    Group("gpt-4o", 1234, 0, 1_234_567, 0, 234_567, 5_432_100_000),
    Group("claude-sonnet-4-5", 81, 2, 91_200, 100, 8_100, 1_250_000_000),
    Group("local", 7, 0, 700, 0, 70, 0),
)
TOTAL = Group("total", 1322, 2, 1_326_467, 100, 242_737, 6_682_100_000)
FREE = Group("gpt-4o", 1234, 0, 1_234_567, 0, 234_567)


def lines(
    report: Report, *, by: By = By.MODEL, columns: int = 80, is_unicode: bool = True, currency: str = "USD"
) -> list[str]:
    return list(table(report, by=by, currency=currency, columns=columns, is_unicode=is_unicode))


def of(*groups: Group) -> Report:
    sums = (sum(getattr(group, field) for group in groups) for field in Group.__struct_fields__[1:])
    return Report(groups, 0, Group("total", *sums))


ESTIMATED = "~ estimated in part: the answers to 2 requests did not tell the tokens used"


def test_a_table_of_80_columns() -> None:
    assert lines(Report(GROUPS, 0, TOTAL)) == [
        "model              requests  prompt  completion   total  cost USD  share",
        "gpt-4o                1,234   1.23M        235k   1.47M    5.4321  █████████████",
        "claude-sonnet-4-5        81  ~91.2k      ~8,100  ~99.3k   ~1.2500  ███",
        "local                     7     700          70     770    0.0000",
        "total                 1,322  ~1.33M       ~243k  ~1.57M   ~6.6821",
        "",
        ESTIMATED,
    ]


def test_a_terminal_that_is_wider_shows_every_digit() -> None:
    assert lines(Report(GROUPS, 0, TOTAL), columns=90) == [
        "model              requests      prompt  completion       total  cost USD  share",
        "gpt-4o                1,234   1,234,567     234,567   1,469,134    5.4321  ███████████████",
        "claude-sonnet-4-5        81     ~91,200      ~8,100     ~99,300   ~1.2500  ███▌",
        "local                     7         700          70         770    0.0000",
        "total                 1,322  ~1,326,467    ~242,737  ~1,569,204   ~6.6821",
        "",
        ESTIMATED,
    ]


def test_a_terminal_that_takes_only_ascii_has_bars_all_the_same() -> None:
    assert lines(Report((*GROUPS[:2], Group("x" * 50)), 0, TOTAL), is_unicode=False)[1:4] == [
        "gpt-4o                       1,234   1.23M        235k   1.47M    5.4321  ######",
        "claude-sonnet-4-5               81  ~91.2k      ~8,100  ~99.3k   ~1.2500  #",
        "xxxxxxxxxxxxxxxxxxxxx...         0       0           0       0    0.0000",
    ]


def test_without_prices_there_is_no_cost_and_shares_are_those_of_tokens() -> None:
    half = Group("half", 1, 0, 734_567, 0, 0)
    assert lines(of(FREE, half)) == [
        "model         requests     prompt  completion      total  share",
        "gpt-4o           1,234  1,234,567     234,567  1,469,134  ██████████████████████",
        "half                 1    734,567           0    734,567  ███████████",
        "total            1,235  1,969,134     234,567  2,203,701",
    ]


def test_without_tokens_shares_are_those_of_requests() -> None:
    found = lines(of(Group("", 4), Group("m", 1)))
    assert [line.split() for line in found[1:]] == [
        ["(none)", "4", "0", "0", "0", "█" * 24],
        ["m", "1", "0", "0", "0", "█" * 6],
        ["total", "5", "0", "0", "0"],
    ]


@pytest.mark.parametrize(("by", "line"), [(By.MODEL, "(1,234 more)"), (By.DAY, "(1,234 more, earlier)")])
def test_groups_that_are_not_shown_are_counted_before_the_total(by: By, line: str) -> None:
    found = lines(Report((FREE,), 1234, TOTAL), by=by)
    assert found[2] == line
    assert found[3].startswith("total")


def test_one_estimated_request_is_one() -> None:
    (*_, last) = lines(of(Group("m", 1, 1, 5)))
    assert last == "~ estimated in part: the answer to 1 request did not tell the tokens used"


def test_names_are_cut_where_a_terminal_would_break_them_and_drive_nothing() -> None:
    report = of(
        Group("\x1b[31mred\u202e\n", 1, 0, 10**9, 0, 10**9, NANO),
        Group("模型" * 200, 1, 0, 5),
        Group("e\u0301" * 14, 1, 0, 5),  # drawn in 14 columns
        Group("y" * 10**6, 1, 0, 5),
    )
    found = lines(report)
    assert [line.split()[0] for line in found[1:5]] == [
        "�[31mred��",
        "模型模型模型模型模型模型…",
        "e\u0301" * 14,
        "y" * 24 + "…",
    ]
    assert all(drawn(line) <= 80 for line in found)


def drawn(line: str) -> int:
    """Columns that a terminal takes for a line."""
    assert line.isprintable()
    marks = sum(unicodedata.category(character) == "Mn" for character in line)
    return len(line) - marks + sum(unicodedata.east_asian_width(character) in "WF" for character in line)


COUNT = st.integers(0, 2**63 - 1) | st.integers(0, 10_000)
GROUP = st.builds(Group, st.text(max_size=60), COUNT, COUNT, COUNT, COUNT, COUNT, COUNT)


@given(st.lists(GROUP, min_size=1, max_size=5), st.sampled_from(By), st.booleans(), st.integers(80, 160))
def test_whatever_was_counted_fits(groups: list[Group], by: By, is_unicode: bool, columns: int) -> None:
    report = of(*groups)
    names = Report(report.groups, 2**63, report.total)
    for line in lines(names, by=by, is_unicode=is_unicode, columns=columns)[: len(groups) + 3]:
        assert drawn(line) <= columns


@pytest.mark.parametrize(
    ("cost_nano", "decimals", "text"),
    [
        (0, None, "0"),
        (1, None, "0.000000001"),
        (12_500_000, None, "0.0125"),
        (NANO, None, "1"),
        (100 * NANO, None, "100"),
        (2**63 - 1, None, "9223372036.854775807"),
        (0, 4, "0.0000"),
        (1_234_567_890_123, 2, "1,234.57"),
        (999_995_000, 2, "1.00"),
        (1, 9, "0.000000001"),
    ],
)
def test_money_as_a_decimal_number(cost_nano: int, decimals: int | None, text: str) -> None:
    assert decimal(cost_nano, decimals) == text


@pytest.mark.parametrize(
    ("cost_nano", "shown"), [(1, "0.000000001"), (NANO // 100, "0.010000"), (NANO, "1.0000"), (123 * NANO, "123.00")]
)
def test_money_has_the_digits_that_tell_its_parts_apart(cost_nano: int, shown: str) -> None:
    assert lines(of(Group("m", 1, 0, 5, 0, 5, cost_nano)))[1].split()[5] == shown


@pytest.mark.parametrize(
    ("tokens", "shown"),
    [
        (9_999, "9,999"),
        (10_000, "10k"),
        (12_345, "12.3k"),
        (999_499, "999k"),
        (999_999, "1M"),
        (123_456_789_012, "123G"),
        (2**63 - 1, "9.22E"),
        (10**27, "1e+03Y"),
    ],
)
def test_numbers_that_do_not_fit_have_three_digits(tokens: int, shown: str) -> None:
    wide = Group("m", 1, 0, 10**26, 10**26, 10**26, NANO)
    assert shown in lines(Report((Group("n" * 30, 1, 0, tokens, 0, 0), wide), 0, wide))[1].split()
