"""Draw the pictures of docs/statistics.md, or print the table of docs/assumptions.md.

    python -m bench.pictures [--runs 400] [--seed 1] [--only NAME] [--folder docs/images/statistics]
    python -m bench.pictures --table [WORDS] [--runs 400] [--seed 1]

With WORDS only the cases with those words in their names. The same seed gives the same files and figures. All
of it takes some minutes.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from bench.pictures.by_case import dispersion, latency, time_to_decision
from bench.pictures.damage import table
from bench.pictures.over_time import e_values, peeking, sequence

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

PICTURES: Mapping[str, Callable[[int, int], str]] = {
    "e-values": e_values,
    "peeking": peeking,
    "dispersion": dispersion,
    "time-to-decision": time_to_decision,
    "latency": latency,
    "sequence": sequence,
}
"""Each takes the number of runs and the seed, and returns an SVG file."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run it from the command line."""
    options = _parser().parse_args(arguments)
    if options.table is not None:
        for line in table(options.runs, options.seed, options.table):
            print(line, flush=True)
        return
    options.folder.mkdir(parents=True, exist_ok=True)
    for name in options.only or PICTURES:
        file = options.folder / f"{name}.svg"
        file.write_text(PICTURES[name](options.runs, options.seed), encoding="utf-8")
        print(file, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--table", nargs="?", const="", metavar="WORDS", help="print the table instead")
    parser.add_argument("--only", action="append", choices=sorted(PICTURES), help="draw this one only")
    parser.add_argument("--folder", type=Path, default=Path("docs/images/statistics"))
    return parser


if __name__ == "__main__":
    main()
