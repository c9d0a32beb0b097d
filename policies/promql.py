"""PromQL as far as it can be judged without a parser: what no Prometheus would take. Pure.

What is told is certainly wrong: characters and strings that cannot be read, brackets that do not match,
functions that do not exist, groups that are no list of labels, selectors that select everything. What else
may be wrong only a Prometheus can say (`penstock lint --prometheus`).
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import TYPE_CHECKING, NamedTuple

from policies.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from policies.documents import Loaded
    from policies.model import MetricTemplate


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


AGGREGATORS = _words(
    "avg bottomk count count_values group limit_ratio limitk max min quantile stddev stdvar sum topk"
)
_KEYWORDS = _words(
    "and anchored atan2 bool by end fill fill_left fill_right group_left group_right ignoring offset on or "
    "range smoothed start step unless without"
)
"""They too may stand before a parenthesis, in whatever case."""
_OVER_TIME = _words(
    "absent avg count first last mad max min present quantile stddev stdvar sum ts_of_first ts_of_last "
    "ts_of_max ts_of_min"
)
FUNCTIONS = {f"{what}_over_time" for what in _OVER_TIME} | _words(
    """
    abs absent acos acosh asin asinh atan atanh ceil changes clamp clamp_max clamp_min cos cosh
    day_of_month day_of_week day_of_year days_in_month deg delta deriv double_exponential_smoothing exp
    floor histogram_avg histogram_count histogram_fraction histogram_quantile histogram_quantiles
    histogram_stddev histogram_stdvar histogram_sum holt_winters hour idelta increase info integral irate
    label_join label_replace ln log10 log2 minute month pi predict_linear rad rate resets round scalar sgn
    sin sinh sort sort_by_label sort_by_label_desc sort_desc sqrt tan tanh time timestamp vector xdelta
    xincrease xrate year
    """
)
"""Those of Prometheus 2 and 3, experimental ones too, and Thanos' own."""
GROUPS = frozenset({"by", "without", "on", "ignoring"})
CLOSES = {"(": ")", "[": "]", "{": "}"}
_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n]+|\#[^\r\n]*)
      | (?P<string>`[^`]*`|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
      | (?P<number>\.?[0-9][0-9A-Za-z_.]*)
      | (?P<word>[A-Za-z_][A-Za-z0-9_:]*)
      | (?P<sign>=~|!~|[=!<>]=|[-+*/%^=<>,@:])
      | (?P<open>[(\[{])
      | (?P<close>[)\]}])""",
    re.VERBOSE,
)
_ESCAPE = re.compile(
    r"\\(?:[abfnrtv\\]|(?P<quote>[\"'])|[0-7]{3}|x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|(?P<bad>.))"
)


class Token(NamedTuple):
    """A part of a query that means something."""

    kind: str
    text: str
    at: int


class _ProblemError(Exception):
    def __init__(self, at: int, words: str) -> None:
        super().__init__(words)
        self.at = at


NOTHING = Token("end", "", -1)


def problem(query: str) -> str:
    """Return the first thing that is wrong with a query, with its place; empty when nothing is found."""
    try:
        tokens = list(_tokens(query))
        _match(tokens)
        for at in range(len(tokens)):
            _check(tokens, at)
    except _ProblemError as error:
        before = query[: error.at]
        line, column = before.count("\n") + 1, error.at - (before.rfind("\n") + 1) + 1
        return f"line {line}, column {column} of the query: {error}"
    return ""


def check_queries(templates: Sequence[Loaded[MetricTemplate]]) -> Iterator[Finding]:
    """Yield what is wrong with the queries of templates, with places."""
    for loaded in templates:
        if words := problem(loaded.value.spec.query):
            yield unreadable(loaded, words)


def unreadable(loaded: Loaded[MetricTemplate], words: str) -> Finding:
    """Return the finding that a template's query cannot be parsed, for which `words` say why."""
    document, path = loaded.document, "spec.query"
    message = f"the query is no PromQL: {words}"
    return Finding("PS059", "error", message, path, document.name, source=document.place(path))


def _tokens(query: str) -> Iterator[Token]:
    at = 0
    while at < len(query):
        found = _TOKEN.match(query, at)
        if found is None:
            raise _ProblemError(at, _unread(query[at]))
        if found.lastgroup == "string" and not found[0].startswith("`"):
            _check_escapes(found[0], at)
        if found.lastgroup and found.lastgroup != "space":
            yield Token(found.lastgroup, found[0], at)
        at = found.end()


def _unread(character: str) -> str:
    if character in "\"'`":
        return f"the string that begins with {character} here has no end"
    return f"unexpected character {character!r}"


def _check_escapes(string: str, at: int) -> None:
    """See that a backslash that is none of PromQL's escapes, such as a regular expression's, stands twice."""
    for escape in _ESCAPE.finditer(string, 1, len(string) - 1):
        if escape["bad"] or escape["quote"] not in {None, string[0]}:
            raise _ProblemError(at + escape.start(), f"{escape[0]} is no escape; a backslash itself is \\\\")


def _match(tokens: Sequence[Token]) -> None:
    """See that every bracket is closed by its own kind."""
    opened: list[Token] = []
    for token in tokens:
        inside = opened[-1].text if opened else ""
        if token.kind == "open":
            if inside == "{" or (inside == "[" and token.text != "("):
                raise _ProblemError(token.at, f"{token.text} cannot stand between {inside} and its end")
            opened.append(token)
        elif token.kind == "close":
            if CLOSES.get(inside) != token.text:
                raise _ProblemError(token.at, f"{token.text} closes nothing that is open here")
            opened.pop()
    if opened:
        raise _ProblemError(opened[-1].at, f"{opened[-1].text} is never closed")


def _check(tokens: Sequence[Token], at: int) -> None:
    """Check a token with its neighbours."""
    token = tokens[at]
    before = tokens[at - 1] if at else NOTHING
    after = tokens[at + 1] if at + 1 < len(tokens) else NOTHING
    if token.text == "{" and after.text == "}" and before.kind != "word":
        # the second argument of info() chooses labels, not series
        if not any(each.text == "info" for each in tokens):
            raise _ProblemError(token.at, "{} would select every series there is: name one, or a label")
    elif token.kind == "word" and after.text == "(":
        _check_call(token)
        if token.text.lower() in GROUPS:
            _check_labels(tokens, at + 2)
    elif token.text.lower() in {"by", "without"} and (
        before.text == ")" or before.text.lower() in AGGREGATORS
    ):
        raise _ProblemError(token.at, f"{token.text} must be followed by labels in parentheses")


def _check_call(token: Token) -> None:
    if token.text.lower() in AGGREGATORS | _KEYWORDS or token.text in FUNCTIONS:
        return
    meant = get_close_matches(token.text, sorted(FUNCTIONS | AGGREGATORS), n=1)
    hint = f"; {meant[0]} is one" if meant else ""
    raise _ProblemError(token.at, f"Prometheus has no function {token.text}{hint}")


def _check_labels(tokens: Sequence[Token], at: int) -> None:
    """See that what begins at a token is a list of labels: names or strings with commas between."""
    wants_label = True
    for token in tokens[at:]:
        if token.text == ")":
            return
        is_label = token.kind == "string" or (token.kind == "word" and ":" not in token.text)
        if is_label != wants_label or not (is_label or token.text == ","):
            expected = "a label" if wants_label else "a comma or )"
            raise _ProblemError(token.at, f"{expected} must stand here, not {token.text}")
        wants_label = not wants_label
