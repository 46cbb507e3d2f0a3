"""A replica that has just ended is told nothing more: scaling goes on while its end is being explained."""

from __future__ import annotations

import asyncio
import socket

import uvloop

from mlnb.scaling.processes import ProcessReplica


def test_sharing_the_cores_in_the_moment_after_a_replica_died() -> None:
    async def main() -> None:
        lost: list[ProcessReplica] = []
        replica = ProcessReplica(key=1, lost=lost.append)
        near, far = socket.socketpair()
        near.settimeout(0)
        await asyncio.get_running_loop().connect_accepted_socket(lambda: replica, near)
        replica.ready.set_result(None)
        far.close()
        while not lost:  # noqa: ASYNC110 - a callback tells
            await asyncio.sleep(0.001)
        replica.limit_threads(2)
        replica.stop()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
