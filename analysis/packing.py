"""Floats as text, bit for bit: the base64 of their bytes, little end first."""

from __future__ import annotations

import base64
import struct
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LITTLE = np.dtype("<f4")
_OTHER = "stored evidence does not belong to this design"


def pack(singles: NDArray[np.float32]) -> str:
    """Return floats in single precision as text."""
    return base64.b64encode(singles.astype(_LITTLE, copy=False).tobytes()).decode("ascii")


def unpack(text: str, size: int) -> NDArray[np.float32]:
    """Return the floats that `pack` wrote. Raises ValueError unless there are so many."""
    singles = np.frombuffer(base64.b64decode(text), dtype=_LITTLE).astype(np.float32)
    if singles.size != size:
        raise ValueError(_OTHER)
    return singles


def pack_exact(*values: float) -> str:
    """Return floats in double precision as text."""
    return base64.b64encode(struct.pack(f"<{len(values)}d", *values)).decode("ascii")


def unpack_exact(text: str, count: int) -> tuple[float, ...]:
    """Return the floats that `pack_exact` wrote. Raises ValueError unless there are so many."""
    packed = base64.b64decode(text)
    if len(packed) != 8 * count:
        raise ValueError(_OTHER)
    return struct.unpack(f"<{count}d", packed)
