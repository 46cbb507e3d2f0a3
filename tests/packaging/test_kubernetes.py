"""The deployer on a real cluster: each test in a namespace of its own."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from packaging_clusters import CONNECTIONS, TOKEN, Little, Load, Namespace, config, connected, images_of, manifests_of
from threads import mlnb_threads
from waiting import wait_until

from mlnb.errors import ClusterError, InvalidInputError
from mlnb.packaging.kubernetes import KubernetesDeployer, contexts
from mlnb.packaging.progress import Progress
from mlnb.scaling.autoscale import Autoscale
from mlnb.packaging.subject import Measured

pytestmark = pytest.mark.cluster
