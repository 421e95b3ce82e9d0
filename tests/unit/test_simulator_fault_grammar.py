"""What the header X-Simulate and ``--fault`` may say, which requests a fault happens to, and where a stream is cut."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vastar_runtime.simulator.fault_body import EventCounter
from vastar_runtime.simulator.fault_occurrence import MAX_COUNTED, Occurrence
from vastar_runtime.simulator.faults import MAX_TEXT_CHARS, PARTS, Fault, FaultError, parse


def fault(text: str) -> Fault:
    parsed = parse(text)
    assert parsed is not None
    return parsed


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("status=503", {"status": 503}),
        ("status=429;retry-after=2", {"status": 429, "retry_after_s": 2}),
        ("latency=500ms", {"latency_s": 0.5}),
        ("latency=1.5s;status=500", {"latency_s": 1.5, "status": 500}),
        ("hang", {"hang": True}),
        ("cut-after=0", {"cut_after": 0}),
        ("slow=2kB/s; cut-after=5", {"bytes_per_s": 2000.0, "cut_after": 5}),
        ("truncate-event=5;slow=1B/s", {"truncate_event": 5, "bytes_per_s": 1.0}),
        (" garbage ; rate=0.1 ", {"garbage": True, "rate": 0.1}),
        ("status=503;first=2", {"status": 503, "first": 2}),
        ("status=500;cut-after=1", {"status": 500, "cut_after": 1}),
    ],
)
def test_what_is_said_is_what_happens(text: str, fields: dict[str, object]) -> None:
    assert fault(text) == Fault(text=text.strip(), **fields)  # type: ignore[arg-type]


def test_none_is_no_fault() -> None:
    assert parse(" none ") is None


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        ("", f"a part is empty; the parts are {', '.join(PARTS)}, joined by ';'"),
        ("status=503;", f"a part is empty; the parts are {', '.join(PARTS)}, joined by ';'"),
        ("staus=503", "unknown part 'staus'; did you mean status?"),
        ("cut_after=1", "unknown part 'cut_after'; did you mean cut-after?"),
        ("explode", f"unknown part 'explode'; the parts are {', '.join(PARTS)}"),
        ("hang;none", "none stands alone"),
        ("status=503;status=503", "status is said twice"),
        ("status", "status='': status takes a whole number from 200 to 599"),
        ("status=100", "status='100': status takes a whole number from 200 to 599"),
        ("status=²00", "status='²00': status takes a whole number from 200 to 599"),
        ("status=-1", "status='-1': status takes a whole number from 200 to 599"),
        (
            "status=429;retry-after=soon",
            "retry-after='soon': retry-after takes a whole number of seconds from 0 to 86400",
        ),
        ("retry-after=2", "retry-after needs a status beside it, such as status=429;retry-after=2"),
        ("latency=500", "latency='500': latency takes a time up to 3600s, such as 500ms or 2s"),
        ("latency=3601s", "latency='3601s': latency takes a time up to 3600s, such as 500ms or 2s"),
        ("slow=0B/s", "slow='0B/s': slow takes a pace from 1B/s to 1000000kB/s, such as 100B/s or 2kB/s"),
        ("cut-after=1000001", "cut-after='1000001': cut-after takes a whole number of events from 0 to 1000000"),
        ("truncate-event=0", "truncate-event='0': truncate-event takes a whole number from 1 to 1000000"),
        ("hang;rate=0", "rate='0': rate takes a share above 0, up to 1, such as 0.1"),
        ("hang;rate=nan", "rate='nan': rate takes a share above 0, up to 1, such as 0.1"),
        ("hang=1", "hang takes no value, and '1' is one"),
        ("rate=0.5", "rate says how often, and nothing says what: such as status=503;rate=…"),
        ("status=503;hang", "status and hang exclude each other"),
        ("cut-after=1;truncate-event=1", "cut-after and truncate-event exclude each other"),
        ("garbage;slow=1B/s", "garbage and slow exclude each other"),
        ("latency=1s;hang", "latency and hang exclude each other"),
        ("hang;rate=0.5;first=1", "rate and first exclude each other"),
        ("x" * 201, f"a fault of 201 characters; it has {MAX_TEXT_CHARS} at most"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(text: str, refusal: str) -> None:
    with pytest.raises(FaultError) as caught:
        parse(text)
    assert str(caught.value) == refusal


PIECES = st.sampled_from([*PARTS, "none", "=", ";", " ", "1", "503", "0.1", "ms", "kB/s", "\r\n", "ü"])


@given(st.lists(PIECES).map("".join) | st.text())
def test_whatever_is_said_is_a_fault_or_one_line(text: str) -> None:
    said = ""
    try:
        parse(text)
    except FaultError as error:
        said = str(error)
    assert said.isprintable()
    assert len(said) < 4 * MAX_TEXT_CHARS


# --- which requests it happens to ---


def hits(occurrence: Occurrence, text: str, times: int, body: bytes = b"") -> list[bool]:
    return [occurrence.happens(fault(text), "POST", b"/v1?a=b", body) for _ in range(times)]


def test_a_share_of_the_requests_is_hit_and_the_seed_says_which() -> None:
    first = hits(Occurrence(7), "hang;rate=0.1", 2000)
    assert 140 < sum(first) < 260
    assert hits(Occurrence(7), "hang;rate=0.1", 2000) == first
    assert hits(Occurrence(8), "hang;rate=0.1", 2000) != first
    assert all(hits(Occurrence(None), "hang;rate=1", 100))


def test_only_the_first_equal_requests_are_hit() -> None:
    occurrence = Occurrence(None)
    assert hits(occurrence, "hang;first=2", 4, b"one") == [True, True, False, False]
    assert hits(occurrence, "hang;first=2", 3, b"two") == [True, True, False]
    assert hits(occurrence, "garbage;first=2", 3, b"one") == [True, True, False]
    assert occurrence.happens(fault("hang;first=2"), "PUT", b"/v1?a=b", b"one")
    assert occurrence.happens(fault("hang;first=2"), "POST", b"/v1?a=", b"one")


def test_what_is_counted_is_bounded_and_the_oldest_is_forgotten() -> None:
    occurrence = Occurrence(None)
    for number in range(MAX_COUNTED + 1):
        assert hits(occurrence, "hang;first=1", 1, b"%d" % number) == [True]
    assert hits(occurrence, "hang;first=1", 1, b"%d" % MAX_COUNTED) == [False]
    assert hits(occurrence, "hang;first=1", 1, b"0") == [True]


# --- where a stream is cut ---


@given(st.lists(st.text("ab:", max_size=5), max_size=8), st.integers(0, 9), st.lists(st.integers(1, 7)))
@example(["a", "b"], 1, [2, 1, 1])
def test_the_end_of_an_event_is_found_however_the_stream_is_divided(
    events: list[str], number: int, sizes: list[int]
) -> None:
    encoded = [f"data:{event}\n\n".encode() for event in events]
    counter, passed, rest, left = EventCounter(), b"", b"".join(encoded), number
    while rest and left:
        size = sizes.pop() if sizes else len(rest)
        piece, rest = rest[:size], rest[size:]
        ended, place = counter.end_of(left, piece)
        left -= ended
        passed += piece if left else piece[:place]
    assert passed == b"".join(encoded[:number])
    assert left == max(0, number - len(events))
