"""The ordinary answer of Prometheus to a range query, read without an object for each label.

Most of an answer are labels, and those are mostly the same as at the last look. So they stay text until
somebody asks for them, and two answers are compared by their text. Only the exact form that Prometheus writes
is read here: JSON without spaces, counters only, each series with a sample at every instant. Of anything else
`split` knows nothing, and it is read as JSON (`controller.prometheus`).

A quote within a JSON string is escaped, so none of the separators below can be part of a label.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import overload

import numpy as np
import orjson

from controller.matrix import Matrix

_HEAD = b'{"status":"success","data":{"resultType":"matrix","result":[{"metric":'
_TAIL = b'"]]}]}}'
_NEXT, _VALUES, _END = b'"]]},{"metric":', b',"values":[[', b"],["
_PAIR = 2


class Labels(Sequence[Mapping[str, str]]):
    """The labels of many series as JSON texts, which are read when somebody asks for one."""

    def __init__(self, texts: list[bytes]) -> None:
        self._texts = texts
        self._read: list[Mapping[str, str]] | None = None

    def __eq__(self, other: object) -> bool:
        return self._texts == other._texts if isinstance(other, Labels) else NotImplemented

    __hash__ = None  # type: ignore[assignment] # compared by value, and long

    def __len__(self) -> int:
        return len(self._texts)

    @overload
    def __getitem__(self, place: int) -> Mapping[str, str]: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Mapping[str, str]]: ...
    def __getitem__(self, place: int | slice) -> Mapping[str, str] | Sequence[Mapping[str, str]]:
        if self._read is None:
            self._read = orjson.loads(b"[" + b",".join(self._texts) + b"]")
        return self._read[place]


def split(body: bytes) -> Matrix | None:
    """Return the series of an ordinary answer; None for any other."""
    body = body.rstrip()
    if not body.startswith(_HEAD) or not body.endswith(_TAIL):
        return None
    series = [each.partition(_VALUES) for each in body[len(_HEAD) : -len(_TAIL)].split(_NEXT)]
    numbers = (
        b",".join([values.replace(_END, b",") for _, _, values in series]).replace(b'"', b"").split(b",")
    )
    times = numbers[: _PAIR * (series[0][2].count(_END) + 1) : _PAIR]
    if numbers[::_PAIR] != times * len(series):  # a series without a sample at some instant
        return None
    try:
        instants = [round(float(at)) for at in times]
        values = np.array([*map(float, numbers[1::_PAIR])]).reshape(len(series), len(instants))
    except ValueError:
        return None
    if instants != sorted({*instants}):
        return None
    labels = Labels([text for text, _, _ in series])
    return Matrix(labels, instants, values, np.ones(values.shape, dtype=np.bool_))
