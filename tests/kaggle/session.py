"""A session on Kaggle, as far as one can be had elsewhere.

Another environment, with the versions of Kaggle's image; inputs that cannot be written; no network;
a home and a working folder that are empty; papermill, which runs notebooks there too.
"""

import functools
import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

import nbformat

PYTHON = os.environ.get("IMETLIB_KAGGLE_PYTHON", "")
MAX_SECONDS = 900

# Found by every Python of the session before anything else. It stands in for a network namespace
# where none can be made, and says who asked where there is one.
_GUARD = """
import os
import socket

_connect, _getaddrinfo = socket.socket.connect, socket.getaddrinfo


def _refuse(host, port):
    if str(host) not in ("127.0.0.1", "localhost", "::1", "0.0.0.0", ""):
        with open(os.environ["NETWORK_ATTEMPTS"], "a") as file:
            print(host, port, file=file)
        raise OSError(f"no network in this session: {host}:{port}")


def connect(self, address):
    if isinstance(address, tuple):
        _refuse(*address[:2])
    return _connect(self, address)


def getaddrinfo(host, port, *arguments, **more):
    _refuse("" if host is None else host, port)
    return _getaddrinfo(host, port, *arguments, **more)


socket.socket.connect, socket.getaddrinfo = connect, getaddrinfo
"""
# $1: the inputs. A namespace of its own has no way out, and a mount of its own cannot be written.
_ISOLATE = """
set -e
ip link set lo up
mount --bind "$1" "$1"
mount -o remount,ro,bind "$1"
shift
exec "$@"
"""


@dataclass(frozen=True)
class Session:
    """Folders of a session.

    Args:
        inputs: what is attached, `/kaggle/input`.
        working: what is kept, `/kaggle/working`.
        scratch: its home, and what is noted about it.
    """

    inputs: Path
    working: Path
    scratch: Path

    def run_notebook(self, path):
        """The notebook as it was executed, and what went to the terminal."""
        executed = self.scratch / path.name
        command = ["-m", "papermill", "--no-progress-bar", "-k", "python3", path, executed]
        output = self.run(command)
        assert executed.is_file(), output
        return nbformat.read(executed, as_version=4), output

    def run(self, arguments, *, check=True):
        """Output of the session's Python; its processes are ended with it."""
        guard = self.scratch / "guard"
        for folder in (self.inputs, self.working, guard, self.scratch / "home"):
            folder.mkdir(parents=True, exist_ok=True)
        (guard / "sitecustomize.py").write_text(_GUARD, encoding="utf-8")
        environment = {
            "PATH": f"{Path(PYTHON).parent}{os.pathsep}{os.defpath}",
            "HOME": str(self.scratch / "home"),
            "PYTHONPATH": str(guard),
            "NETWORK_ATTEMPTS": str(self.scratch / "attempts"),
            "KAGGLE_KERNEL_RUN_TYPE": "Batch",
            "IMETLIB_KAGGLE_INPUT": str(self.inputs),
            "IMETLIB_KAGGLE_WORKING": str(self.working),
            "LANG": "C.UTF-8",
        }
        command = [PYTHON, *map(str, arguments)]
        if has_namespaces():
            command = [*_NAMESPACES, "sh", "-c", _ISOLATE, "sh", str(self.inputs), *command]
        process = subprocess.Popen(
            command,
            cwd=self.working,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(timeout=MAX_SECONDS)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        assert not check or process.returncode == 0, output[-6000:]
        return output

    def attempts(self):
        """Hosts and ports that something in the session asked for, a line each."""
        path = self.scratch / "attempts"
        return path.read_text().splitlines() if path.is_file() else []


_NAMESPACES = ("unshare", "--net", "--mount")


@functools.cache
def has_namespaces():
    """Whether this user can make a network and a mount of its own."""
    if not all(map(shutil.which, ("unshare", "ip", "mount"))):
        return False
    command = [*_NAMESPACES, "sh", "-c", _ISOLATE, "sh", str(Path(__file__).parent), "true"]
    return subprocess.run(command, capture_output=True).returncode == 0


def describe_tree(folder):
    """Names, sizes and times of all that is below a folder: any write changes them."""
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
    }
