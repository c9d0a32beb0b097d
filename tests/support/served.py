"""The API over a fake backend on a real loopback port, for clients that are real too."""

import asyncio
import contextlib
import threading

import uvicorn

from controller.api.app import create_app

TOKEN = "secret"


@contextlib.contextmanager
def served(backend):
    """Serve `backend` until the block ends; yields its address."""
    config = uvicorn.Config(
        create_app(backend, TOKEN),
        host="127.0.0.1",
        port=0,
        log_level="critical",
        ws="none",
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    started = threading.Event()

    async def run():
        task = asyncio.ensure_future(server.serve())
        while not server.started and not task.done():
            await asyncio.sleep(0.01)
        started.set()
        await task

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    started.wait(10)
    try:
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(10)
