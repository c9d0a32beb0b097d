"""The ordinary answer of Prometheus to a range query, read without an object for each label.

Most of an answer are labels, and those are mostly the same as at the last look. So they stay text until
somebody asks for them, and all that is done with them is to compare them with those of the answer before. The
numbers are read in one step.

Only the exact form that Prometheus writes is read here: JSON without spaces, counters only, each series with
a sample at every instant. Of anything else a `Splitter` knows nothing, and it is read as JSON
(`controller.prometheus`). A quote within a JSON string is escaped, so none of the separators below can be
part of a label.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, overload

import numpy as np
import orjson

from controller.matrix import Matrix

if TYPE_CHECKING:
    from analysis.hypergeometric import Floats

_HEAD = b'{"status":"success","data":{"resultType":"matrix","result":[{"metric":'
_TAIL = b'"]]}]}}'
_NEXT, _VALUES = b'"]]},{"metric":', b',"values":[['
_BETWEEN = b'"[]'
"""What else stands between numbers, besides commas."""
_DIGITS = b"0123456789.,e+-"
_PAIR = 2


class Labels(Sequence[Mapping[str, str]]):
    """The labels of many series as JSON texts, which are read when somebody asks for one."""

    def __init__(self, heads: list[bytes]) -> None:
        self.heads = heads
        """What an answer has of each series before its samples: its labels, and where the samples begin."""
        self._read: list[Mapping[str, str]] | None = None

    def __eq__(self, other: object) -> bool:
        return self.heads == other.heads if isinstance(other, Labels) else NotImplemented

    __hash__ = None  # type: ignore[assignment] # compared by value, and long

    def __len__(self) -> int:
        return len(self.heads)

    def __iter__(self) -> Iterator[Mapping[str, str]]:
        return iter(self[:])

    @overload
    def __getitem__(self, place: int) -> Mapping[str, str]: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Mapping[str, str]]: ...
    def __getitem__(self, place: int | slice) -> Mapping[str, str] | Sequence[Mapping[str, str]]:
        if self._read is None:
            texts = [head.removesuffix(_VALUES) for head in self.heads]
            self._read = orjson.loads(b"[" + b",".join(texts) + b"]")
        return self._read[place]


class Splitter:
    """Splits the answers to one query, one after the other, into labels and numbers."""

    def __init__(self) -> None:
        self._labels = Labels([])
        """Those of the last answer."""

    def split(self, body: bytes) -> Matrix | None:
        """Return the series of an ordinary answer; None for any other."""
        body = body.rstrip()
        if not body.startswith(_HEAD) or not body.endswith(_TAIL):
            return None
        series = body[len(_HEAD) : -len(_TAIL)].split(_NEXT)
        labels, samples = self._apart(series)
        read = _table(samples, len(series))
        if read is None:
            return None
        self._labels, (instants, values) = labels, read
        return Matrix(labels, instants, values, np.ones(values.shape, dtype=np.bool_))

    def _apart(self, series: Sequence[bytes]) -> tuple[Labels, bytes]:
        """Return the labels of all series, and their samples, all in one text."""
        known = self._labels
        if len(known) == len(series):
            samples = b",".join(map(bytes.removeprefix, series, known.heads))
            if b"{" not in samples:  # else some have other labels, which are still there
                return known, samples
        parts = [each.partition(_VALUES) for each in series]
        return Labels([text + values for text, values, _ in parts]), b",".join([each for *_, each in parts])


def _table(samples: bytes, series: int) -> tuple[Sequence[int], Floats] | None:
    """Return the instants and the values at them, series by instant; None if any series lacks one."""
    try:
        numbers = _numbers(samples.translate(None, _BETWEEN))
        times = numbers[::_PAIR]
        instants = [round(at) for at in times[: len(times) // series]]
        values = np.array(numbers[1::_PAIR], dtype=np.float64).reshape(series, len(instants))
    except (ValueError, OverflowError):
        return None
    right = times == times[: len(instants)] * series and instants == sorted({*instants}) != []
    return (instants, values) if right else None


def _numbers(text: bytes) -> list[float]:
    """Read numbers with commas between them; ValueError."""
    if text.translate(None, _DIGITS):  # NaN, +Inf, or no numbers at all
        return [*map(float, text.split(b","))]
    numbers: list[float] = orjson.loads(b"[" + text + b"]")
    return numbers
