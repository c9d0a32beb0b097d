"""Queries that some Prometheus takes, and such that none takes, with the place of what is wrong."""

VALID = r"""
1
-1.5e-3 + 0x1F + .5 + Inf + NaN
1_000
up
:job:requests:rate5m
job:requests:rate5m{job="a"}[5m]
{__name__="up"}
{"http.requests", "service.name"="a"}
{"up"}
sum by ("service.name", le,) ({"http.duration"})
up{}
up{job="a",}
up{job=~"5\\d\\d|4..", instance!~`\d+\.\d+`, zone!=''}
up{a="\"quoted\"", b='it\'s', c="\x41\u00e9\U0001F600\101", d="tab\tnew\n"}
up{a="{[(", b=')]}', c=`"'`, d="#no comment"}
up # a comment with ( and "
sum(up) # at the end
up{ # inside of braces )
up offset 5m
up offset -1h30m
up @ 1609746000
up @ start()
rate(up[5m] @ end() offset 1h)
rate(up[5m:1m])
max_over_time(rate(up[5m])[1h:])
max_over_time(deriv(rate(a[1m])[5m:1m])[10m:])
rate(up[step()])
rate(up[max(step(), 5s) + 1m:step()])
up offset (5m + 1m)
SUM BY (a) (up)
Sum(up) WITHOUT (a, b)
sum without () (up)
sum(up) by (offset, by, group, on)
topk(3, up)
count_values("version", build)
quantile(0.9, up)
limit_ratio(0.1, up)
a / on(x, y) group_left(z) b
a * ignoring(x) group_right b
a and on() b or c unless d
a > bool 1
a == bool (b)
a atan2 b
-(up ^ 2 % 3)
(a) or (b)
histogram_quantile(0.99, sum by (le) (rate(request_seconds_bucket[5m])))
histogram_fraction(0, 0.2, rate(request_seconds[5m]))
histogram_quantiles(rate(request_seconds[5m]), "q", 0.5, 0.9)
label_replace(up, "a", "$1", "b", "(.*)")
label_join(up, "a", ",", "b", "c")
info(up, {__name__="target_info"})
info(up, {})
absent(nonexistent{job="a"})
sum_over_time(up[5m])
time() - timestamp(up)
vector(1)
double_exponential_smoothing(up[5m], 0.5, 0.5)
holt_winters(up[5m], 0.5, 0.5)
sort_by_label(up, "a")
by + sum
start + end
rate (up [5m])
up{job="über"}
"""
LINES = [line for line in VALID.splitlines() if line and line != "up{ # inside of braces )"]
INVALID = [
    ("sum(up", 1, 4, "( is never closed"),
    ("up)", 1, 3, ") closes nothing"),
    ("sum(up]", 1, 7, "] closes nothing"),
    ("rate(up[5m)", 1, 11, ") closes nothing"),
    ("up[5m[1m]]", 1, 6, "[ cannot stand between [ and its end"),
    ('up{a="b"{c="d"}}', 1, 9, "{ cannot stand"),
    ('up{a="b}', 1, 6, 'begins with " here has no end'),
    ("up{a=`b}", 1, 6, "has no end"),
    ('up{a="b\n"}', 1, 6, "has no end"),
    (r'up{a=~"5\d\d"}', 1, 9, r"\d is no escape"),
    (r'up{a="\'"}', 1, 7, r"\' is no escape"),
    (r'up{a="\x4"}', 1, 7, r"\x is no escape"),
    ("rate(up[$__rate_interval])", 1, 9, "unexpected character '$'"),
    ("up & down", 1, 4, "unexpected character '&'"),
    ("up;", 1, 3, "unexpected character ';'"),
    ("sum(up)\u00a0", 1, 8, "unexpected character"),
    ("sm(up)", 1, 1, "no function sm; sum is one"),
    ("RATE(up[5m])", 1, 1, "no function RATE"),
    ("# first\nsum by (a)\n  (rat(up[5m]))", 3, 4, "no function rat; rate is one"),
    ("sum by (a b) (up)", 1, 11, "a comma or ) must stand here, not b"),
    ("sum by (a,,b) (up)", 1, 11, "a label must stand here, not ,"),
    ("sum by (5xx) (up)", 1, 9, "a label must stand here, not 5xx"),
    ("sum by (a:b) (up)", 1, 9, "a label must stand here, not a:b"),
    ('sum by (a="b") (up)', 1, 10, "a comma or ) must stand here, not ="),
    ("a / on(b c) d", 1, 10, "a comma or ) must stand here, not c"),
    ("sum by a (up)", 1, 5, "by must be followed by labels"),
    ("sum(up) without a", 1, 9, "without must be followed by labels"),
    ("{}", 1, 1, "{} would select every series"),
    ("sum by (a) ({ # none\n})", 1, 13, "{} would select every series"),
]

EXPERIMENTAL = (
    "double_exponential_smoothing", "histogram_quantiles", "holt_winters", "info(", "limit_ratio",
    "sort_by_label", "step()", "offset (", "start + end", "1_000", '{"', 'by ("',
)  # fmt: skip
"""Parts of queries that not every Prometheus takes: by its version, or only with a flag."""
