"""Where Redis is: the forms of its URL, and nothing of its password where it is shown."""

import pytest

from vastar_runtime.errors import ConfigError
from vastar_runtime.shared.redis_address import RedisAddress
from vastar_runtime.shared.redis_names import MAX_NAME_BYTES, name_in_redis
from vastar_runtime.shared.unavailable import LimitsUnavailable


@pytest.mark.parametrize(
    ("url", "address", "shown"),
    [
        ("redis://h", RedisAddress(host="h"), "h:6379"),
        ("redis://h/", RedisAddress(host="h"), "h:6379"),
        ("redis://h:7000/3", RedisAddress(host="h", port=7000, database=3), "h:7000"),
        ("rediss://h:7000", RedisAddress(host="h", port=7000, is_tls=True), "h:7000"),
        ("redis://[::1]:7000", RedisAddress(host="::1", port=7000), "[::1]:7000"),
        ("redis://u:p%40ss@h", RedisAddress(host="h", username="u", password="p@ss"), "h:6379"),
        ("redis://:pw@h", RedisAddress(host="h", password="pw"), "h:6379"),
        ("unix:///run/redis.sock", RedisAddress(path="/run/redis.sock"), "/run/redis.sock"),
        ("redis+unix:///run/a%20b?db=2", RedisAddress(path="/run/a b", database=2), "/run/a b"),
        ("unix://u:pw@/run/r", RedisAddress(path="/run/r", username="u", password="pw"), "/run/r"),
    ],
)
def test_each_form_of_url_is_understood_and_shown_without_who_we_are(
    url: str, address: RedisAddress, shown: str
) -> None:
    parsed = RedisAddress.parse(url)
    assert parsed == address
    assert str(parsed) == shown
    assert repr(parsed) == f"RedisAddress({shown})"


def test_a_password_may_come_from_elsewhere() -> None:
    assert RedisAddress.parse("redis://u:one@h", "two").password == "two"
    assert RedisAddress.parse("redis://h", "two").password == "two"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "h:6379",
        "http://:secret@h",
        "redis://",
        "redis://:secret@",
        "redis://:secret@h:0",
        "redis://:secret@h:port",
        "redis://:secret@h:70000",
        "redis://:secret@h/one",
        "redis://:secret@h/-1",
        "redis://:secret@h/²",
        "redis://:secret@h/1/2",
        "redis://:secret@h/100000000",
        "redis://:secret@h?db=1",
        "redis://:secret@h#1",
        "redis://:%ff-secret@h",
        "redis://:secret@[::1",
        "unix://host/secret",
        "unix://secret",
        "unix:///run/%00secret",
        "unix:///run/secret?password=secret",
        "unix:///run/secret?db",
    ],
)
def test_anything_else_is_refused_in_one_line_without_quoting_it(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        RedisAddress.parse(url)
    message = str(caught.value)
    assert message.startswith("the address of Redis is not understood; allowed: redis://")
    assert "secret" not in message
    assert "\n" not in message
    assert caught.value.__cause__ is None


def test_names_in_redis_are_readable_short_and_all_different() -> None:
    names = [
        name_in_redis(parts)
        for parts in (
            ("a", "b", None),
            ("a", None, "b"),
            ("a", "b", "None"),
            ('a","b', None, None),
            ("a", "\udc80", None),
            ("a", "x" * 1000, None),
            ("a", "x" * 1001, None),
            ("a", "\N{SNOWMAN}" * 256, "x"),
        )
    ]
    assert names[0] == '["a", "b", null]'
    assert len(set(names)) == len(names)
    assert all(len(name) <= MAX_NAME_BYTES for name in names)
    assert all(name.isascii() and name.isprintable() for name in names)


def test_a_refusal_says_which_redis_does_not_answer_and_why() -> None:
    error = LimitsUnavailable(RedisAddress.parse("redis://u:secret@h"), "Connection refused")
    assert error.retry_after_ms == 1000
    assert error.message == (
        "limits cannot be checked: Redis at h:6379 does not answer (Connection refused); try again in 1000 ms "
        '(shared_limits.fail = "closed")'
    )
