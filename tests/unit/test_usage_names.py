"""Who keeps a name of its own in the usage file, whatever others think of."""

import pytest
from usage_books import HOUR

from vastar_runtime.metering import names
from vastar_runtime.metering.batch import MAX_NAME_BYTES, MAX_NAME_CHARACTERS, OTHER, UsageKey, named
from vastar_runtime.metering.names import Names


def key(tenant: str, model: str = "m", hour: int = HOUR) -> UsageKey:
    return UsageKey(hour, tenant, "o", model)


def has_name(table: Names, tenant: str, hour: int = HOUR) -> bool:
    return table.key_of(key(tenant, hour=hour)).tenant_id == tenant


def test_newcomers_without_end_take_no_room_for_models_from_tenants_that_were_seen_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(names, "MAX_KEYS_OF_NEWCOMERS", 30)
    monkeypatch.setattr(names, "MAX_KEYS_OF_KNOWN", 5)
    table = Names()
    table.recall({"old": 1})
    given = [table.key_of(key(f"new-{number}", f"m{model}")) for number in range(10) for model in range(10)]
    assert len(set(given)) == 30 + 7
    assert {each.tenant_id for each in given} == {f"new-{number}" for number in range(10)}
    of_old = [table.key_of(key("old", f"m{model}")) for model in range(6)]
    assert [each.model for each in of_old] == ["m0", "m1", "m2", "m3", "m4", OTHER]
    assert table.key_of(of_old[0]) == of_old[0]
    assert table.key_of(key("old", "m9", HOUR + 1)).model == "m9"


def test_whoever_was_seen_in_the_most_hours_stays_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "MAX_NEWCOMERS", 4)
    monkeypatch.setattr(names, "MAX_KNOWN", 6)
    table = Names()
    for hour in range(HOUR, HOUR + 3):
        assert has_name(table, "regular", hour)
    for hour in range(HOUR + 3, HOUR + 30):
        given = [has_name(table, f"evil-{hour}-{number}", hour) for number in range(10)]
        assert sum(given) == 4
    assert has_name(table, "regular", HOUR + 29)
    assert not has_name(table, "new", HOUR + 29)
    table.keep(["new"])
    assert has_name(table, "new", HOUR + 29)
    assert len(table._known) <= 6


@pytest.mark.parametrize("name", ["", "a" * 128, "é" * 128, "🙂" * 64, "\ud800" * 80])
def test_names_that_fit_are_as_they_are(name: str) -> None:
    assert named(name) is name


@pytest.mark.parametrize("letter", ["a", "é", "🙂", "\ud800", "\0"])
def test_longer_names_are_cut_and_do_not_become_one(letter: str) -> None:
    cut = {named(letter * 255 + end) for end in ("a", "b")} | {named(letter * 129), named(letter * 200)}
    assert len(cut) == 4
    for name in cut:
        assert len(name) <= MAX_NAME_CHARACTERS
        assert len(name.encode()) <= MAX_NAME_BYTES
        assert named(name) == name
