"""The headers of a response: names in any case, repeated ones kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping


class Headers(Mapping[str, str]):
    """Immutable. As a mapping, one entry for each name, in lower case; repeated values joined with ", ".

    Set-Cookie cannot be joined so that it can be split again (RFC 6265, section 3): take ``get_list``.

    Args:
        items: (name, value) in the order of the message.
    """

    def __init__(self, items: Iterable[tuple[str, str]] = ()) -> None:
        self._items = tuple(items)
        self._values: dict[str, list[str]] = {}
        for name, value in self._items:
            self._values.setdefault(name.lower(), []).append(value)

    def __getitem__(self, name: str) -> str:
        return ", ".join(self._values[name.lower()])

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"<Headers {', '.join(self._values) or 'none'}>"  # values may be secret, and repr() ends up in logs

    def get_list(self, name: str) -> list[str]:
        """Every value of the header, in order; empty when there is none."""
        return list(self._values.get(name.lower(), ()))

    def multi_items(self) -> list[tuple[str, str]]:
        """Every (name, value) as it came, in order."""
        return list(self._items)

    def joined(self) -> dict[str, str]:
        """One text for each name, as ``HTTPResponse`` has them: values of Set-Cookie, which a comma could not divide,
        are joined with LF."""
        return {name: ("\n" if name == "set-cookie" else ", ").join(values) for name, values in self._values.items()}
