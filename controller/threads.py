"""How many threads numpy's linear algebra uses in this process.

Its products of matrices are small here. Shared out among threads they are no faster, and the threads wait for
the next one at full speed: a fifth of the processor time of a look at 500 rollouts, and more than half of one
at 50 (bench/loop.py). The results are the same.
"""

from __future__ import annotations

import os

VARIABLE = "OPENBLAS_NUM_THREADS"


def use_one_thread() -> bool:
    """Say so to numpy, which must not be imported yet; False if somebody has said how many already."""
    if VARIABLE in os.environ:
        return False
    os.environ[VARIABLE] = "1"
    return True
