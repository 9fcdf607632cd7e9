"""Kaggle's own client takes a bundle: it is pushed to a server in this test, and to no other.

Skipped where the client is not installed. `IMETLIB_KAGGLE_CLIENT` names the Python of another
environment that has it: `pip install kaggle six`.
"""

import base64
import importlib.util
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from imetlib.delivery.kaggle_bundle import write_bundle

CLIENT = os.environ.get("IMETLIB_KAGGLE_CLIENT") or (
    sys.executable if importlib.util.find_spec("kaggle") else ""
)
pytestmark = [
    pytest.mark.kaggle,
    pytest.mark.skipif(not CLIENT, reason="the client is not installed: pip install kaggle six"),
]

# The client honours LOCALHOST alone, and that on port 80; its variable TEST would be ignored, and
# the request go out. Sockets to any other machine are refused as well.
WRAPPER = """
import socket, sys
from kagglesdk import kaggle_env

connect = socket.socket.connect
def guarded(self, address):
    if address[0] not in ("127.0.0.1", "localhost"):
        raise RuntimeError(f"a request left this machine: {address}")
    return connect(self, address)
socket.socket.connect = guarded
kaggle_env._env_to_endpoint[kaggle_env.KaggleEnv.LOCAL] = sys.argv.pop(1)
from kaggle.cli import main
main()
"""


class Kaggle(BaseHTTPRequestHandler):
    """Answers pushes and questions after their state, and remembers what came."""

    def do_POST(self):
        text = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = json.loads(text or "{}")
        self.server.requests.append((self.path, dict(self.headers), body))
        if self.path.endswith("/SaveKernel"):
            answer = {"ref": f"/code/{body['slug']}", "versionNumber": 1, "url": "http://x.invalid"}
            answer |= {f"invalid{name}Sources": [] for name in ("Dataset", "Competition", "Kernel")}
        elif self.path.endswith("/GetKernelSessionStatus"):
            answer = {"status": "COMPLETE"}
        else:
            self.send_error(404)
            return
        content = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Kaggle)
    server.requests = []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def client(server, tmp_path):
    """Function that runs the client with dummy credentials in an empty home."""
    home = tmp_path / "home"
    home.mkdir()
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "TMPDIR")}
    environment = kept | {
        "HOME": str(home),
        "KAGGLE_CONFIG_DIR": str(home),
        "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
        "KAGGLE_USERNAME": "someone",
        "KAGGLE_KEY": "dummy",
    }

    def run(*arguments, place=f"http://127.0.0.1:{server.server_port}"):
        return subprocess.run(
            [CLIENT, "-c", WRAPPER, place, *arguments],
            env=environment,
            cwd=home,
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run


@pytest.mark.parametrize("options", [{}, {"wheel": True}, {"kind": "inference"}])
def test_the_client_pushes_a_bundle_and_reads_its_state(server, client, tmp_path, options):
    made = write_bundle(tmp_path / "bundle", owner="someone", **options)
    result = client("kernels", "push", "-p", str(made.folder))
    assert result.returncode == 0, result.stderr
    assert "Kernel version 1 successfully pushed" in result.stdout
    assert "does not resolve" not in result.stdout and "retired" not in result.stderr
    path, headers, body = server.requests[-1]
    assert path == "/api/v1/kernels.KernelsApiService/SaveKernel"
    basic = base64.b64encode(b"someone:dummy").decode()
    assert headers["Authorization"] == f"Basic {basic}"
    metadata = made.metadata
    assert (body["slug"], body["newTitle"]) == (metadata["id"], metadata["title"])
    assert body["enableInternet"] is False and body["enableGpu"] is body["isPrivate"] is True
    assert body["machineShape"] == "NvidiaTeslaT4"
    assert body["competitionDataSources"] == ["imet-2019-fgvc6"]
    assert body.get("datasetDataSources", []) == metadata["dataset_sources"]
    assert body.get("kernelDataSources", []) == metadata["kernel_sources"]
    # What arrives is the notebook that was written, to the letter.
    written = json.loads((made.folder / metadata["code_file"]).read_text(encoding="utf-8"))
    for cell in written["cells"]:
        cell["source"] = "".join(cell["source"])
    assert json.loads(body["text"]) == written

    result = client("kernels", "status", metadata["id"])
    assert result.returncode == 0 and "complete" in result.stdout.lower(), result.stderr
    assert server.requests[-1][0].endswith("/GetKernelSessionStatus")


def test_the_guard_lets_nothing_out(client):
    """A wrapper that points elsewhere fails here, and not at somebody's door."""
    # 192.0.2.1 is an address of documentation, which belongs to nobody.
    result = client("kernels", "status", "someone/imetlib", place="http://192.0.2.1:9")
    assert result.returncode != 0
    assert "a request left this machine" in result.stdout + result.stderr
