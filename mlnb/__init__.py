"""mlnb: from a fitted model in a notebook to a live, versioned endpoint with a panel.

Importing this loads nothing else; each public name brings what it needs when it is first used.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlnb.errors import MlnbError
    from mlnb.monitoring.alerts import AlertRule
    from mlnb.monitoring.guards import Guard
    from mlnb.registry import ModelRegistry, ModelVersion
    from mlnb.registry.ensembles import Ensemble
    from mlnb.scaling.policies.schedule import Schedule
    from mlnb.scaling.service_time import ServiceTime
    from mlnb.scaling.simulation.load import Load
    from mlnb.serving.load_balancer import LoadBalancer
    from mlnb.widgets import DeploymentPanel as DeploymentPanel
    from mlnb.widgets import RegistryPanel as RegistryPanel
    from mlnb.workspace import Deployment, autoscale, deploy, deployments, monitor, rollback, scale, stop, versions
    from mlnb.workspace.packaging import package
    from mlnb.workspace.simulating import simulate

# Without what needs the notebook's libraries (the panels), so that a star import works in a container.
__all__ = [
    "AlertRule",
    "Deployment",
    "Ensemble",
    "Guard",
    "Load",
    "LoadBalancer",
    "MlnbError",
    "ModelRegistry",
    "ModelVersion",
    "Schedule",
    "ServiceTime",
    "autoscale",
    "deploy",
    "deployments",
    "monitor",
    "package",
    "rollback",
    "scale",
    "simulate",
    "stop",
    "versions",
]
__version__ = "0.1.0"

logging.getLogger("mlnb").addHandler(
    logging.NullHandler()
)  # a notebook stays calm; whoever configures logging sees all

_HOMES = {
    "AlertRule": "mlnb.monitoring.alerts",
    "Deployment": "mlnb.workspace",
    "DeploymentPanel": "mlnb.widgets",
    "Ensemble": "mlnb.registry.ensembles",
    "Guard": "mlnb.monitoring.guards",
    "Load": "mlnb.scaling.simulation.load",
    "LoadBalancer": "mlnb.serving.load_balancer",
    "MlnbError": "mlnb.errors",
    "ModelRegistry": "mlnb.registry",
    "ModelVersion": "mlnb.registry",
    "RegistryPanel": "mlnb.widgets",
    "Schedule": "mlnb.scaling.policies.schedule",
    "ServiceTime": "mlnb.scaling.service_time",
    "autoscale": "mlnb.workspace",
    "deploy": "mlnb.workspace",
    "deployments": "mlnb.workspace",
    "monitor": "mlnb.workspace",
    "package": "mlnb.workspace.packaging",
    "rollback": "mlnb.workspace",
    "scale": "mlnb.workspace",
    "simulate": "mlnb.workspace.simulating",
    "stop": "mlnb.workspace",
    "versions": "mlnb.workspace",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mlnb' has no attribute {name!r}")
    try:
        value = getattr(import_module(_HOMES[name]), name)
    except ModuleNotFoundError as error:
        from mlnb.errors import MissingLibraryError

        raise MissingLibraryError(f"mlnb.{name} needs {error.name}. Run: pip install 'mlnb[lab]'") from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})


def load_ipython_extension(shell: Any) -> None:
    """Answer ``%load_ext mlnb``."""
    import_module("mlnb.magics").load(shell)


def unload_ipython_extension(shell: Any) -> None:
    """Answer ``%unload_ext mlnb``; what is deployed goes on."""
    import_module("mlnb.magics").unload(shell)


def _jupyter_labextension_paths() -> list[dict[str, str]]:
    """Tell JupyterLab where the built sidebar is."""
    return [{"src": "labextension/static", "dest": "mlnb"}]


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    """Tell the Jupyter server what to load."""
    return [{"module": "mlnb.labextension", "name": "mlnb"}]
