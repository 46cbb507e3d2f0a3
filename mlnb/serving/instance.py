"""What tells this kernel's server from any other that may answer at the same address."""

from __future__ import annotations

import os
from secrets import token_hex

__all__ = ["INSTANCE", "VARIABLE"]

VARIABLE = "MLNB_SERVER_INSTANCE"  # for the gateway process, which serves for the kernel that starts it
INSTANCE = os.environ.get(VARIABLE) or token_hex(8)
