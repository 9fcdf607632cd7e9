"""A kernel that ends with its runner, however that ended: an IPython extension.

ipykernel's own watch is a thread that looks every second whether its parent is gone. It never gets
its turn while a cell holds the interpreter (a long sum, a regular expression), and it looks for
process 1 as the new parent where the old one was gone before it began: a container or a desktop
session often has another. Linux kills the kernel by itself when asked once.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

_PR_SET_PDEATHSIG = 1


def load_ipython_extension(shell: Any) -> None:
    """Ask Linux to kill this process when its parent ends; elsewhere ipykernel's watch remains.

    Args:
        shell: IPython's, not used.
    """
    parent = os.environ.get("JPY_PARENT_PID")
    if sys.platform != "linux" or not parent:
        return
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # It may have ended before Linux was asked.
    if os.getppid() != int(parent):
        os._exit(1)
