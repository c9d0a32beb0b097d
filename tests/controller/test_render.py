import io
import re

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from controller.cli import render
from controller.view import event_views, rollout_view, run_summary
from tests.support.fake_backend import event, policy, running
from tests.support.fake_run import START, fake_run

VERDICT = {
    "kind": "Undecided",
    "sentence": "errors: safety is not shown yet",
    "e_rollback": 1.27,
    "bound_rollback": 100.0,
    "metrics": [
        {
            "name": "errors",
            "kind": "Undecided",
            "e_harm": 2.52,
            "bound_harm": 200.0,
            "e_safe": 0.239,
            "bound_safe": 20.0,
            "sentence": "errors 1.46% against 0.96% (odds ratio 1.5, 0.7 to 3.3)",
        },
        {
            "name": "latency",
            "kind": "Safe",
            "e_harm": 0.0127,
            "bound_harm": 200.0,
            "sentence": "latency is safe",
        },
    ],
}

EVENTS = [
    event(),
    event("NoHarmShown", "step 2 of 3, 25% to candidate: no harm shown", 81),
    event("DriftCorrected", "kubectl changed the weights", 99, type_="Warning") | {"count": 3},
]

PROGRESSING = """\
ml/ranker  Progressing  Step 2/3, 25% to candidate: undecided
├── stable     control     75%  ███████████████░░░░░  v1
├── candidate  candidate   25%  █████░░░░░░░░░░░░░░░  v2
├── run 3  for 2m10s
│   ├── ✔ step 1    5%  at least 1m
│   ├── ▶ step 2   25%  at least 1m
│   └── · step 3   50%  at least 1m  then approval
├── Undecided  harm 1.27 of 100  errors: safety is not shown yet
│   ├── errors   Undecided  harm 2.52 of 200  safe 0.239 of 20
│   │   errors 1.46% against 0.96% (odds ratio 1.5, 0.7 to 3.3)
│   └── latency  Safe       harm 0.0127 of 200
│       latency is safe
└── events
    ├──    31s ago  DriftCorrected (x3): kubectl changed the weights
    ├──    49s ago  NoHarmShown: step 2 of 3, 25% to candidate: no harm shown
    └──  2m10s ago  Started: run 3, step 1 of 3, 5% to candidate
"""

ROLLED_BACK = """\
ml/ranker  RolledBack  RolledBack (Harmful), the proxies are not there yet
├── stable     control     75%  ███████████████░░░░░  v1
├── candidate  candidate   25%  █████░░░░░░░░░░░░░░░  v2
└── run 3  RolledBack after 1m31s: harm is proven  (the proxies have not confirmed the weights yet)
    ├── ✔ step 1    5%  at least 1m
    ├── · step 2   25%  at least 1m
    └── · step 3   50%  at least 1m  then approval
"""


def drawn(view, width=140):
    out = io.StringIO()
    Console(file=out, width=width, highlight=False).print(render.tree(view, now=START + 130))
    return re.sub(r" +$", "", out.getvalue(), flags=re.MULTILINE)


def at_work(**run):
    obj = running(**run)
    obj["status"]["lastVerdict"] = VERDICT
    return obj


def test_the_tree_of_a_rollout_in_progress():
    assert drawn(rollout_view(at_work(), EVENTS)) == PROGRESSING


def test_the_tree_of_a_rollout_that_was_rolled_back():
    ended = {"outcome": "RolledBack", "applied": False, "message": "harm is proven"}
    obj = running(**ended, endedAt="2026-11-22T10:01:31Z")
    obj["status"] |= {"summary": "RolledBack (Harmful), the proxies are not there yet", "lastVerdict": {}}
    assert drawn(rollout_view(obj)) == ROLLED_BACK


def test_the_tree_of_a_rollout_that_was_never_looked_at():
    assert drawn(rollout_view(policy())) == (
        "ml/ranker  Pending  Waiting for the controller's first look\n"
        "├── stable                   –  ░░░░░░░░░░░░░░░░░░░░  v1\n"
        "└── candidate                –  ░░░░░░░░░░░░░░░░░░░░  v2\n"
    )


def test_the_table_of_rollouts():
    views = [rollout_view(at_work()), rollout_view(policy(name="idle"))]
    assert render.rollouts(views, wide=False, now=START + 130) == [
        "NAMESPACE  NAME    STATE        STEP  WEIGHTS  VERDICT    HARM         AGE",
        "ml         ranker  Progressing  2/3   75/25    Undecided  1.27 of 100  2m10s",
        "ml         idle    Pending      –     –/–      –          –            2m10s",
    ]
    wide = render.rollouts(views, wide=True, now=START + 130)
    assert wide[0].endswith("AGE    RUN                     SUMMARY")
    assert wide[1].endswith("ml.ranker.3.1795341600  Step 2/3, 25% to candidate: undecided")


def test_the_table_of_runs():
    ended = {
        "outcome": "Promoted",
        "reason": "Safe",
        "message": "all safe",
        "endedAt": "2026-11-22T10:02:00Z",
    }
    summaries = [run_summary(fake_run(finished=False, looks=2)), run_summary(fake_run(looks=2) | ended)]
    assert render.runs(summaries, wide=False, now=START + 3600) == [
        "RUN                     ROLLOUT    CANDIDATE  OUTCOME      REASON  STARTED  TOOK",
        "ml.ranker.3.1795341600  ml/ranker  candidate  In progress  –       1h ago   1h",
        "ml.ranker.3.1795341600  ml/ranker  candidate  Promoted     Safe    1h ago   2m",
    ]
    assert render.runs(summaries, wide=True, now=START + 3600)[2].endswith("2m    all safe")


def test_the_table_of_events():
    views = event_views(EVENTS[1:])
    assert render.events(views, wide=False, now=START + 130) == [
        "LAST     TYPE     REASON          ROLLOUT    MESSAGE",
        "31s ago  Warning  DriftCorrected  ml/ranker  kubectl changed the weights",
        "49s ago  Normal   NoHarmShown     ml/ranker  step 2 of 3, 25% to candidate: no harm shown",
    ]
    assert render.events(views, wide=True, now=START + 130)[1].startswith("3      31s ago  31s ago")


@given(st.text(), st.text(), st.text())
def test_nothing_that_others_wrote_steers_the_terminal(name, message, reason):
    obj = at_work(message=message, outcome="RolledBack")
    obj["metadata"]["name"] = name
    obj["spec"]["variants"][1]["name"] = reason
    obj["status"]["lastVerdict"] = {
        **VERDICT,
        "metrics": [{**VERDICT["metrics"][0], "sentence": message, "name": name}],
    }
    view = rollout_view(obj, [event(reason, message)])
    text = drawn(view) + "\n".join(
        render.rollouts([view], wide=True, now=START) + render.events(view.events, wide=True, now=START)
    )
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text)
