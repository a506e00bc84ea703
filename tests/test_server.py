"""The socket that the page and the API are served on."""

import asyncio
import socket

from workbench.server import PageServer, bind


async def test_answers_do_not_wait_for_acknowledgements():
    """Nagle's algorithm would hold a body back for 40 ms, until the client acknowledges the head."""
    delayed = asyncio.get_running_loop().create_future()

    async def answer(_reader, writer) -> None:
        accepted = writer.get_extra_info("socket")
        delayed.set_result(not accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    listener = bind("127.0.0.1", 0)
    async with await asyncio.start_server(answer, sock=listener):
        _, writer = await asyncio.open_connection(*listener.getsockname())
        assert await asyncio.wait_for(delayed, 5) is False
        writer.close()


def test_idle_connections_outlive_those_of_clients():
    """Else a request that is sent just as the server closes one fails: aiohttp keeps them for 15 s."""
    with bind("127.0.0.1", 0) as listener:
        assert PageServer(None, listener).config.timeout_keep_alive > 15
