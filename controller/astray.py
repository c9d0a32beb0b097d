"""Requests of a service that are none of its variants': without a version, or of another one. Pure.

Where only the version label tells the requests of the variants apart, a request without it could be anyone's.
A comparison of the rest would be one of the requests that happened to be labelled, which is worth nothing
when the failing ones are not. So an interval with more than 1 % of such requests is not judged, and the words
say what is missing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Set

    from numpy.typing import NDArray

MOST = 0.01
"""The share of a service's requests that may be no variant's."""
NO_VERSION = frozenset({"", "unknown"})
"""How proxies label what they do not know."""
_NAMED = 3


def astray(requests: Mapping[str, NDArray[np.int64]], variants: Set[str], label: str) -> dict[int, str]:
    """Return, by interval, in words which requests are no variant's, for the intervals with too many of them.

    `requests` has a service's requests per interval, by version; `variants` are the versions that are
    compared; `label` is the name of the version label.
    """
    others = sorted(requests.keys() - variants)
    if not others:
        return {}
    everything = np.sum(list(requests.values()), axis=0)
    lost = np.sum([requests[version] for version in others], axis=0)
    return {
        column: _words({version: int(requests[version][column]) for version in others}, total, label)
        for column, total in enumerate(everything.tolist())
        if lost[column] > MOST * total
    }


def _words(lost: Mapping[str, int], total: int, label: str) -> str:
    unlabelled = sum(count for version, count in lost.items() if version in NO_VERSION)
    foreign = {version: count for version, count in lost.items() if count and version not in NO_VERSION}
    words = []
    if unlabelled:
        words.append(f"{_percent(unlabelled, total)} of the requests carry no version (label {label})")
    if foreign:
        named = ", ".join([*list(foreign)[:_NAMED], *(["..."] if len(foreign) > _NAMED else [])])
        share = _percent(sum(foreign.values()), total)
        words.append(f"{share} of the requests are of versions that belong to no variant ({label}: {named})")
    return "; ".join(words)


def _percent(count: int, total: int) -> str:
    return f"{100 * count / total:.3g} %"
