"""What became of tried rollouts, as rows of a table: for `penstock simulate` and `penstock replay`. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from controller import numbers
from controller.endings import OUTCOMES

if TYPE_CHECKING:
    from controller.endings import Result, Share

HEADER = ("CANDIDATE", "ROLLED BACK", "PROMOTED", "HELD", "TO ROLLBACK", "TO PROMOTION")


def row(result: Result) -> list[str]:
    """Return the cells of one effect."""
    shares = {outcome: result.share(outcome) for outcome in OUTCOMES}
    return [
        "identical" if result.effect == 1 else f"x{result.effect:g}",
        *(share_words(shares[outcome]) for outcome in ("rolledBack", "promoted", "held")),
        *(numbers.length(shares[outcome].median) for outcome in ("rolledBack", "promoted")),
    ]


def share_words(share: Share) -> str:
    """Return a share with its standard error: `1.0% ±0.7%`."""
    return f"{100 * share.share:.1f}% ±{100 * share.error:.1f}%"
