"""What this process has deployed: joins registry, serving and monitoring, and hands out deployments."""

from __future__ import annotations

import atexit

from mlnb.workspace.deployment import Deployment
from mlnb.workspace.pages import Surroundings
from mlnb.workspace.snapshot import DeploymentSnapshot
from mlnb.workspace.workspace import Workspace

__all__ = [
    "Deployment",
    "DeploymentSnapshot",
    "Surroundings",
    "Workspace",
    "autoscale",
    "deploy",
    "deployments",
    "find",
    "monitor",
    "rollback",
    "scale",
    "stop",
    "surroundings",
    "versions",
]

_workspace = Workspace()
atexit.register(_workspace.close)
autoscale = _workspace.autoscale
deploy = _workspace.deploy
deployments = _workspace.deployments
find = _workspace.find
monitor = _workspace.monitor
rollback = _workspace.rollback
scale = _workspace.scale
stop = _workspace.stop
surroundings = _workspace.surroundings
versions = _workspace.versions
