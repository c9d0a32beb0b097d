"""istiod's rules for the load balancer of a DestinationRule: consistent hash, localities and warm-up."""

from __future__ import annotations

from math import isqrt
from typing import TYPE_CHECKING, Any, Final

from istio.lint.codes import problem
from policies.documents import child

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from policies.findings import Finding

_MAGLEV_LIMIT: Final = 5_000_011
_TOPOLOGY: Final = frozenset(
    {"topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone"}
)


def check_balancer(balancer: dict[str, Any], path: str, *, has_outlier: bool) -> Iterator[Finding]:
    """Check a load balancer; failover works only with outlier detection beside it (`has_outlier`)."""
    if "consistentHash" in balancer:
        yield from _check_hash(balancer["consistentHash"], child(path, "consistentHash"))
    if "localityLbSetting" in balancer:
        spot = child(path, "localityLbSetting")
        yield from _check_locality(balancer["localityLbSetting"], spot, has_outlier=has_outlier)
    aggression = balancer.get("warmup", {}).get("aggression")
    if aggression is not None and aggression < 1:
        yield problem("PS229", f"{path}.warmup.aggression", "must be at least 1", found=aggression)


def _check_hash(settings: dict[str, Any], path: str) -> Iterator[Finding]:
    cookie = settings.get("httpCookie", {})
    if cookie.get("name") == "":
        yield problem("PS226", f"{path}.httpCookie.name", "name required for HttpCookie")
    names: set[str] = set()
    for index, attribute in enumerate(cookie.get("attributes", ())):
        spot, name = child(f"{path}.httpCookie.attributes", index), attribute.get("name")
        if name == "":
            yield problem("PS226", spot, "cookie attribute name cannot be empty")
        elif name in names:
            yield problem("PS226", spot, f"duplicate cookie attribute name: {name}")
        names.add(name)
    if settings.get("minimumRingSize"):
        spot = child(path, "minimumRingSize")
        yield problem("PS224", spot, "deprecated, use ringHash.minimumRingSize instead")
        if "ringHash" in settings or "maglev" in settings:
            yield problem("PS226", spot, "only one of minimumRingSize and maglev or ringHash may be set")
    if "maglev" in settings:
        yield from _check_maglev(settings["maglev"].get("tableSize", 0), f"{path}.maglev.tableSize")


def _check_maglev(size: int, path: str) -> Iterator[Finding]:
    if size >= _MAGLEV_LIMIT:
        yield problem("PS226", path, f"tableSize must be less than {_MAGLEV_LIMIT}", found=size)
    elif not _is_prime(int(size)):
        yield problem("PS226", path, "tableSize must be a prime number", found=size)


def _is_prime(number: int) -> bool:
    """Tell whether a number is a prime, 1 included as in Envoy."""
    if number < 4:
        return number > 0
    return number % 2 == 1 and all(number % factor for factor in range(3, isqrt(number) + 1, 2))


def _check_locality(setting: dict[str, Any], path: str, *, has_outlier: bool) -> Iterator[Finding]:
    distribute, failover = setting.get("distribute", []), setting.get("failover", [])
    priority = setting.get("failoverPriority", [])
    if distribute and failover:
        yield problem("PS227", path, "distribute and failover exclude each other")
    if failover and (topology := sorted(_TOPOLOGY.intersection(priority))):
        yield problem("PS227", child(path, "failoverPriority"), f"failover excludes the label {topology[0]}")
    yield from _check_distribute(distribute, child(path, "distribute"))
    if (failover or priority) and not has_outlier:
        yield problem("PS228", path, "outlier detection policy must be provided for failover")
    for index, pair in enumerate(failover):
        spot, ends = child(child(path, "failover"), index), (pair.get("from", ""), pair.get("to", ""))
        if ends[0] == ends[1]:
            yield problem("PS227", spot, "failover must name two different regions", found=ends[0])
        if any("/" in end or "*" in end for end in ends):
            yield problem(
                "PS227", spot, "failover takes regions only, without / and *", found=" to ".join(ends)
            )


def _check_distribute(rules: list[dict[str, Any]], path: str) -> Iterator[Finding]:
    for index, rule in enumerate(rules):
        spot, shares = child(child(path, index), "to"), rule.get("to", {})
        if not all(1 <= share <= 100 for share in shares.values()):
            yield problem("PS227", spot, "locality weight must be in range 1..100")
        elif sum(shares.values()) != 100:
            yield problem("PS227", spot, "total locality weight must be 100", found=sum(shares.values()))
        yield from _check_areas(shares, spot)
    yield from _check_areas([rule.get("from", "") for rule in rules], path)


def _check_areas(localities: Iterable[str], path: str) -> Iterator[Finding]:
    """Check that localities (`region/zone/subzone`, `*` at the end) are well-formed and do not overlap."""
    taken: list[list[str]] = []
    for locality in localities:
        area = locality.split("/", 2)
        if "*" in locality[:-1]:
            yield problem("PS227", path, "wildcard * may only stand at the end", found=locality)
        elif not all(area):
            yield problem("PS227", path, "must not contain empty region/zone/subzone info", found=locality)
        elif any(_covers(earlier, area) for earlier in taken):
            yield problem("PS227", path, "locality overlaps with previous ones", found=locality)
        taken.append([*area, "*", "*"][:3])


def _covers(earlier: list[str], area: list[str]) -> bool:
    for have, want in zip(earlier, area, strict=False):
        if have == "*":
            return True
        if have != want:
            return False
    return True
