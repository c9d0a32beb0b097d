"""An open-loop load generator: requests leave at the times of a Poisson process, whatever became of others.

    python -m demo.load --url http://127.0.0.1:8080/v1/models/m:predict --host good --host errors --rate 150

A closed loop would send less to a slow version and so hide its slowness. Bounded: --seconds in time,
MAX_IN_FLIGHT in number, loopback in reach.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
from collections import Counter
from ipaddress import ip_address
from urllib.parse import urlsplit

import aiohttp

MAX_IN_FLIGHT = 2000
BODY = json.dumps({"instances": [[0.1, 0.2, 0.3, 0.4]]})


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line; only loopback addresses are accepted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", required=True)
    parser.add_argument("--host", action="append", required=True, help="Host header; each gets --rate")
    parser.add_argument("--rate", type=float, default=150.0, help="requests per second and host")
    parser.add_argument("--seconds", type=float, default=600.0)
    options = parser.parse_args(argv)
    if not ip_address(urlsplit(options.url).hostname or "0.0.0.0").is_loopback:
        parser.error("--url must be a loopback address")
    return options


async def stream(
    session: aiohttp.ClientSession, options: argparse.Namespace, host: str, seen: Counter[str]
) -> None:
    """Send one host its share until the time is up."""
    loop, dice, tasks = asyncio.get_running_loop(), random.Random(host), set[asyncio.Task[None]]()
    headers = {"Host": host, "Content-Type": "application/json"}

    async def send() -> None:
        try:
            async with session.post(options.url, data=BODY, headers=headers) as response:
                await response.read()
                seen[f"{host} {response.status}"] += 1
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            seen[f"{host} {type(error).__name__}"] += 1

    start = due = loop.time()
    while due < start + options.seconds:
        due += dice.expovariate(options.rate)
        await asyncio.sleep(max(0.0, due - loop.time()))
        if len(tasks) >= MAX_IN_FLIGHT:
            seen[f"{host} skipped"] += 1
            continue
        task = asyncio.create_task(send())
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)


async def generate(options: argparse.Namespace) -> Counter[str]:
    """Send all hosts their shares; return how many requests ended in which way."""
    seen: Counter[str] = Counter()
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=30)
    timeout = aiohttp.ClientTimeout(total=15)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        await asyncio.gather(*(stream(session, options, host, seen) for host in options.host))
    return seen


def main() -> None:
    """Run, then print the counts as JSON."""
    try:
        seen = asyncio.run(generate(parse()))
    except KeyboardInterrupt:
        return
    json.dump(seen, sys.stdout)


if __name__ == "__main__":
    main()
