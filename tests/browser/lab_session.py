"""What the browser tests share: a copy of the notebooks, `make lab` on it, a browser that sees it.

Selenium drives Debian's Chromium; both are given their paths, so that nothing is downloaded.
JupyterLab's state is read through `window.jupyterapp`, since it draws only the cells in sight;
whatever a person would do is done with mouse and keyboard.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
COPIED = [".jupyter", "data/README.md", "imetlib", "notebooks", "results"]
COPIED += ["CHANGELOG.md", "LICENSE", "Makefile", "README.md", "constraints.txt", "pyproject.toml"]
CHROMIUM_FLAGS = (
    "--headless=new",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
    "--window-size=1400,1300",
)
# Both would ask hosts outside for news.
NOTIFICATIONS = {"checkForUpdates": False, "fetchNews": "false"}
PATIENCE_SECONDS = 300


def find_chromium():
    """Path of Chromium (`IMETLIB_CHROMIUM`, else from PATH), or None."""
    names = (os.environ.get("IMETLIB_CHROMIUM"), "chromium", "chromium-browser", "google-chrome")
    return next(filter(None, (shutil.which(name) for name in names if name)), None)


def artefact_folder():
    """Where screenshots, logs and seconds are kept: `IMETLIB_ARTEFACTS`, else `artefacts/`."""
    folder = Path(os.environ.get("IMETLIB_ARTEFACTS") or ROOT / "artefacts")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def copy_project(folder):
    """Copy what `make lab` and the notebooks read, but no runs: they are made anew."""
    ignore = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints", "runs")
    for name in COPIED:
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=ignore)
        else:
            shutil.copy(source, target)
    return folder


def lab_environment(folder, project):
    """Variables for `make lab`: the copy's package, Jupyter's files in `folder`, no make above."""
    ours = {"MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "VENV", "TF", "OPTIONS"}
    kept = {name: value for name, value in os.environ.items() if name not in ours}
    environment = {name: value for name, value in kept.items() if not name.startswith("JUPYTER")}
    paths = [str(project), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment["PYTHONPATH"] = os.pathsep.join(paths)
    for kind in ("CONFIG_DIR", "DATA_DIR", "RUNTIME_DIR"):
        environment[f"JUPYTER_{kind}"] = str(folder / kind.lower())
    for kind in ("SETTINGS_DIR", "WORKSPACES_DIR"):
        environment[f"JUPYTERLAB_{kind}"] = str(folder / kind.lower())
    environment["IPYTHONDIR"] = str(folder / "ipython")
    plugin = folder / "settings_dir" / "@jupyterlab" / "apputils-extension"
    plugin.mkdir(parents=True)
    settings = plugin / "notification.jupyterlab-settings"
    settings.write_text(json.dumps(NOTIFICATIONS), encoding="utf-8")
    return environment


@contextlib.contextmanager
def running_lab(folder, log):
    """`make lab` on a copy of the project in `folder`; yields the page that it would open.

    The environment is the one that runs the tests: make is told (`-o`) not to mend it.
    """
    project = copy_project(folder / "project")
    options = "--no-browser --LabApp.expose_app_in_browser=True"
    options += " --allow-root" if os.geteuid() == 0 else ""
    command = ["make", "lab", "-o", f"{sys.prefix}/installed", f"VENV={sys.prefix}"]
    with log.open("w", encoding="utf-8") as output:
        lab = subprocess.Popen(
            [*command, f"OPTIONS={options}"],
            cwd=project,
            env=lab_environment(folder, project),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield wait_for_page(lab, folder / "runtime_dir", log)
        finally:
            end_group(lab)


def wait_for_page(lab, runtime, log):
    """The file that JupyterLab gives a browser to open, once it is written."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline and lab.poll() is None:
        for page in runtime.glob("jpserver-*-open.html"):
            if "</html>" in page.read_text(encoding="utf-8"):
                return page
        time.sleep(0.1)
    raise AssertionError(f"`make lab` opened nothing (exit code {lab.poll()}); its log: {log}")


def end_group(leader):
    """End a process, its group, and the kernels, which have sessions of their own.

    Raises:
        AssertionError: something outlived the SIGTERM and had to be killed.
    """
    family = [psutil.Process(leader.pid)] if leader.poll() is None else []
    family += [child for parent in family for child in parent.children(recursive=True)]
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader.pid, signal.SIGTERM)
    _, left = psutil.wait_procs(family, timeout=30)
    left = [process for process in left if is_alive(process)]
    for process in left:
        process.kill()
    leader.wait(timeout=30)
    assert left == [], f"still there 30 s after SIGTERM: {left}"


def is_alive(process):
    """Whether a process runs: a dead one that nobody waited for does not."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@contextlib.contextmanager
def running_browser(profile, log):
    """Chromium without a window; `profile` is a new folder. Yields Selenium's driver."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = find_chromium()
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []  # root has none
    for flag in (*CHROMIUM_FLAGS, *sandbox, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    service = webdriver.ChromeService(shutil.which("chromedriver"), log_output=str(log))
    driver = webdriver.Chrome(options, service)
    try:
        yield driver
    finally:
        driver.quit()


class LabPage:
    """JupyterLab in a browser, as a person uses it: menus, links, keys.

    Args:
        driver: Selenium's driver.
        folder: where screenshots go.
        log: JupyterLab's log.
    """

    def __init__(self, driver, folder, log):
        self.driver, self.folder, self.log = driver, folder, log

    def wait(self, condition, what):
        """Wait until `condition()` is true (or an element); what it returned."""
        from selenium.common.exceptions import WebDriverException
        from selenium.webdriver.support.ui import WebDriverWait

        waiting = WebDriverWait(self.driver, PATIENCE_SECONDS, 0.1, [WebDriverException])
        return waiting.until(lambda driver: condition(), f"waited in vain for {what}")

    def look(self, selector, text=""):
        """The first shown element with `text` in it, or None."""
        found = self.driver.find_elements("css selector", selector)
        return next((each for each in found if each.is_displayed() and text in each.text), None)

    def find(self, selector, text=""):
        """The first shown element with `text` in it, waited for."""
        return self.wait(lambda: self.look(selector, text), f"{selector} {text}".strip())

    def click(self, selector, text=""):
        """Click an element as soon as nothing covers it."""

        def try_once():
            element = self.look(selector, text)
            return element is not None and (element.click() or True)

        self.wait(try_once, f"a click on {selector} {text}".strip())

    def menu(self, name, command):
        """Choose a command from the menu bar."""
        self.click(".lm-MenuBar-itemLabel", name)
        self.click(f".lm-Menu-item[data-command='{command}']")

    def ask(self, expression):
        """A JavaScript expression of `notebook`, the one in front; null while there is none."""
        front = "const panel = window.jupyterapp?.shell.currentWidget; "
        front += "const notebook = panel?.content; "
        return self.driver.execute_script(
            f"{front}return notebook?.model?.cells ? ({expression}) : null"
        )

    def run_notebook(self, name):
        """Open a notebook by its link in the index, clear its outputs, run all; its code cells.

        Returns:
            list of dicts with `source`, `count`, `state` and `kinds` (of its outputs).
        """
        self.click(".lm-TabBar-tabLabel", "README.md")
        self.click(".jp-RenderedMarkdown a", name)
        self.wait(lambda: self.ask("panel.context.path") == f"notebooks/{name}.ipynb", name)
        self.wait_for_kernel()
        # The notebook comes with outputs and counts of an earlier run.
        self.menu("Edit", "editmenu:clear-all")
        self.wait(lambda: all(cell["count"] is None for cell in self.cells()), "empty outputs")
        self.menu("Run", "runmenu:run-all")
        self.wait(self.is_done, f"{name} to end")
        return self.cells()

    def wait_for_kernel(self):
        """Wait until the kernel has nothing to do."""
        status = "panel.sessionContext.session?.kernel?.status"
        self.wait(lambda: self.ask(status) == "idle", "the kernel")

    def cells(self):
        """The code cells of the notebook in front."""
        each = "source: cell.sharedModel.source, count: cell.executionCount, "
        each += "state: cell.executionState, kinds: cell.outputs.toJSON().map(o => o.output_type)"
        code = "[...notebook.model.cells].filter(cell => cell.type === 'code')"
        return self.ask(f"{code}.map(cell => ({{{each}}}))")

    def is_done(self):
        """Whether every code cell was run, or one failed, which ends the run."""
        cells = self.cells()
        failed = any("error" in cell["kinds"] for cell in cells)
        return failed or all(cell["count"] and cell["state"] != "running" for cell in cells)

    def show_output(self, call):
        """Scroll to the cell that begins with `call`; its output as an element."""
        index = self.ask(
            f"[...notebook.model.cells].findIndex(c => c.sharedModel.source.startsWith('{call}'))"
        )
        assert index >= 0, f"no cell begins with {call}"
        self.ask(f"notebook.scrollToItem({index}, 'start') && null")
        selector = f".jp-NotebookPanel:not(.lm-mod-hidden) [data-windowed-list-index='{index}'] "
        return self.find(selector + ".jp-OutputArea .widget-vbox")

    def screenshot(self, name):
        """Keep what the window shows as a PNG; its path."""
        path = self.folder / name
        self.driver.save_screenshot(str(path))
        return path

    @contextlib.contextmanager
    def evidence(self, name):
        """Keep a screenshot where something fails; the message names it and JupyterLab's log."""
        from selenium.common.exceptions import WebDriverException

        try:
            yield
        except BaseException as error:
            error.add_note(f"JupyterLab's log: {self.log}")
            with contextlib.suppress(WebDriverException):
                error.add_note(f"what was shown: {self.screenshot(name)}")
            raise
