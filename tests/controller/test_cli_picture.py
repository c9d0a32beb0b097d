"""The picture stands by itself: well-formed, escaped, a row per effect and marks where the numbers are."""

import xml.etree.ElementTree as ET

import pytest

from controller.cli.picture import picture
from controller.endings import Ending, Result

SVG = "{http://www.w3.org/2000/svg}"


def drawn(*results, title="ml/ranker"):
    return ET.fromstring(picture(title, results))


def result(effect, promoted=0, back=0, held=0):
    return Result(
        effect,
        (Ending("promoted", "Safe", 480.0),) * promoted
        + (Ending("rolledBack", "Harmful", 120.0),) * back
        + (Ending("held", "ProvingSafety", None),) * held,
    )


def test_every_effect_has_a_row_with_its_shares_and_times():
    root = drawn(result(1.0, promoted=90, held=10), result(2.0, back=100))
    words = [node.text for node in root.iter(f"{SVG}text")]
    assert {"identical", "x2"} <= set(words)
    dots = [(float(node.get("cx")), node.get("class")) for node in root.iter(f"{SVG}circle")]
    assert [kind for _, kind in dots] == ["promoted", "rolledBack", "held"] * 2
    left, right = dots[1][0], dots[4][0]  # 0 % and 100 %
    assert dots[0][0] == pytest.approx(left + 0.9 * (right - left), abs=0.1)
    medians = {node.get("class"): float(node.get("x")) for node in root.iter(f"{SVG}rect")}
    assert set(medians) == {"promoted", "rolledBack"}
    assert medians["rolledBack"] < medians["promoted"]


def test_nothing_decided_is_a_picture_too():
    root = drawn(result(1.0, held=5))
    assert not list(root.iter(f"{SVG}rect"))


def test_names_of_others_are_escaped():
    assert drawn(result(1.0, promoted=2), title="<script>&").find(f"{SVG}title").text == "<script>&"
