"""A recorded run as `ports.History.run` gives it: counts drawn from a seed, evidence close to the judge's.

The evidence is a binomial stand-in for the real judge: it moves as real evidence does, and no test may
rest on its exact size.
"""

import math
import random
from datetime import UTC, datetime

START = 1_795_341_600
CONTROL, CANDIDATE = "stable", "candidate"
RATIOS = (1.25, 1.5, 2, 3, 5, 10)

POLICY = {
    "apiVersion": "penstock.dev/v1alpha1",
    "kind": "RolloutPolicy",
    "metadata": {"name": "ranker", "namespace": "ml"},
    "spec": {
        "service": {"host": "ranker", "port": 8080},
        "virtualService": {"name": "ranker", "routes": ["primary"]},
        "variants": [{"name": "stable", "subset": "v1"}, {"name": "candidate", "subset": "v2"}],
        "strategy": {
            "canary": {
                "steps": [
                    {"weight": 5, "hold": "1m"},
                    {"weight": 25, "hold": "1m"},
                    {"weight": 50, "hold": "1m", "pause": True},
                ]
            }
        },
        "metrics": [
            {"template": "istio-error-rate", "name": "errors", "margin": "25%", "dispersion": "1"},
            {"template": "istio-latency", "name": "latency", "margin": "10%"},
        ],
        "decision": {"falseRollback": "1%", "falsePromote": "5%", "interval": "10s", "deadline": "2h"},
    },
}


def rfc3339(seconds):
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class _Metric:
    """One metric's counts and evidence as they grow."""

    def __init__(self, name, rates, edge=None):
        self.name, self.rates, self.edge = name, rates, edge
        self.counts = [[0, 0], [0, 0]]
        self.mh = [0.0, 0.0]
        self.harm = dict.fromkeys(RATIOS, 0.0)
        self.safe = dict.fromkeys((0.8, 1.0, 1.1), 0.0)

    def add(self, rng, control, candidate):
        k = [
            sum(rng.random() < rate for _ in range(n))
            for n, rate in zip((control, candidate), self.rates, strict=True)
        ]
        for arm, (n, events) in enumerate(zip((control, candidate), k, strict=True)):
            self.counts[arm][0] += n
            self.counts[arm][1] += events
        total = control + candidate
        self.mh[0] += k[1] * (control - k[0]) / total
        self.mh[1] += k[0] * (candidate - k[1]) / total
        for table, null in ((self.harm, 1.0), (self.safe, 1.25)):
            for ratio in table:
                table[ratio] += _log_ratio(k, candidate / total, ratio, null)
        return k

    def verdict(self, crossed, safe):
        (n0, k0), (n1, k1) = self.counts
        ratio = self.mh[0] / self.mh[1] if self.mh[1] else None
        width = 3.3 * math.sqrt(1 / max(k0, 1) + 1 / max(k1, 1)) + 0.05
        rate0, rate1 = k0 / n0, k1 / n1
        result = {
            "name": self.name,
            "kind": "Harmful" if crossed else "Safe" if safe else "Undecided",
            "e_harm": _mean(self.harm),
            "e_harm_max": _mean(self.harm),
            "e_share": _mean(self.harm) / 2,
            "bound_harm": 200.0,
            "e_safe": _mean(self.safe),
            "bound_safe": 20.0,
            "odds_ratio": ratio,
            "interval": None if not ratio else [ratio * math.exp(-width), ratio * math.exp(width)],
            "control": {"total": n0, "events": k0, "rate": rate0},
            "candidate": {"total": n1, "events": k1, "rate": rate1},
            "sentence": f"{self.name}: {rate1:.2%} against {rate0:.2%}",
        }
        return result | ({"worst_edge": self.edge} if self.edge else {})


def _log_ratio(k, share, ratio, null):
    one, zero = (w * share / (1 - share + w * share) for w in (ratio, null))
    return k[1] * math.log(one / zero) + k[0] * math.log((1 - one) / (1 - zero))


def _mean(table):
    return sum(math.exp(min(600, value)) for value in table.values()) / len(table)


def fake_run(*, harmful=False, finished=True, looks=40, seed=7):
    """Return a run that is rolled back for its errors, promoted, or (not finished) still going on."""
    rng = random.Random(seed)
    metrics = [
        _Metric("errors", (0.01, 0.025 if harmful else 0.01)),
        _Metric("latency", (0.05, 0.05), edge=250.0),
    ]
    ticks, intervals, decisions = (
        [],
        [],
        [_decision("Start", "Started", "run 3, step 1 of 3, 5% to candidate: candidate is new", 0, 5)],
    )
    weight, step, outcome = 5, 0, None
    for look in range(1, looks + 1):
        end = START + 10 * look
        candidate = sum(rng.random() < weight / 100 for _ in range(1500))
        control = 1500 - candidate
        for metric in metrics:
            k = metric.add(rng, control, candidate)
            intervals.append(
                {
                    "metric": metric.name,
                    "end": end,
                    "control": {"total": control, "events": [k[0]]},
                    "candidate": {"total": candidate, "events": [k[1]]},
                }
            )
        intervals.append(
            {
                "metric": "istio-request-share",
                "end": end,
                "intended": weight / 100,
                "control": {"total": control, "events": []},
                "candidate": {"total": candidate, "events": []},
            }
        )
        verdict = _verdict(metrics)
        ticks.append(
            {
                "at": end + 1.0,
                "cursor": end,
                "weights": {CONTROL: 100 - weight, CANDIDATE: weight},
                "verdict": verdict,
            }
        )
        if verdict["kind"] == "Harmful" and finished:
            outcome = ("RolledBack", "Harmful", verdict["sentence"])
            decisions.append(_decision("RollBack", "Harmful", verdict["sentence"], end - START + 1, 0, step))
            break
        if look in {8, 16}:
            step, weight = step + 1, (25, 50)[step]
            decisions.append(
                _decision(
                    "Advance",
                    "NoHarmShown",
                    f"step {step + 1} of 3, {weight}% to candidate: no harm shown",
                    end - START + 1,
                    weight,
                    step,
                )
            )
    if outcome is None and finished:
        sentence = "Every metric with a margin is shown to be within it."
        outcome = ("Promoted", "Safe", sentence)
        decisions.append(_decision("Promote", "Safe", sentence, 10 * looks + 1, 100, step))
    name, reason, message = outcome or (None, "", "")
    return {
        "id": f"ml.ranker.3.{START}",
        "number": 3,
        "control": CONTROL,
        "candidate": CANDIDATE,
        "revisions": {CONTROL: "a1", CANDIDATE: "b2"},
        "startedAt": rfc3339(START),
        "endedAt": rfc3339(ticks[-1]["at"]) if outcome else None,
        "outcome": name,
        "reason": reason,
        "message": message,
        "blame": "errors" if name == "RolledBack" else None,
        "policy": POLICY,
        "cursor": ticks[-1]["cursor"],
        "weights": ticks[-1]["weights"],
        "verdict": ticks[-1]["verdict"],
        "ticks": ticks,
        "intervals": intervals,
        "decisions": decisions,
    }


def _verdict(metrics):
    total = sum(_mean(metric.harm) for metric in metrics) / len(metrics)
    crossed = total >= 100
    safe = [_mean(metric.safe) >= 20 for metric in metrics]
    kind = "Harmful" if crossed else "Safe" if all(safe) else "Undecided"
    worst = max(metrics, key=lambda metric: _mean(metric.harm))
    views = [
        metric.verdict(crossed and metric is worst, ok) for metric, ok in zip(metrics, safe, strict=True)
    ]
    told = next(view for view in views if view["name"] == worst.name)
    if crossed:
        ratio = f"odds ratio {told['odds_ratio']:.1f}"
        sentence = (
            f"{told['sentence']} ({ratio}): harm beyond tolerance is proven, e = {total:.0f} over bound 100"
        )
    else:
        sentence = "all metrics are safe" if kind == "Safe" else "neither harm nor safety is shown yet"
    return {
        "kind": kind,
        "blame": worst.name if crossed else None,
        "sentence": sentence,
        "reasons": [sentence],
        "e_rollback": total,
        "bound_rollback": 100.0,
        "metrics": views,
        "srm": {"e": 0.8, "e_max": 1.9, "bound": 1000.0, "mismatch": False},
    }


def _decision(action, reason, message, after, weight, step=0):
    at = START + after
    weights = {CONTROL: 100 - weight, CANDIDATE: weight}
    return {
        "action": action,
        "reason": reason,
        "message": message,
        "step": step,
        "weights": weights,
        "inputs": {},
        "at": at,
        "cursor": int(at),
    }
