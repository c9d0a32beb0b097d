"""To which names the API answers, so that a page of elsewhere cannot read it by a name of its own. Pure.

A browser that was told that a stranger's name means 127.0.0.1 sends that name as `Host`, and lets the
stranger's page read the answer (DNS rebinding): so an API that is bound to loopback answers to names only
that no stranger can own. An address cannot be rebound, so addresses are always answered. Bound to anything
else, an API does not know its names: all are answered until some are given.
"""

from __future__ import annotations

import re
import socket
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

LOOPBACK = ("localhost", "*.localhost")
OTHER_LOOPBACK = ("ip6-localhost", "ip6-loopback")
"""What some systems call ::1."""
IN_CLUSTER = ("*.svc", "*.svc.cluster.local")
"""Names of Services, which nobody outside of a cluster can own."""
_LABEL = r"[a-z0-9_]([-a-z0-9_]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"(\*\.)?{_LABEL}(\.{_LABEL})*")
_PORT = re.compile(r":\d*$")


class Hosts:
    """The names that an API answers to, bound to an address; ValueError for what is no name."""

    def __init__(self, bound: str = "", names: Sequence[str] = ()) -> None:
        """Answer to `names` (also `*.example.com`) beside those that are safe anyway."""
        given = tuple(_comparable(name) for name in names)
        for name in given:
            if not (_is_address(name) or _NAME.fullmatch(name)):
                raise ValueError(f"{name} is no name of a host, such as penstock.example.com")
        self._anything = not given and not _is_loopback(_comparable(bound))
        self._names = (*given, *LOOPBACK, *IN_CLUSTER, _comparable(bound))

    def answers(self, host: str) -> bool:
        """Tell whether a request with this `Host` is answered."""
        name = _comparable(_PORT.sub("", host))
        return self._anything or _is_address(name) or any(_fits(name, each) for each in self._names)


def _comparable(name: str) -> str:
    return name.strip().lower().strip("[]").removesuffix(".")


def _fits(name: str, pattern: str) -> bool:
    return bool(name) and (name.endswith(pattern[1:]) if pattern.startswith("*.") else name == pattern)


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _is_loopback(bound: str) -> bool:
    """Tell whether that is this machine only, however it is written: 127.1 is 127.0.0.1 to a socket."""
    if any(_fits(bound, each) for each in (*LOOPBACK, *OTHER_LOOPBACK)):
        return True
    try:
        address = ip_address(bound if ":" in bound else socket.inet_aton(bound))
    except (ValueError, OSError):
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback
