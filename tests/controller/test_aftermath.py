"""What came after: the watch in report, page and terminal; and harms that hold among many runs."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from controller.api.discoveries import harms_that_hold
from controller.api.page import page
from controller.api.report import report
from controller.cli import render
from controller.cli.prose import prose
from controller.view import rollout_view
from tests.support.fake_backend import running
from tests.support.fake_run import START, fake_run

ALARM = {"at": START + 7200, "sentence": "errors: 4% of 1830 requests <since then>"}
WATCH = {
    "since": "2026-11-22T10:10:00.000000Z",
    "over": "",
    "lookedUntil": START + 7200,
    "bound": 259_200.0,
    "falseAlarmEvery": "720h",
    "tolerance": "50%",
    "leftOut": ["score: means are not watched"],
    "metrics": [
        {
            "name": "errors", "edge": None, "requests": 123_456, "events": 2000, "share": 0.0162,
            "rollout": 0.01, "limit": 0.0165, "evidence": 3e5, "bound": 259_200.0, "alarm": ALARM,
        },
        {
            "name": "latency", "edge": 250.0, "requests": 0, "events": 0, "share": None,
            "rollout": 0.05, "limit": 0.08, "evidence": 0.0, "bound": 259_200.0, "alarm": None,
        },
    ],
}  # fmt: skip


def watched(**changes: Any) -> dict[str, Any]:
    return fake_run() | {"watch": WATCH | changes}


def test_the_report_says_what_the_watch_found_and_how_often_it_is_wrong() -> None:
    found = report(watched()).watch
    assert found is not None
    assert [(row.name, row.alarm, row.alarm_at) for row in found.metrics] == [
        ("errors", ALARM["sentence"], ALARM["at"]), ("latency", None, None),
    ]  # fmt: skip
    assert "surge of errors" in found.sentence
    assert "once in 720h per metric on average" in found.sentence
    assert report(fake_run()).watch is None


def test_the_page_has_a_part_on_the_watch_where_there_was_one() -> None:
    html = page(report(watched()))
    for words in (
        "After the promotion",
        "2,000 of 123,456",
        "over 250",
        "&lt;since then&gt;",
        "means are not",
    ):
        assert words in html
    assert "After the promotion" not in page(report(fake_run()))


def test_the_text_report_has_it_too() -> None:
    text = prose(report(watched(over="candidate was watched for 24h: surges of errors")))
    assert "After the promotion: Watched until" in text
    assert "- errors: 4% of 1830 requests" in text
    assert "- candidate was watched for 24h" in text
    assert "After the promotion" not in prose(report(fake_run()))


def test_the_report_says_what_an_engine_lacks_before_it_says_anything_else() -> None:
    named = fake_run()
    named["ticks"][-1]["verdict"]["engine"] = {
        "name": "threshold",
        "lacks": ["No error rate."],
        "metrics": {},
    }
    first = report(named).assumptions[0]
    assert first.title == "Error rates are judged by threshold"
    assert first.text.endswith("No error rate.")


@pytest.mark.parametrize(
    ("watch", "words"),
    [
        ({"over": "", "surges": {}}, "watch  goes on"),
        ({"over": "candidate was watched for 24h", "surges": {}}, "watch  candidate was watched for 24h"),
        ({"over": "", "surges": {"errors": "errors: too many"}}, "errors: too many"),
    ],
)
def test_the_tree_shows_the_watch(watch: dict[str, Any], words: str) -> None:
    policy = running()
    policy["status"]["run"] |= {"outcome": "Promoted", "watch": watch}
    view = rollout_view(policy)
    assert view.run is not None
    assert view.run.watch is not None
    out = io.StringIO()
    Console(file=out, width=160).print(render.tree(view, now=START))
    assert words in out.getvalue()


def run(e: float | None) -> dict[str, Any]:
    return {"verdict": {} if e is None else {"e_rollback": e}}


@pytest.mark.parametrize(
    ("evidence", "expected"),
    [
        ([], []),
        ([None], [None]),
        ([25.0], [True]),
        ([25.0, 0.0], [False, False]),
        ([25.0, 25.0], [True, True]),
        ([45.0, 1.0, None], [True, False, None]),
        ([1e300] * 3 + [1.0] * 97, [True] * 3 + [False] * 97),
    ],
)
def test_a_harm_holds_when_it_stands_out_among_all_that_were_looked_through(
    evidence: list[float | None], expected: list[bool | None]
) -> None:
    """The k largest e-values hold when the k-th is at least m / (k 5 %)."""
    assert harms_that_hold([run(e) for e in evidence]) == expected
