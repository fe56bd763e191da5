"""The played hosts behind a real socket on loopback, in a thread of their own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial

from aiohttp import web

from rehost.demo.world import Reply, World

ADDRESS = "127.0.0.1"
SLICES = 12  # a slow answer comes in so many pieces
START_SECONDS = 20.0
STOP_SECONDS = 1.0


@contextmanager
def origin(world: World) -> Iterator[int]:
    """Play the hosts for as long as the context lasts; yield the port."""
    loop = asyncio.new_event_loop()
    port: Future[int] = Future()
    stop = asyncio.Event()

    def play() -> None:
        try:
            loop.run_until_complete(_serve(world, stop, port.set_result))
        except OSError as error:
            port.set_exception(error)
        finally:
            loop.close()

    thread = threading.Thread(target=play, name="demo-origin", daemon=True)
    thread.start()
    try:
        yield port.result(START_SECONDS)
    finally:
        if thread.is_alive():
            loop.call_soon_threadsafe(stop.set)
        thread.join(START_SECONDS)


async def _serve(world: World, stop: asyncio.Event, ready: Callable[[int], None]) -> None:
    application = web.Application()
    application.router.add_get("/{path:.*}", partial(_respond, world))
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=STOP_SECONDS)
    await runner.setup()
    try:
        site = web.TCPSite(runner, ADDRESS, 0)
        await site.start()
        ready(runner.addresses[0][1])
        await stop.wait()
    finally:
        await runner.cleanup()


async def _respond(world: World, request: web.Request) -> web.StreamResponse:
    answer = world.answer(request.host, request.path, request.headers.get("Referer"))
    headers = {"Content-Type": answer.media_type, **answer.headers}
    if answer.seconds:
        return await _drip(request, answer, headers)
    return web.Response(status=answer.status, body=answer.body, headers=headers)


async def _drip(request: web.Request, answer: Reply, headers: dict[str, str]) -> web.StreamResponse:
    """Send a body in small pieces, with pauses between them."""
    response = web.StreamResponse(status=answer.status, headers=headers)
    response.content_length = len(answer.body)
    await response.prepare(request)
    step = len(answer.body) // SLICES + 1
    for start in range(0, len(answer.body), step):
        await asyncio.sleep(answer.seconds / SLICES)
        await response.write(answer.body[start : start + step])
    await response.write_eof()
    return response
