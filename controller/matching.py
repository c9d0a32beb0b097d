"""Regular expressions of metric templates, matched in bounded time whatever they are. Pure.

Whoever may write a MetricTemplate chooses the expression, and whoever exports metrics the text. Python's own
matcher tries one way after the other, which for `(a*)*b` takes longer than anybody waits, and all rollouts
wait with it. Here all ways are followed at once, as RE2 does, so the time is at most the size of the
expression times the length of the text, and both are bounded.

Known is what RE2 and Python have in common, without word boundaries; flags only as in `(?i)` at the start.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

LONGEST = 128
"""The longest text that can match: statuses are short."""
LARGEST = 500
"""The most states of an expression, its repetitions written out."""
DEEPEST = 50
"""The most groups in one another."""

_FLAGS = re.compile(r"\(\?([is]+)\)")
_CLASS = re.compile(r"\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)
_ESCAPE = re.compile(r"\\(?:x[0-9A-Fa-f]{2}|[dDsSwWafnrtv]|[^A-Za-z0-9])", re.DOTALL)
_GROUP = re.compile(r"\((?:\?:|\?P?<\w+>|(?!\?))")
_COUNT = re.compile(r"([*+?])|\{(\d{1,4})(?:(,)(\d{1,4})?)?\}")


class TooComplicatedError(ValueError):
    """An expression that is not known here, or is too large."""


@dataclass(eq=False, slots=True)
class _State:
    """A place in the expression: what may come here, or which edge of the text is here, and what is next."""

    test: Callable[[str], object] | None = None
    edge: str = ""
    following: list[_State] = field(default_factory=list)


_Part: TypeAlias = "Callable[[_State], _State]"
"""A part of an expression: given the state that follows, returns the one to begin with."""


@lru_cache(maxsize=256)
def matcher(pattern: str) -> Callable[[str], bool]:
    """Return what tells whether a whole text matches; TooComplicatedError."""
    end = _State()
    start = _Reader(pattern).read()(end)

    @lru_cache(maxsize=256)
    def matches(text: str) -> bool:
        return len(text) <= LONGEST and end in _reached(start, text)

    return matches


def _reached(start: _State, text: str) -> set[_State]:
    """Return the states in which the whole text may end."""
    now = _spread([start], at_start=True, at_end=not text)
    for place, each in enumerate(text, start=1):
        passed = [state for state in now if state.test and state.test(each)]
        now = _spread(
            (following for state in passed for following in state.following),
            at_start=False,
            at_end=place == len(text),
        )
    return now


def _spread(states: Iterable[_State], *, at_start: bool, at_end: bool) -> set[_State]:
    """Return the states that can be reached without another character."""
    found: set[_State] = set()
    waiting = list(states)
    while waiting:
        state = waiting.pop()
        if state in found or (state.edge == "^" and not at_start) or (state.edge == "$" and not at_end):
            continue
        found.add(state)
        if state.test is None:
            waiting += state.following
    return found


class _Reader:
    """Reads an expression from left to right."""

    def __init__(self, pattern: str) -> None:
        flags = _FLAGS.match(pattern)
        self._flags = flags[0] if flags else ""
        self._pattern, self._at, self._depth, self._states = pattern, len(self._flags), 0, 0

    def read(self) -> _Part:
        """Return the whole expression."""
        whole = self._choice()
        if self._at < len(self._pattern):
            raise TooComplicatedError(f"{self._pattern!r}: a parenthesis too many")
        return whole

    def _choice(self) -> _Part:
        options = [self._sequence()]
        while self._took("|"):
            options.append(self._sequence())
        if len(options) == 1:
            return options[0]
        return lambda after: self._state(following=[option(after) for option in options])

    def _sequence(self) -> _Part:
        parts: list[_Part] = []
        while self._at < len(self._pattern) and self._pattern[self._at] not in "|)":
            parts.append(self._repeated(self._atom()))

        def sequence(after: _State) -> _State:
            for part in reversed(parts):
                after = part(after)
            return after

        return sequence

    def _repeated(self, part: _Part) -> _Part:
        found = _COUNT.match(self._pattern, self._at)
        if not found:
            return part
        self._at = found.end()
        self._took("?")  # how many are preferred makes no difference to whether all match
        low, high = _limits(found)

        def repeated(after: _State) -> _State:
            first = after
            if high is None:
                first = self._state(following=[after])
                first.following.append(part(first))
            for _ in range((high or low) - low):
                first = self._state(following=[part(first), after])
            for _ in range(low):
                first = part(first)
            return first

        return repeated

    def _atom(self) -> _Part:
        if found := _GROUP.match(self._pattern, self._at):
            return self._group(found.end())
        found = _CLASS.match(self._pattern, self._at) or _ESCAPE.match(self._pattern, self._at)
        text = found[0] if found else self._pattern[self._at]
        if (not found and text in "([\\*+?") or (found and "[:" in text):
            raise TooComplicatedError(f"{self._pattern!r} has something that is not known: {text}")
        self._at += len(text)
        if text in {"^", "$"}:
            return lambda after: self._state(edge=text, following=[after])
        one = text if found or text == "." else re.escape(text)
        test = re.compile(self._flags + one).fullmatch
        return lambda after: self._state(test=test, following=[after])

    def _group(self, begins: int) -> _Part:
        self._at, self._depth = begins, self._depth + 1
        if self._depth > DEEPEST:
            raise TooComplicatedError(f"{self._pattern!r} has more than {DEEPEST} groups in one another")
        inner = self._choice()
        if not self._took(")"):
            raise TooComplicatedError(f"{self._pattern!r}: a group has no end")
        self._depth -= 1
        return inner

    def _took(self, literal: str) -> bool:
        found = self._pattern.startswith(literal, self._at)
        self._at += len(literal) if found else 0
        return found

    def _state(
        self, test: Callable[[str], object] | None = None, edge: str = "",
        following: list[_State] | None = None,
    ) -> _State:  # fmt: skip
        self._states += 1
        if self._states > LARGEST:
            raise TooComplicatedError(f"{self._pattern!r} has more than {LARGEST} parts, written out")
        return _State(test, edge, following or [])


def _limits(count: re.Match[str]) -> tuple[int, int | None]:
    """Return how often something comes at least, and at most."""
    sign, low, comma, high = count.groups()
    if sign:
        return (1 if sign == "+" else 0), (1 if sign == "?" else None)
    if not comma:
        return int(low), int(low)
    return int(low), int(high) if high else None
