"""A native histogram as Prometheus scrapes it: the delimited protobuf exposition, written by hand.

Field numbers are those of io.prometheus.client (metrics.proto). Buckets are integers: the spans say which
exist, and each count is the difference to the one before.
"""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CONTENT_TYPE = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
_HISTOGRAM_TYPE = 4


def native_histogram(
    name: str, metrics: Sequence[tuple[Mapping[str, str], int, int, Sequence[int]]], zero: float = 1e-9
) -> bytes:
    """Return a family of histograms; each metric is labels, schema, index of the first bucket, and counts.

    One value lies in the zero bucket of width `zero`; sums are 0, since nobody reads them.
    """
    family = _text(1, name) + _number(3, _HISTOGRAM_TYPE)
    for labels, schema, first, counts in metrics:
        pairs = b"".join(_message(1, _text(1, key) + _text(2, value)) for key, value in labels.items())
        family += _message(4, pairs + _message(7, _histogram(schema, first, counts, zero)))
    return _varint(len(family)) + family


def _histogram(schema: int, first: int, counts: Sequence[int], zero: float) -> bytes:
    span = _number(1, _zigzag(first)) + _number(2, len(counts))
    deltas = b"".join(_varint(_zigzag(after - before)) for before, after in pairwise([0, *counts]))
    return (
        _number(1, sum(counts) + 1)
        + _double(2, 0.0)
        + _number(5, _zigzag(schema))
        + _double(6, zero)
        + _number(7, 1)
        + _message(12, span)
        + _message(13, deltas)
    )


def _varint(value: int) -> bytes:
    parts = []
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def _zigzag(value: int) -> int:
    return value << 1 if value >= 0 else (-value << 1) - 1


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _double(field: int, value: float) -> bytes:
    return _varint(field << 3 | 1) + struct.pack("<d", value)


def _message(field: int, body: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(body)) + body


def _text(field: int, text: str) -> bytes:
    return _message(field, text.encode())
