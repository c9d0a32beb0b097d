"""A small model server: TensorFlow Serving's REST shape, with a latency distribution and faults to order.

    python -m demo.model_server --port 9001 --version v2 --error-rate 0.03

Answers POST /v1/models/NAME:predict; a request takes a log-normal time around --median-ms, fails with
--error-rate, and is held up for --slow-ms with probability --slow-share.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import random

from aiohttp import web


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--version", default="v1")
    parser.add_argument("--median-ms", type=float, default=20.0)
    parser.add_argument("--sigma", type=float, default=0.4, help="spread of the log of the latency")
    parser.add_argument("--error-rate", type=float, default=0.01)
    parser.add_argument("--slow-share", type=float, default=0.0)
    parser.add_argument("--slow-ms", type=float, default=1000.0)
    parser.add_argument("--seed", type=int, default=None)
    return parser.parse_args(argv)


def application(options: argparse.Namespace) -> web.Application:
    """Return the server for these options."""
    dice = random.Random(options.seed)

    async def predict(_request: web.Request) -> web.Response:
        delay = dice.lognormvariate(math.log(options.median_ms), options.sigma)
        if dice.random() < options.slow_share:
            delay += options.slow_ms
        await asyncio.sleep(delay / 1000)
        if dice.random() < options.error_rate:
            return web.json_response({"error": "inference failed"}, status=500)
        return web.json_response({"predictions": [round(dice.random(), 4)], "version": options.version})

    async def ready(_request: web.Request) -> web.Response:
        return web.json_response(
            {"model_version_status": [{"version": options.version, "state": "AVAILABLE"}]}
        )

    app = web.Application()
    app.router.add_post("/v1/models/{name}:predict", predict)
    app.router.add_get("/v1/models/{name}", ready)
    return app


def main() -> None:
    """Serve until told to stop."""
    options = parse()
    web.run_app(application(options), host="127.0.0.1", port=options.port, print=None, access_log=None)


if __name__ == "__main__":
    main()
