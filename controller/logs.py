"""Logs: lines for people, or one JSON object per line for machines.

Every line of the loop says in which look it was written (`look`, the reconcile id) and, where it concerns one
rollout, which (`policy`), so that everything about one look or one rollout can be found together.
"""

from __future__ import annotations

import itertools
import json
import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Literal

LOOK: ContextVar[str] = ContextVar("look", default="")
"""The id of the look that is being taken; empty outside of one."""
_NOISY = ("asyncio", "urllib3", "uvicorn.error", "aiohttp.access")
_numbers = itertools.count(1)

Format = Literal["text", "json"]


def begin_look() -> str:
    """Give the look that begins now its id, and return it."""
    look = str(next(_numbers))
    LOOK.set(look)
    return look


class JsonLines(logging.Formatter):
    """One JSON object per record: time, level, logger, message, look, policy, error."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as one line."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "look": LOOK.get(),
            "policy": getattr(record, "policy", ""),
            "error": self.formatException(record.exc_info) if record.exc_info else "",
        }
        return json.dumps({name: value for name, value in line.items() if value}, ensure_ascii=False)


def set_up(style: Format = "text") -> None:
    """Send logs to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    lines = logging.Formatter("%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S")
    handler.setFormatter(JsonLines() if style == "json" else lines)
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for noisy in _NOISY:
        logging.getLogger(noisy).setLevel(logging.WARNING)
