"""Conditions of a route: string matches and what http, tls and tcp matches have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from istio.lint import re2
from istio.lint.codes import problem
from istio.lint.headers import check_match_name
from istio.lint.shared import check_labels, check_port, check_subnet, domain_fault, is_dns_label
from policies.documents import child

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from policies.findings import Finding


def check_regex(text: str, path: str) -> Iterator[Finding]:
    """Check a regular expression: RE2 syntax, at most 1024 bytes."""
    if len(text.encode()) > 1024:
        yield problem(
            "PS133", path, "regex is too large", found=f"{len(text.encode())} bytes", allowed="1024"
        )
        return
    try:
        re2.check(text)
    except re2.RegexError as error:
        yield problem("PS133", path, f"not RE2 syntax: {error}", found=text)


def check_string(match: dict[str, str], path: str, *, empty_prefix: bool = False) -> Iterator[Finding]:
    """Check a string match; an empty prefix is only allowed for the URI."""
    if match.get("prefix") == "" and not empty_prefix:
        yield problem("PS132", child(path, "prefix"), "prefix string match should not be empty")
    if "regex" in match:
        where = child(path, "regex")
        if match["regex"]:
            yield from check_regex(match["regex"], where)
        else:
            yield problem("PS132", where, "regex string match should not be empty")


def check_http_match(match: dict[str, Any], path: str) -> Iterator[Finding]:
    """Check one entry of http[].match."""
    for name in ("headers", "withoutHeaders"):
        for header, condition in match.get(name, {}).items():
            spot = child(child(path, name), header)
            yield from check_match_name(header, spot)
            if not (name == "withoutHeaders" and condition.get("regex") == "*"):  # `*` there means: present
                yield from check_string(condition, spot)
    for name in ("uri", "scheme", "method", "authority"):
        yield from check_string(match.get(name, {}), child(path, name), empty_prefix=name == "uri")
    for name, condition in match.get("queryParams", {}).items():
        yield from check_string(condition, child(child(path, "queryParams"), name))
    namespace = match.get("sourceNamespace")
    if namespace and not is_dns_label(namespace):
        yield problem("PS136", child(path, "sourceNamespace"), "sourceNamespace is invalid", found=namespace)
    yield from _check_common(match, path)


def check_layer4_match(match: dict[str, Any], path: str) -> Iterator[Finding]:
    """Check what tcp[].match and tls[].match have in common."""
    for index, subnet in enumerate(match.get("destinationSubnets", ())):
        yield from check_subnet(subnet, child(child(path, "destinationSubnets"), index))
    yield from _check_common(match, path)


def _check_common(match: dict[str, Any], path: str) -> Iterator[Finding]:
    if match.get("port"):
        yield from check_port(match["port"], child(path, "port"))
    yield from check_labels(match.get("sourceLabels", {}), child(path, "sourceLabels"))
    yield from check_gateways(match.get("gateways", ()), child(path, "gateways"))


def check_gateways(names: Sequence[str], path: str) -> Iterator[Finding]:
    """Check names of gateways: `namespace/name`, `mesh`, or the legacy host format.

    Like istiod, looks no further than the first name without a namespace.
    """
    for index, name in enumerate(names):
        spot = child(path, index)
        namespace, slash, gateway = name.partition("/")
        if not slash:
            if "." in name:
                first, second = name.split(".")[:2]
                message = f'legacy gateway name; prefer the <namespace>/<name> format: "{second}/{first}"'
                yield problem("PS125", spot, message, found=name)
            if fault := domain_fault(name, wildcard=False):
                yield problem("PS124", spot, fault)
            return
        for part, word in ((namespace, "namespace"), (gateway, "gateway name")):
            if not is_dns_label(part):
                yield problem("PS124", spot, f'invalid value for {word}: "{part}"')
