"""Rules that the kinds share: host names, labels, ports, exportTo and addresses, as istiod judges them.

Unlike DNS, istiod takes upper case letters in labels.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Any, Final

from istio.lint.codes import problem
from policies.documents import child

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from policies.findings import Finding

_LABEL: Final = r"[a-zA-Z0-9](?:[-a-zA-Z0-9]*[a-zA-Z0-9])?"
_DNS_LABEL: Final = re.compile(_LABEL)
_WILDCARD_LABEL: Final = re.compile(rf"\*|(?:\*-?)?{_LABEL}")
_QUALIFIED: Final = r"(?:[A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_LABEL_KEY: Final = re.compile(rf"(?:({_LABEL}(?:\.{_LABEL})*)/)?({_QUALIFIED})")
_LABEL_VALUE: Final = re.compile(rf"(?:{_QUALIFIED})?")
_NUMERIC: Final = re.compile(r"[-+]?[0-9]+")


def is_dns_label(text: str) -> bool:
    """Tell whether `text` is one DNS label of at most 63 characters."""
    return len(text) <= 63 and _DNS_LABEL.fullmatch(text) is not None


def is_address(text: str) -> bool:
    """Tell whether `text` is an IP address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def domain_fault(name: str, *, wildcard: bool) -> str | None:
    """Say what is wrong with a domain name, which may begin with a wildcard label if `wildcard`."""
    if not name:
        return "empty domain name not allowed"
    if len(name.encode()) > 255:
        return "domain name too long (max 255)"
    labels = name.split(".")
    if wildcard:
        first = labels.pop(0)
        if len(first) > 63 or not _WILDCARD_LABEL.fullmatch(first):
            return f'domain name "{name}" invalid (label "{first}" invalid)'
    return _labels_fault(name, labels)


def _labels_fault(name: str, labels: list[str]) -> str | None:
    if labels and _NUMERIC.fullmatch(labels[-1]):
        return f'domain name "{name}" invalid (top level domain "{labels[-1]}" cannot be all-numeric)'
    if labels and labels[-1] == "":  # the dot that ends an unambiguous name such as `istio.io.`
        labels = labels[:-1]
    bad = next((label for label in labels if not is_dns_label(label)), None)
    return None if bad is None else f'domain name "{name}" invalid (label "{bad}" invalid)'


def covers(wide: str, narrow: str) -> bool:
    """Tell whether every name of host `narrow` is one of host `wide`; either may begin with a wildcard."""
    if not wide.startswith("*"):
        return wide == narrow
    if narrow.startswith("*"):
        return len(narrow) >= len(wide) and narrow.endswith(wide[1:])
    return narrow.endswith(wide[1:])


def clashes(hosts: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yield the indices of each host that another one equals or covers, and of that other one."""
    first: dict[str, int] = {}
    for index, host in enumerate(hosts):
        other = first.setdefault(host, index)
        if other != index:
            yield index, other
    wild = {host[1:]: index for host, index in first.items() if host.startswith("*")}
    for host, index in first.items():
        text = host.removeprefix("*")
        wider = (wild.get(text[start:], index) for start in range(len(text) + 1))
        other = next((each for each in wider if each != index), index)
        if other != index:
            yield index, other


def check_port(number: Any, path: str) -> Iterator[Finding]:
    """Check that a port is one that a socket can have."""
    if not 1 <= number <= 65535:
        yield problem("PSx11", path, "port number must be in the range 1..65535", found=number)


def check_labels(labels: Mapping[str, str], path: str) -> Iterator[Finding]:
    """Check keys and values of labels by Kubernetes' syntax."""
    for key, value in labels.items():
        match = _LABEL_KEY.fullmatch(key)
        if match is None or len(match[2]) > 63 or len(match[1] or "") > 253:
            yield problem("PSx08", child(path, key), f'invalid tag key: "{key}"')
        if not _LABEL_VALUE.fullmatch(value):
            yield problem("PSx08", child(path, key), f'invalid tag value: "{value}"')


def check_selector(labels: Mapping[str, str], path: str) -> Iterator[Finding]:
    """Check the labels of a workload selector; an empty selector selects the whole namespace."""
    for key, value in labels.items():
        if not key:
            yield problem("PSx08", path, "empty key is not supported in selector")
        if "*" in key or "*" in value:
            yield problem(
                "PSx08", child(path, key), f'wildcard is not supported in selector: "{key}={value}"'
            )
    if not labels:
        yield problem("PSx15", path, "workload selector specified without labels")


def check_subset_name(name: str, path: str) -> Iterator[Finding]:
    """Check a subset's name: one DNS label."""
    if not is_dns_label(name):
        yield problem(
            "PSx13", path, f"subset name is invalid: {name}", allowed="letters, digits and -, up to 63"
        )


def check_subnet(text: str, path: str) -> Iterator[Finding]:
    """Check an IP address or a CIDR block."""
    try:
        if text.count("/") != 1:
            ipaddress.ip_address(text)
        elif not re.fullmatch(r"[^/]+/(0|[1-9][0-9]*)", text):  # Python also takes netmasks
            raise ValueError
        else:
            ipaddress.ip_network(text, strict=False)
    except ValueError:
        yield problem("PSx14", path, "not a valid IP address or CIDR block", found=text)


def check_export_to(
    entries: Sequence[str], namespace: str, path: str, *, service_entry: bool = False, selector: bool = False
) -> Iterator[Finding]:
    """Check to whom an object is exported: `.`, `*`, a namespace, or `~` (nobody, ServiceEntry only)."""
    seen: set[str] = set()
    for index, entry in enumerate(entries):
        key = namespace if entry == "." else entry
        if key in seen:
            yield problem("PSx09", child(path, index), "duplicate entries in exportTo", found=entry)
        elif entry == "~" and not service_entry:
            yield problem("PSx09", child(path, index), "exportTo ~ (none) is only allowed for ServiceEntry")
        elif entry not in {"~", "*"} and not is_dns_label(key):
            yield problem(
                "PSx09",
                child(path, index),
                "invalid exportTo entry",
                found=entry,
                allowed="., * or a namespace",
            )
        else:
            seen.add(key)
    if selector and seen and seen != {namespace}:
        yield problem("PSx09", path, "with a workload selector, exportTo may only name the own namespace")
    for alone in ("*", "~"):
        if alone in seen and len(entries) > 1:
            yield problem("PSx09", path, f"exportTo {alone} excludes every other entry")
