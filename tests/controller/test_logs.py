import json
import logging

from controller.logs import LOOK, JsonLines, begin_look


def _record(**extra):
    record = logging.LogRecord("penstock", logging.WARNING, "", 0, "%s: %s", ("ml/ranker", "Drift"), None)
    record.__dict__.update(extra)
    return record


def test_a_line_says_its_look_and_its_policy():
    look = begin_look()
    line = json.loads(JsonLines().format(_record(policy="ml/ranker")))
    assert (line["look"], line["policy"]) == (look, "ml/ranker")
    assert (line["level"], line["message"]) == ("warning", "ml/ranker: Drift")


def test_every_look_has_an_id_of_its_own():
    assert begin_look() != begin_look()


def test_what_is_not_known_is_left_out():
    LOOK.set("")
    assert json.loads(JsonLines().format(_record())).keys() == {"time", "level", "logger", "message"}


def test_an_error_stays_on_one_line():
    try:
        raise ValueError("broken")
    except ValueError as error:
        record = _record(exc_info=(type(error), error, error.__traceback__))
    text = JsonLines().format(record)
    assert "\n" not in text
    assert "ValueError: broken" in json.loads(text)["error"]
