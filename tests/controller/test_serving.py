"""The API's server inside the controller's event loop: when it wakes, what its answers carry, how it ends."""

import asyncio
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime

import aiohttp
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from controller.serving import listen, server


async def hello(_request):
    return PlainTextResponse("hello", headers={"X-Own": "kept"})


@asynccontextmanager
async def serving(app):
    """Serve on a free port until the block ends; yields the address."""
    listener = listen("127.0.0.1", 0)
    running = server(app)
    task = asyncio.create_task(running.serve(sockets=[listener]))
    async with aiohttp.ClientSession() as http:
        await http.head(f"http://127.0.0.1:{listener.getsockname()[1]}/is-it-there")
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    listener.close()


@pytest.fixture
async def address():
    async with serving(Starlette(routes=[Route("/", hello)])) as url:
        yield url


@pytest.mark.real
async def test_nothing_wakes_the_process_while_nobody_asks(address):
    loop = asyncio.get_running_loop()

    def timers():
        return [timer for timer in loop._scheduled if not timer.cancelled()]

    end = loop.time() + 30
    while timers() and loop.time() < end:  # noqa: ASYNC110 - until the server knows that its client went
        await asyncio.sleep(0.01)
    assert timers() == []


@pytest.mark.real
async def test_an_answer_has_its_own_headers_and_its_date(address):
    async with aiohttp.ClientSession() as http, http.get(address) as answer:
        assert await answer.text() == "hello"
        assert answer.headers["X-Own"] == "kept"
        assert parsedate_to_datetime(answer.headers["Date"]).utcoffset().total_seconds() == 0
        assert "Server" not in answer.headers


@pytest.mark.real
async def test_it_ends_when_it_is_cancelled():
    async with serving(Starlette(routes=[Route("/", hello)])) as url:
        pass
    async with aiohttp.ClientSession() as http:
        with pytest.raises(aiohttp.ClientConnectionError):
            await http.get(url)


@pytest.mark.real
def test_an_address_that_is_taken_is_told():
    taken = listen("127.0.0.1", 0)
    with pytest.raises(OSError, match="in use"):
        listen("127.0.0.1", taken.getsockname()[1])
    taken.close()
