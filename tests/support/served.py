"""The API over a fake backend on a real loopback port, for clients that are real too."""

import contextlib
import threading
import time

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount

from controller.api.app import create_app

TOKEN = "secret"


@contextlib.contextmanager
def served(backend, prefix=""):
    """Serve `backend` until the block ends, below `prefix` as a proxy has it; yields its address."""
    app = Starlette(routes=[Mount(prefix, create_app(backend, TOKEN))])
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
