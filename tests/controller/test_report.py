import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.api.markup import Markup, tag
from controller.api.page import page
from controller.api.plots import LABEL_GAP, _apart
from controller.api.report import MAX_POINTS, _thinned, report
from controller.api.scales import Linear, Log, Time
from controller.cli.prose import prose
from tests.support.fake_run import START, fake_run

HOSTILE = "<script>alert('x')</script>\"&'"
VOID = {"meta"}


class Strict(HTMLParser):
    """Collects tags and text, and fails on an end tag that does not match."""

    def __init__(self, html):
        super().__init__()
        self.open, self.seen, self.attributes, self.text = [], [], [], ""
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        self.text += "\n"

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def bad():
    return report(fake_run(harmful=True))


@pytest.fixture(scope="module")
def good():
    return report(fake_run(looks=90))


def test_the_headline_of_a_rollback_says_what_when_and_why_with_numbers(bad):
    assert bad.tone == "bad"
    assert re.fullmatch(
        r"Rolled back candidate after 1m\d+s: errors: 2\.\d+% against 0\.\d+% \(odds ratio \d\.\d\): harm .*",
        bad.headline,
    )


def test_the_headline_of_a_promotion_says_so(good):
    assert (good.outcome, good.tone) == ("Promoted", "good")
    assert good.headline.startswith("Promoted candidate after 15m1s: Every metric")


def test_a_run_that_goes_on_says_how_far_it_is():
    going = report(fake_run(finished=False, looks=12))
    assert going.headline.startswith("In progress for 2m1s with 25% of the requests for candidate: neither")
    assert (going.ended_at, going.tone) == (None, "neutral")


def test_metrics_carry_margin_counts_and_bounds(good):
    errors, latency = good.metrics
    assert (errors.kind, errors.margin, errors.margin_odds_ratio) == ("proportion", "25%", 1.25)
    assert (latency.kind, latency.margin, latency.margin_odds_ratio) == ("histogram", "10%", None)
    assert errors.control_total > errors.control_events > 0


def test_every_look_is_a_point_and_every_interval_a_share(good):
    assert len(good.looks) == len(good.series["errors"]) == len(good.shares) == 90
    assert good.shares[-1].intended == 0.5
    assert good.shares[-1].requests == 1500
    assert good.requests == 90 * 1500


def test_without_share_rows_the_intended_share_is_that_of_the_look_that_consumed_the_interval():
    run = fake_run(looks=12, finished=False)
    run["intervals"] = [row for row in run["intervals"] if row["metric"] == "errors"]
    shares = report(run).shares
    assert [share.intended for share in shares] == [0.05] * 8 + [0.25] * 4
    assert [share.end for share in shares] == [START + 10 * n for n in range(1, 13)]


def test_assumptions_name_the_rates_the_margins_and_the_dispersion(good):
    text = " ".join(item.text for item in good.assumptions)
    for words in (
        "at most 1%",
        "at most 5%",
        "errors (25%), latency (10%)",
        "looked 90 times",
        "dispersion 1",
    ):
        assert words in text


def test_a_dispersion_of_ones_own_is_told():
    run = fake_run(looks=2, finished=False)
    metrics = run["policy"]["spec"]["metrics"]
    run["policy"] = {
        **run["policy"],
        "spec": {**run["policy"]["spec"], "metrics": [{**metrics[0], "dispersion": "2.5"}]},
    }
    text = " ".join(item.text for item in report(run).assumptions)
    assert "divided by their size (errors: 2.5)" in text


def test_a_run_of_which_nothing_is_known_yet_is_a_report_too():
    empty = report({"id": "ml.x.1.2", "policy": "ml/x"})
    assert (empty.policy, empty.outcome, empty.metrics, empty.looks) == ("ml/x", "In progress", (), ())
    assert "nothing is known yet" in page(empty)
    assert "nothing is known yet" in prose(empty)


@pytest.mark.parametrize(
    "run", [{}, {"ticks": [{"at": 5.0, "verdict": {}, "weights": {}}]}, {"decisions": [{}]}]
)
def test_incomplete_runs_do_not_break_the_page(run):
    Strict(page(report(run)))


def test_the_page_is_well_formed_and_holds_the_decision_and_all_plots(bad, good):
    for made in (bad, good):
        parsed = Strict(page(made))
        assert made.headline in parsed.text
        assert parsed.seen.count("svg") == parsed.seen.count("figure") == 6
        for words in (
            "Weights",
            "Evidence of harm",
            "Evidence of safety",
            "Share of the requests",
            "Effect on errors",
        ):
            assert words in parsed.text
        assert made.policy_yaml in parsed.text


def test_the_page_refers_to_nothing_outside_and_runs_nothing(good):
    parsed = Strict(page(good))
    assert "script" not in parsed.seen
    assert "link" not in parsed.seen
    assert not {"src", "href", "style", "xlink:href"} & {name for name, _ in parsed.attributes}
    assert not [name for name, _ in parsed.attributes if name.startswith("on")]
    assert not re.search(r"https?://|url\(|@import", page(good))


def test_hostile_names_and_messages_are_text(good):
    run = fake_run(harmful=True)
    run |= {"message": HOSTILE, "control": HOSTILE, "candidate": HOSTILE, "id": HOSTILE}
    for tick in run["ticks"]:
        for metric in tick["verdict"]["metrics"]:
            metric["name"] = metric["sentence"] = metric["kind"] = HOSTILE
        tick["weights"] = {HOSTILE: 25}
    for decision in run["decisions"]:
        decision |= {"message": HOSTILE, "reason": HOSTILE, "weights": {HOSTILE: 25}}
    html = page(report(run))
    parsed = Strict(html)
    assert "script" not in parsed.seen
    assert "<script" not in html
    assert HOSTILE in parsed.text


def test_no_number_on_the_page_has_fifteen_digits(bad, good):
    for made in (bad, good):
        assert not re.search(r"\d\.\d{6}", Strict(page(made)).text.replace(made.run, ""))


def test_the_text_report_has_the_same_decision_and_no_control_characters(bad):
    text = prose(bad)
    assert " ".join(text.split()).startswith(bad.headline)
    assert max(len(line) for line in text.splitlines()) <= 120
    hostile = prose(report(fake_run(harmful=True) | {"message": "\x1b[2Jgone\x07"}))
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", hostile)


@given(st.text(), st.text())
def test_markup_escapes_text_and_attributes(text, value):
    parsed = Strict(tag("p", text, title=value).replace("\r", " "))
    assert parsed.seen == ["p"]
    assert [name for name, _ in parsed.attributes] == ["title"]


def test_markup_is_not_escaped_twice_and_none_is_nothing():
    assert tag("p", tag("b", "<"), None, x=None, class_="a", y=1.50) == '<p class="a" y="1.5"><b>&lt;</b></p>'
    assert isinstance(tag("p"), Markup)


@given(
    st.sampled_from(
        [Linear(0, 100), Linear(0, 0.7), Log(0.01, 100), Log(1e-3, 1e6), Log(0.4, 3), Time(91), Time(1e6)]
    ),
    st.floats(allow_nan=False),
)
def test_every_value_has_a_place_in_the_plot_and_ticks_lie_inside(scale, value):
    assert 0 <= scale.at(value) <= 1
    ticks = scale.ticks()
    assert 2 <= len(ticks) <= 12
    assert [scale.at(at) for at, _ in ticks] == sorted(scale.at(at) for at, _ in ticks)


@given(st.lists(st.floats(0, 212), max_size=12))
def test_labels_keep_their_order_and_their_distance(places):
    placed = _apart(sorted(places))
    assert all(b - a >= LABEL_GAP - 1e-6 for a, b in pairwise(placed))


@given(st.integers(0, 5000))
def test_long_runs_are_thinned_and_keep_their_last_look(count):
    kept = _thinned(list(range(count)))
    assert len(kept) <= MAX_POINTS
    assert list(kept[-1:]) == list(range(count))[-1:]
