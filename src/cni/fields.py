"""Typed reading of a JSON object: the way from text that anybody may have written to values we trust."""

from __future__ import annotations


class Fields:
    """An object of a configuration or a result, read key by key.

    Keys are found in any case ("isGateWay" is "isGateway"): CNI has always been read so, and files rely
    on it. Null counts as absent. A value of another type is a ValueError with the path of the key.
    """

    __slots__ = ("_folded", "_path", "values")

    def __init__(self, value: object, path: str = "") -> None:
        if value is None:
            value = {}
        if not isinstance(value, dict):
            raise ValueError(f"{path or 'the text'} is not a JSON object")
        self.values: dict[str, object] = value
        self._path = path
        self._folded: dict[str, object] | None = None

    def path(self, key: str) -> str:
        """Where `key` stands, for a message."""
        return f"{self._path}.{key}" if self._path else key

    def get(self, key: str) -> object:
        """The value as it is, None when absent."""
        if key in self.values:
            return self.values[key]
        if self._folded is None:
            self._folded = {name.lower(): value for name, value in self.values.items()}
        return self._folded.get(key.lower())

    def string(self, key: str, default: str = "") -> str:
        value = self.get(key)
        if value is None:
            return default
        if not isinstance(value, str):
            raise ValueError(f"{self.path(key)} is not a string")
        return value

    def boolean(self, key: str, *, default: bool = False) -> bool:
        value = self.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise ValueError(f"{self.path(key)} is not true or false")
        return value

    def integer(self, key: str, default: int = 0, *, low: int = -(1 << 63), high: int = (1 << 63) - 1) -> int:
        """An integer from `low` to `high`; both are the bounds, not the default's."""
        value = self.optional_integer(key, low=low, high=high)
        return default if value is None else value

    def optional_integer(self, key: str, *, low: int = -(1 << 63), high: int = (1 << 63) - 1) -> int | None:
        value = self.get(key)
        if value is None:
            return None
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # 1500.0 and 1.5e3 are integers in JSON
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError(f"{self.path(key)} is not an integer")
        if not low <= value <= high:
            raise ValueError(f"{self.path(key)}: {value} is not between {low} and {high}")
        return value

    def mapping(self, key: str) -> Fields:
        """The object at `key`; an empty one when absent."""
        return Fields(self.get(key), self.path(key))

    def array(self, key: str) -> list[object]:
        value = self.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            raise ValueError(f"{self.path(key)} is not a list")
        return value

    def strings(self, key: str) -> tuple[str, ...]:
        value = self.array(key)
        for position, item in enumerate(value):
            if not isinstance(item, str):
                raise ValueError(f"{self.path(key)}[{position}] is not a string")
        return tuple(item for item in value if isinstance(item, str))

    def nested_mappings(self, key: str, position: int) -> list[Fields]:
        """The objects in the list that is item `position` of the list at `key`."""
        outer = self.array(key)[position]
        if not isinstance(outer, list):
            raise ValueError(f"{self.path(key)}[{position}] is not a list")
        path = f"{self.path(key)}[{position}]"
        return [Fields(item, f"{path}[{inner}]") for inner, item in enumerate(outer)]

    def mappings(self, key: str) -> list[Fields]:
        return [
            Fields(item, f"{self.path(key)}[{position}]") for position, item in enumerate(self.array(key))
        ]
