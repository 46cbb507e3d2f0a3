"""A connection that is accepted at the moment of a move goes along."""

from __future__ import annotations

import asyncio
import socket

from fastapi import FastAPI

from mlnb.serving.handover import hand_over
from mlnb.serving.predicting import Routes
from mlnb.serving.server import Server, bind


def test_a_connection_accepted_in_the_turn_of_the_loop_before() -> None:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with (
        near,
        far,
        bind(0) as listening,
        Server(FastAPI(), sock=listening, accepting=False, routes=Routes({})) as server,
        socket.create_connection(listening.getsockname()),
    ):

        async def accepted_then_moved() -> None:
            listening.settimeout(0)
            server.acceptor._accept()
            await hand_over(server, near)

        assert server.loop is not None
        asyncio.run_coroutine_threadsafe(accepted_then_moved(), server.loop).result(20)
        far.settimeout(1)
        _, descriptors, _, _ = socket.recv_fds(far, 100, 1)
        assert len(descriptors) == 1
        socket.socket(fileno=descriptors[0]).close()
