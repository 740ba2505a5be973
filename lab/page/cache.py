"""Answers that are asked for again, as many as fit: the longest unused goes first.

They are kept as text: as Python's lists and numbers they take several times the memory, and among
them nothing that is freed makes room for something large.
"""

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
        self._texts: OrderedDict[Hashable, str] = OrderedDict()

    def get(self, key: Hashable) -> Any:
        """The value, or None."""
        if key not in self._texts:
            return None
        self._texts.move_to_end(key)
        return json.loads(self._texts[key])

    def put(self, key: Hashable, value: Any) -> None:
        text = json.dumps(value)
        if len(text) > self.limit:
            return
        self.held += len(text) - len(self._texts.pop(key, ""))
        self._texts[key] = text
        while self.held > self.limit:
            self.held -= len(self._texts.popitem(last=False)[1])

    def __len__(self) -> int:
        return len(self._texts)
