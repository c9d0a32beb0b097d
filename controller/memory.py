"""How often Python looks for cycles of garbage in this process.

A look of the loop makes many objects that live until its end, and hardly any cycles. With Python's defaults a
third of the processor time went into looking for them (bench/loop.py).
"""

from __future__ import annotations

import gc

NEW_OBJECTS = 100_000


def look_for_cycles_less_often() -> None:
    """Tell the collector; what is there already (modules, mostly) is not looked at again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(NEW_OBJECTS, 20, 20)
