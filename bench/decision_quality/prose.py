"""What the page says besides figures."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.decision_quality.figures import Figure

INTRODUCTION = """\
# How good are the decisions?

Penstock's judge, other rules and the best possible one on the same made-up traffic: 200 requests per second,
30 minutes, alpha = 5 %. This page and `bench/results/decision_quality.json` are written by

    python -m bench.decision_quality --seed {seed} --runs {runs} --jobs 2

which gives the same figures again, whatever the number of jobs (except those of speed). {medians} runs are
behind a median and {chances} behind a chance of a false decision; Kayenta's judge, which takes long, sees
{kayenta} of them, a calibration from one hour a fifth. Penstock is the code of the controller,
`analysis.judge.advance`, one interval at a time.

How to read the cells:

- **A/A, identical candidates**: the share of runs that are rolled back within 30 minutes although nothing is
  wrong, with one standard error of the simulation. It should be 5 % at most.
- **`100 % / 190 s`**: the share of runs in which harm is found (or a harmless candidate promoted), and the
  median time to that, over all runs. Medians are those of a grid: with a look every 10 s one can take 10 or
  20 s, not 14. `> 1800 s` is never, for half of the runs.
- **phi** is the median of the dispersions by which evidence was divided.
- A rule that is fast and raises false alarms is no better rule: read both together.

{goals}

The oracle is Wald's test (`analysis.engines.oracle`). It knows how large the harm is, and with a late onset
also when it begins; nobody knows that in production.
"""

NOTES: Mapping[str, str] = MappingProxyType(
    {
        "Errors": """\
Effects are odds ratios. Kayenta compares with the whole control, one point per look.
""",
        "Latency": """\
Every rule sees the same buckets, with Istio's edges. Penstock judges those that 0.2 to 98 % of the requests
exceeded in an hour of history, and the next two above. Kayenta sees p50, p95 and p99, the threshold p99, as
`histogram_quantile` estimates them for each look.
""",
        "Identical candidates, 1 % errors: shared": """\
Dispersions are measured by `analysis.dispersion` on the control's past: two series, one of
the candidate's share of the requests and one of the rest, with the same kind of noise as in the run.
`Dispersion 1 assumed` is what happens to a judge who takes requests as independent: what both versions share
does no harm; what comes in clusters, or wanders by itself, does.

Sinusoid: both error rates swing by 60 % in ten minutes. Incident: ten times the errors in both for two
minutes. Bursts: geometric, three errors on average. Beta-binomial: `phi` times the variance of independent
errors in every interval.
""",
        "Identical candidates, 1 % errors: each": """\
Both error rates are multiplied by exp(noise), each version by its own, with a standard deviation `sd`; AR(1)
is what is left of the noise after 10 s. An hour of history shows too little of noise that lasts.
""",
        "What caution costs: detection with the dispersion calibrated": """\
Other rules are shown as they are; where they roll back identical candidates (above), their times mean
nothing.
""",
        "Late onset": """\
Seconds since the onset. A run that was rolled back before counts as not found.
""",
        "Promotion": """\
The share of runs called `Safe`, and the median time to that. In the last column the candidate is as bad as
the margin: promoting it is the error, at most 5 %. There a proof of safety counts even where harm was proven
before, which would have ended a real run.
""",
    }
)
"""By the beginning of a group's name."""

WHY: Mapping[Figure, str] = MappingProxyType(
    {
        "median by that of the oracle": """\
both medians lie on the grid of looks, where one look more is a large part of a short time. Not knowing how
  large the harm is and when it begins costs the logarithm of the parts into which the bet is divided.""",
        "median seconds": """\
medians lie on the grid of looks; one look less is the next smaller value.""",
        "false rollbacks": """\
a dispersion is estimated from a finite past, and of noise that lasts there are few independent stretches in
  it.""",
        "false promotions": """\
the bound holds by proof for independent requests; a miss is an error in the code.""",
        "CPU seconds": """\
measured on the machine that wrote this page. About half of it goes into the likelihoods of nine tables
  per rollout at some thirty odds ratios each, the rest mostly into Python objects, several per rollout.""",
        "bytes": """\
the state is sums in single precision, as base64.""",
    }
)
"""By figure, why its goal is missed."""
