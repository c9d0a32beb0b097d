"""The demo: `make demo`. Three services, each with two versions of a model server, real traffic, one Envoy.

    good        the candidate behaves like the control            -> promoted
    errors      1 % of errors becomes 3 %                         -> rolled back
    slow-tail   2 % of requests take one second longer            -> rolled back

With --aa all three candidates are good, and none may be rolled back. Without a terminal it exits 0 only if
every decision is right; with one it keeps serving the reports until Ctrl-C. It writes demo-summary.json.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING

from demo.run import parse, run
from demo.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; return the exit status."""
    options = parse("make demo", __doc__.splitlines()[0], argv)
    return run(options, partial(Stack, rate=options.rate))


if __name__ == "__main__":
    sys.exit(main())
