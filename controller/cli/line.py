"""Text of others on one line of a terminal."""

from __future__ import annotations

import re

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]+")


def clean(text: str) -> str:
    """Return text that cannot steer a terminal."""
    return _CONTROL.sub(" ", text)


def one_line(text: str) -> str:
    """Return clean text with single spaces, so that it stays one line whatever is in it."""
    return " ".join(clean(text).split())
