r"""RE2 syntax, recognised: what istiod's `regexp.Compile` accepts.

Python's `re` is no judge: it takes lookarounds and backreferences that RE2 has not, and lacks `\pN`,
`\Q..\E`, `\z` and POSIX classes. Grammar: https://github.com/google/re2/wiki/Syntax as read by Go's
regexp/syntax. The names of Unicode scripts in `\p{..}` are not checked, nor the size of the compiled program.
"""

from __future__ import annotations

import re
from typing import Final

_MOST: Final = 1000
"""The greatest count of a repetition, also of nested ones multiplied."""

_FLAGS: Final = re.compile(r"\(\?[imsU]*(-[imsU]+)?[:)]")
_NAMED: Final = re.compile(r"\(\?P?<(\w+)>", re.ASCII)
_COUNTS: Final = re.compile(r"\{(0|[1-9]\d*)(?:,(0|[1-9]\d*)?)?\}", re.ASCII)
_LITERAL: Final = re.compile(
    r"\\(?:[0-7]{1,3}|x[0-9A-Fa-f]{2}|x\{[0-9A-Fa-f]+\}|[afnrtv]|[!-/:-@\[-`{-~ ]|[\0-\x1f\x7f])"
)
_CLASS: Final = re.compile(r"\\[dDsSwW]|\\[pP](?:[CLMNPSZ]|\{\^?\w+\})")
_ASSERTION: Final = re.compile(r"\\[AbBz]")
_POSIX: Final = re.compile(r"\[:(.*?):\]")
_POSIX_NAME: Final = re.compile(
    r"\^?(alnum|alpha|ascii|blank|cntrl|digit|graph|lower|print|punct|space|upper|word|xdigit)"
)


class RegexError(ValueError):
    """The text is not a regular expression of RE2; says why."""


def check(pattern: str) -> None:
    """Raise RegexError unless `pattern` is a regular expression of RE2."""
    _Reader(pattern).read()


class _Reader:
    """One pass over the text, without recursion: 1024 bytes can nest five hundred groups."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0
        self.names: set[str] = set()

    @property
    def rest(self) -> str:
        return self.text[self.position :]

    def take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        match = pattern.match(self.text, self.position)
        if match:
            self.position = match.end()
        return match

    def skip(self, literal: str) -> bool:
        found = self.text.startswith(literal, self.position)
        self.position += len(literal) if found else 0
        return found

    def read(self) -> None:
        """Read the whole text, and keep count of how often its parts are repeated."""
        outer: list[int] = []  # of each group that is open, the greatest count so far around it
        most, last, repeated = 1, 0, False  # in this group; of the last operand, 0 if there is none
        while self.rest:
            if self.rest[0] in "*+?" or _COUNTS.match(self.rest):
                if repeated or not last:
                    problem = "invalid nested" if repeated else "missing argument to"
                    raise RegexError(f"{problem} repetition operator: {self.rest[:3]}")
                last, repeated = last * self.repetition(), True
                if last > _MOST:
                    raise RegexError("invalid repeat count")
            else:
                repeated = False
                if self.skip("|"):
                    last = 0
                elif self.skip(")"):
                    if not outer:
                        raise RegexError("unexpected )")
                    last, most = most, max(most, outer.pop())
                elif self.rest[0] != "(":
                    last = self.atom() or last
                elif self.opening():
                    outer.append(most)
                    most, last = 1, 0
            most = max(most, last)
        if outer:
            raise RegexError("missing closing )")

    def repetition(self) -> int:
        """Read one operator and a `?` after it; return its greatest count."""
        counts = self.take(_COUNTS)
        if counts is None:
            self.position += 1
            self.skip("?")
            return 1
        least = int(counts[1])
        most = int(counts[2]) if counts[2] else least
        if most > _MOST or least > most:
            raise RegexError(f"invalid repeat count: {counts[0]}")
        self.skip("?")
        return max(most, 1)

    def opening(self) -> bool:
        """Read what begins with a parenthesis; tell whether it opens a group: `(?flags)` does not."""
        if flags := self.take(_FLAGS):
            return flags[0].endswith(":")
        named = self.take(_NAMED)
        if named and named[1] in self.names:
            raise RegexError(f"duplicate capture group name: {named[1]}")
        if named:
            self.names.add(named[1])
        elif self.rest.startswith("(?"):
            raise RegexError(f"invalid or unsupported Perl syntax: {self.rest[:3]}")
        else:
            self.position += 1
        return True

    def atom(self) -> int:
        """Read a class, an escape or a character; return 1, or 0 for a quotation of nothing."""
        if self.skip("["):
            self.char_class()
        elif self.skip("\\Q"):
            quoted, closing, _ = self.rest.partition("\\E")
            self.position += len(quoted + closing)
            return min(len(quoted), 1)
        elif self.rest[0] == "\\":
            if not (self.take(_ASSERTION) or self.take(_CLASS)):
                self.escape()
        else:
            self.position += 1
        return 1

    def escape(self) -> int:
        """Read an escaped character; return it."""
        match = self.take(_LITERAL)
        if match is None or re.fullmatch(r"\\[1-9]", match[0]):
            raise RegexError(f"invalid escape sequence: {self.rest[:2] if match is None else match[0]}")
        body = match[0][1:]
        code = _code_point(body)
        if code > 0x10FFFF:
            raise RegexError(f"invalid escape sequence: {match[0]}")
        return code

    def char_class(self) -> None:
        """Read a class after its opening bracket; `]` may come first."""
        self.skip("^")
        first = True
        while first or not self.skip("]"):
            first = False
            if not self.rest:
                raise RegexError("missing closing ]")
            if posix := self.take(_POSIX):
                if not _POSIX_NAME.fullmatch(posix[1]):
                    raise RegexError(f"invalid character class range: {posix[0]}")
            elif not self.take(_CLASS):
                self.char_range()

    def char_range(self) -> None:
        low = self.class_char()
        if len(self.rest) > 1 and self.rest[0] == "-" and self.rest[1] != "]":
            self.position += 1
            if self.class_char() < low:
                raise RegexError("invalid character class range")

    def class_char(self) -> int:
        if not self.rest:
            raise RegexError("missing closing ]")
        if self.rest[0] == "\\":
            return self.escape()
        self.position += 1
        return ord(self.text[self.position - 1])


def _code_point(body: str) -> int:
    """Return the character that an escape (without its backslash) stands for."""
    if body[0] == "x" and len(body) > 1:
        return int(body[1:].strip("{}"), 16)
    if body[0].isdigit():
        return int(body, 8)
    return ord({"a": "\a", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}.get(body, body))
