"""First come, first served within a key; the keys in turn."""

import gc
import weakref
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastar_runtime.policies.fair_queue import FairQueue


def queue_of(*items: str) -> FairQueue[str, str]:
    """Each item's first letter is its key."""
    queue: FairQueue[str, str] = FairQueue()
    for item in items:
        queue.push(item[0], item)
    return queue


def take_all(queue: FairQueue[str, str]) -> list[str]:
    taken = []
    while (following := queue.take()) is not None:
        key, item = following
        assert item.startswith(key)
        taken.append(item)
    return taken


def test_one_key_is_served_in_the_order_of_coming() -> None:
    assert take_all(queue_of("a1", "a2", "a3")) == ["a1", "a2", "a3"]


def test_keys_take_turns_whatever_the_length_of_their_lines() -> None:
    assert take_all(queue_of("a1", "a2", "a3", "b1", "c1", "c2")) == ["a1", "b1", "c1", "a2", "c2", "a3"]


def test_a_newcomer_behind_a_thousand_of_another_key_is_at_most_one_turn_away() -> None:
    queue = queue_of(*(f"n{number}" for number in range(1000)))
    assert queue.take() == ("n", "n0")
    queue.push("q", "q1")
    taken = [queue.take(), queue.take()]
    assert taken == [("n", "n1"), ("q", "q1")]


def test_a_key_that_comes_back_after_its_line_was_empty_waits_for_its_next_turn() -> None:
    queue = queue_of("a1", "b1", "b2")
    assert queue.take() == ("a", "a1")
    queue.push("a", "a2")
    assert take_all(queue) == ["b1", "a2", "b2"]


def test_a_blocked_key_is_left_out() -> None:
    queue = queue_of("a1", "a2", "b1")
    queue.block("a", True)
    assert take_all(queue) == ["b1"]
    assert len(queue) == 2
    assert queue.take() is None


def test_a_key_that_was_blocked_when_its_turn_came_is_served_first_once_it_is_not() -> None:
    queue = queue_of("a1", "b1", "b2", "c1")
    queue.block("a", True)
    assert queue.take() == ("b", "b1")
    queue.block("a", False)
    assert take_all(queue) == ["a1", "c1", "b2"]


def test_a_key_that_was_blocked_does_not_pass_those_whose_turn_is_before_its_own() -> None:
    queue = queue_of("a1", "a2", "b1", "c1")
    assert queue.take() == ("a", "a1")  # its next turn is after b's and c's
    queue.block("a", True)
    queue.block("a", False)
    assert take_all(queue) == ["b1", "c1", "a2"]


def test_blocking_says_nothing_about_items_that_come_when_the_line_was_empty() -> None:
    queue = queue_of("a1")
    queue.block("a", True)
    queue.remove("a", "a1")
    queue.block("a", True)
    queue.push("a", "a2")
    assert take_all(queue) == ["a2"]


def test_what_leaves_from_the_middle_lets_those_behind_move_up() -> None:
    queue = queue_of("a1", "a2", "a3", "b1")
    queue.remove("a", "a2")
    assert (len(queue), queue.waiting("a"), queue.longest) == (3, 2, 2)
    assert take_all(queue) == ["a1", "b1", "a3"]


def test_a_key_keeps_its_turn_when_its_first_item_leaves() -> None:
    queue = queue_of("a1", "a2", "b1")
    queue.remove("a", "a1")
    assert take_all(queue) == ["a2", "b1"]


def test_what_is_not_there_cannot_be_removed() -> None:
    queue = queue_of("a1")
    with pytest.raises(KeyError):
        queue.remove("a", "a2")
    with pytest.raises(KeyError):
        queue.remove("b", "b1")
    assert take_all(queue) == ["a1"]


def test_the_youngest_of_the_longest_line_is_found_in_blocked_lines_too() -> None:
    queue = queue_of("a1", "b1", "b2", "b3", "c1", "c2")
    queue.block("b", True)
    assert queue.take_youngest_of_longest() == ("b", "b3")
    assert queue.take_youngest_of_longest() == ("c", "c2")  # of two lines of two, the one that grew so long last
    assert queue.take_youngest_of_longest() == ("b", "b2")
    assert queue.longest == 1


def test_a_key_without_items_is_not_kept() -> None:
    class Key:
        """Hashed by identity, and able to tell that nobody holds it."""

    queue: FairQueue[Key, int] = FairQueue()
    seen = []
    for ending in range(3):
        key = Key()
        seen.append(weakref.ref(key))
        queue.push(key, 1)
        queue.block(key, ending == 0)
        if ending == 1:
            queue.take()
        elif ending == 2:
            queue.take_youngest_of_longest()
        else:
            queue.remove(key, 1)
        del key
    gc.collect()
    assert [reference() for reference in seen] == [None, None, None]


KEYS = "abcd"
PUSHES = st.lists(st.sampled_from(KEYS), max_size=40)


@given(PUSHES, st.integers(0, 10))
def test_the_position_foretold_to_a_newcomer_is_the_one_it_gets(keys: list[str], served: int) -> None:
    queue: FairQueue[str, int] = FairQueue()
    for number, key in enumerate(keys):
        queue.push(key, number)
    for _ in range(served):
        queue.take()
    foretold = queue.ahead_of_newcomer("new")
    queue.push("new", -1)
    before = 0
    while queue.take() != ("new", -1):
        before += 1
    assert before == foretold


@given(PUSHES, st.sampled_from(KEYS))
def test_the_position_foretold_behind_others_of_the_same_key_is_right_by_one_turn(keys: list[str], key: str) -> None:
    queue: FairQueue[str, int] = FairQueue()
    for number, pushed in enumerate(keys):
        queue.push(pushed, number)
    foretold = queue.ahead_of_newcomer(key)
    queue.push(key, -1)
    before = 0
    while queue.take() != (key, -1):
        before += 1
    assert foretold - len(KEYS) < before <= foretold


class Model:
    """The same, in the plainest way: one list of keys in turn, and a list of items for each."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.lines: dict[str, list[int]] = {}
        self.blocked: set[str] = set()

    def push(self, key: str, item: int) -> None:
        if key not in self.lines:
            self.lines[key] = []
            self.order.append(key)
        self.lines[key].append(item)

    def remove(self, key: str, item: int) -> None:
        self.lines[key].remove(item)
        if not self.lines[key]:
            del self.lines[key]
            self.order.remove(key)
            self.blocked.discard(key)

    def block(self, key: str, is_blocked: bool) -> None:
        if is_blocked and key in self.lines:
            self.blocked.add(key)
        else:
            self.blocked.discard(key)

    def take(self) -> tuple[str, int] | None:
        for key in self.order:
            if key not in self.blocked:
                item = self.lines[key][0]
                self.remove(key, item)
                if key in self.lines:
                    self.order.remove(key)
                    self.order.append(key)
                return key, item
        return None


STEPS = st.lists(
    st.tuples(st.sampled_from(["push", "push", "take", "remove", "block", "unblock", "evict"]), st.sampled_from(KEYS)),
    max_size=60,
)


@given(STEPS, st.randoms(use_true_random=False))
def test_whatever_happens_in_whatever_order_the_plain_model_does_the_same(
    steps: list[tuple[str, str]], random: Random
) -> None:
    queue: FairQueue[str, int] = FairQueue()
    model = Model()
    for number, (step, key) in enumerate(steps):
        if step == "push":
            queue.push(key, number)
            model.push(key, number)
        elif step == "take":
            assert queue.take() == model.take()
        elif step == "remove" and key in model.lines:
            item = random.choice(model.lines[key])
            queue.remove(key, item)
            model.remove(key, item)
        elif step in ("block", "unblock"):
            queue.block(key, step == "block")
            model.block(key, step == "block")
        elif step == "evict" and model.lines:
            crowded, youngest = queue.take_youngest_of_longest()
            assert len(model.lines[crowded]) == max(map(len, model.lines.values()))
            assert youngest == model.lines[crowded][-1]
            model.remove(crowded, youngest)
        assert len(queue) == sum(map(len, model.lines.values()))
        assert queue.longest == max(map(len, model.lines.values()), default=0)
        assert {key: queue.waiting(key) for key in KEYS} == {key: len(model.lines.get(key, [])) for key in KEYS}
    for key in KEYS:
        queue.block(key, False)
    model.blocked.clear()
    while (wanted := model.take()) is not None:
        assert queue.take() == wanted
    assert queue.take() is None
