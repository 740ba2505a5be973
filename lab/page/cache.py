"""Answers that are asked for again, as many as fit: the longest unused goes first."""

import json
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any


class Cache:
    """A dict of JSON values that holds at most `limit` characters of JSON.

    A class translates the sentence on the board fifty times; the model does it once.
    """

    def __init__(self, limit: int):
        self.limit, self.held = limit, 0
        self._values: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()

    def get(self, key: Hashable) -> Any:
        """The value, or None."""
        if key not in self._values:
            return None
        self._values.move_to_end(key)
        return self._values[key][0]

    def put(self, key: Hashable, value: Any) -> None:
        size = len(json.dumps(value))
        if size > self.limit:
            return
        self.held += size - self._values.pop(key, (None, 0))[1]
        self._values[key] = value, size
        while self.held > self.limit:
            self.held -= self._values.popitem(last=False)[1][1]

    def __len__(self) -> int:
        return len(self._values)
