"""Many series of one answer as arrays, series by instant, without an object for each sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self, overload

import numpy as np

from controller.ports import Series

if TYPE_CHECKING:
    from collections.abc import Mapping

    from analysis.counters import Flags
    from analysis.hypergeometric import Floats


class Matrix(Sequence[Series]):
    """Series as arrays, for all instants at which any was read; each is a `Series` to whoever asks for one.

    `values` and `present` (whether there was a sample) are (series, instants); `native` has a `Series.native`
    for each, and `has_native` tells whether any of these says something.
    """

    def __init__(
        self, labels: Sequence[Mapping[str, str]], instants: Sequence[int], values: Floats, present: Flags,
        native: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self.labels, self.instants = labels, instants
        self.values, self.present = values, present
        self.native = native or ("",) * len(labels)
        self.has_native = any(native)

    @classmethod
    def of_result(cls, result: Sequence[Mapping[str, Any]]) -> Self:
        """Return the series of a range query's `result`, as JSON; KeyError, TypeError or ValueError."""
        labels = [item["metric"] for item in result]
        if not {*map(type, labels)} <= {dict}:
            raise TypeError("labels are an object")
        samples = [sample for item in result for sample in item["values"]]
        lengths = [len(item["values"]) for item in result]
        times, values = [round(at) for at, _ in samples], [float(value) for _, value in samples]
        return cls(labels, *_filled(lengths, times, values))

    @classmethod
    def of_series(cls, series: Sequence[Series]) -> Self:
        """Return series that were made one by one."""
        points = [point for each in series for point in each.points]
        lengths = [len(each.points) for each in series]
        filled = _filled(lengths, [at for at, _ in points], [value for _, value in points])
        return cls([each.labels for each in series], *filled, [each.native for each in series])

    def __len__(self) -> int:
        return len(self.labels)

    @overload
    def __getitem__(self, place: int) -> Series: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Series]: ...
    def __getitem__(self, place: int | slice) -> Series | Sequence[Series]:
        if isinstance(place, slice):
            return [self[row] for row in range(len(self))[place]]
        row = range(len(self))[place]
        there = np.flatnonzero(self.present[row]).tolist()
        points = tuple((self.instants[at], float(self.values[row, at])) for at in there)
        return Series(self.labels[row], points, self.native[row])


def _filled(
    lengths: Sequence[int], times: Sequence[int], samples: Sequence[float]
) -> tuple[Sequence[int], Floats, Flags]:
    """Return all instants, rising, and the samples at them; `lengths` says how many each series has."""
    rows, at = np.repeat(np.arange(len(lengths)), lengths), np.array(times, dtype=np.int64)
    instants = np.unique(at)
    values = np.zeros((len(lengths), instants.size))
    present = np.zeros(values.shape, dtype=np.bool_)
    columns = np.searchsorted(instants, at)
    values[rows, columns], present[rows, columns] = samples, True
    return instants.tolist(), values, present
