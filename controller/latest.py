"""What was said or done last, by place, in bounded memory: nobody says of each place that it is gone."""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")

REMEMBERED = 10_000
"""Of how many places it is remembered."""


class Latest(OrderedDict[K, V]):
    """The latest by place; those longest ago are forgotten."""

    def __setitem__(self, place: K, what: V) -> None:
        super().__setitem__(place, what)
        self.move_to_end(place)
        if len(self) > REMEMBERED:
            self.popitem(last=False)
