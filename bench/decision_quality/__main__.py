"""Run the benchmark; write bench/results/decision_quality.json and docs/decision-quality.md.

    python -m bench.decision_quality [--runs 1000] [--jobs 2] [--seed 1] [--only Latency] [--small]

Chances of a false decision take ten times as many runs as medians, Kayenta's judge a fifth. `--small` is for
a look whether all of it works: its figures are coarse. With `--only`, or `--small`, nothing is written unless
`--json` and `--page` say where.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from bench.decision_quality.cases import all_cases
from bench.decision_quality.goals import judged
from bench.decision_quality.page import render
from bench.decision_quality.run import Sizes, measure
from bench.decision_quality.speed import ROLLOUTS
from bench.decision_quality.speed import measure as measure_speed

if TYPE_CHECKING:
    from collections.abc import Sequence

RESULTS, PAGE = Path("bench/results/decision_quality.json"), Path("docs/decision-quality.md")
SMALL, SMALL_ROLLOUTS = 20, 500


def main(arguments: Sequence[str] | None = None) -> None:
    """Run it from the command line."""
    options = _parser().parse_args(arguments)
    runs = SMALL if options.small else options.runs
    whole = not (options.small or options.only)
    sizes = Sizes(medians=runs, chances=10 * runs, kayenta=max(2, runs // 5))
    cases = [case for case in all_cases() if case.name.startswith(options.only)]
    rows = measure(cases, sizes, seed=options.seed, jobs=options.jobs)
    if "Speed".startswith(options.only):
        rows += map(judged, measure_speed(SMALL_ROLLOUTS if options.small else ROLLOUTS))
    text = json.dumps([row.as_dict() for row in rows], indent=1, ensure_ascii=False) + "\n"
    page = render(rows, sizes, seed=options.seed)
    for path, content in (
        (options.json or (whole and RESULTS), text),
        (options.page or (whole and PAGE), page),
    ):
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
    missed = [row for row in rows if row.met is False]
    print(f"{len(rows)} figures, {sum(row.met is not None for row in rows)} goals, {len(missed)} missed")
    for row in missed:
        print(f"  {row.case}: {row.engine}, {row.figure} {row.value} ± {row.error}, goal {row.goal}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000, help="runs behind a median")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="cases whose names begin so")
    parser.add_argument("--small", action="store_true", help=f"{SMALL} runs, no matter what --runs says")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--page", type=Path, help="where to write the page")
    return parser


if __name__ == "__main__":
    main()
