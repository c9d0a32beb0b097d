"""Requests of a service without a version: they could be anyone's. Pure.

Where only the version label tells the requests of the variants apart, a comparison of those that happen to be
labelled is worth nothing when the failing ones are not. So an interval with more than 1 % of unlabelled
requests, and more than a few, is not judged, and the words say what is missing. Requests of further versions
do no harm: they are told apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

MOST, A_FEW = 0.01, 5
"""The share of a service's requests that may carry no version, and the number that always may."""
NO_VERSION = frozenset({"", "unknown"})
"""How proxies label what they do not know."""


def astray(requests: Mapping[str, NDArray[np.int64]], label: str) -> dict[int, str]:
    """Return, by interval, in words how many requests carry no version, for the intervals with too many.

    `requests` has a service's requests per interval, by version; `label` is the name of the version label.
    """
    unlabelled = [counts for version, counts in requests.items() if version in NO_VERSION]
    if not unlabelled:
        return {}
    lost = np.sum(unlabelled, axis=0).tolist()
    everything = np.sum(list(requests.values()), axis=0).tolist()
    return {
        column: f"{100 * count / total:.3g} % of the requests carry no version (label {label})"
        for column, (count, total) in enumerate(zip(lost, everything, strict=True))
        if count > max(A_FEW, MOST * total)
    }
