"""A replica that has just ended is told nothing more."""

from __future__ import annotations

import os
import signal

from loading import Numbered
from waiting import wait_until

import mlnb


def test_scaling_in_the_moment_after_a_replica_died() -> None:
    deployment = mlnb.deploy(Numbered(1), name="numbered", example=[[0.5]], replicas=3)
    for _ in range(3):
        wait_until(lambda: sum(one.state == "ready" for one in deployment.snapshot().replicas) == 3)
        pid = deployment.snapshot().replicas[0].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        for count in (2, 3, 2, 3):
            deployment.scale(count)
        assert deployment.predict([[7.0]]).tolist() == [1e6 + 7]
