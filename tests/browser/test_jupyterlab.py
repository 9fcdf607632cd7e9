"""From `make lab` to a moved slider, in a real browser: notebooks 01 and 07 as a person runs them.

Screenshots and `browser.json` (seconds, versions) go to `artefacts/` or `IMETLIB_ARTEFACTS`.
Seconds are written down, never asserted.
"""

import io
import json
import os
import re
import shutil
import time
from importlib.metadata import version
from importlib.util import find_spec

import numpy as np
import pytest
from lab_session import LabPage, artefact_folder, find_chromium, running_browser, running_lab
from PIL import Image

NEEDED = {
    "make": shutil.which("make"),
    "Chromium (apt install chromium)": find_chromium(),
    "chromedriver (apt install chromium-driver)": shutil.which("chromedriver"),
    "selenium (the extra `test`)": find_spec("selenium"),
    "JupyterLab (the extra `notebooks`)": find_spec("jupyterlab"),
}
MISSING = ", ".join(name for name, found in NEEDED.items() if not found)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {MISSING}"),
]


@pytest.fixture(scope="module")
def record():
    """What is written to `browser.json` at the end."""
    packages = ("jupyterlab", "ipywidgets", "selenium")
    yield (record := {"seconds": {}, "versions": {name: version(name) for name in packages}})
    record |= {"cores": os.cpu_count(), "load": [round(load, 1) for load in os.getloadavg()]}
    path = artefact_folder() / "browser.json"
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def clock(record):
    """Function that writes down when something was reached, counted from `make lab`."""
    start = time.monotonic()

    def note(moment):
        record["seconds"][moment] = round(time.monotonic() - start, 1)

    return note


@pytest.fixture(scope="module")
def lab(tmp_path_factory, record, clock):
    """`LabPage` on the page that `make lab` opens."""
    folder, kept = tmp_path_factory.mktemp("lab"), artefact_folder()
    log = kept / "jupyterlab.log"
    with (
        running_lab(folder, log) as page,
        running_browser(folder / "chromium", folder / "chromedriver.log") as driver,
    ):
        record["versions"]["chromium"] = driver.capabilities["browserVersion"]
        driver.get(page.as_uri())
        lab = LabPage(driver, kept, log)
        with lab.evidence("failed_index.png"):
            lab.find(".jp-RenderedMarkdown h1")
        clock("index shown")
        yield lab


def check_run(cells):
    """Every code cell was run, in order, and none failed."""
    assert [cell["source"] for cell in cells if "error" in cell["kinds"]] == []
    assert [cell["count"] for cell in cells] == list(range(1, len(cells) + 1))


def pixels(element):
    """What an element looks like, `(height, width, 3)` uint8."""
    return np.asarray(Image.open(io.BytesIO(element.screenshot_as_png)).convert("RGB"))


def share_changed(before, after):
    """Share of the pixels that differ; 1 where the sizes do."""
    return 1.0 if before.shape != after.shape else float((before != after).any(-1).mean())


def labels_a_picture(text):
    return float(re.search(r"([\d.]+) labels a picture", text).group(1))


def test_lab_opens_on_the_index(lab):
    with lab.evidence("failed_index.png"):
        lab.find(".lm-TabBar-tab.lm-mod-current .lm-TabBar-tabLabel", "README.md")
        assert lab.find(".jp-RenderedMarkdown h1").text.startswith("The notebooks, in the order")


def test_moving_the_threshold_changes_what_notebook_07_shows(lab, clock, record, capsys):
    from selenium.webdriver import ActionChains

    with lab.evidence("failed_07.png"):
        check_run(lab.run_notebook("07_threshold_search"))
        clock("07: all cells run")
        widget = lab.show_output("threshold_slider(")
        text = widget.find_element("css selector", ".widget-html-content")
        readout = widget.find_element("css selector", ".widget-readout")
        handle = widget.find_element("css selector", ".noUi-handle")
        look, labels, threshold = pixels(text), labels_a_picture(text.text), float(readout.text)
        ActionChains(lab.driver).drag_and_drop_by_offset(handle, 150, 0).perform()
        lab.wait(lambda: labels_a_picture(text.text) < labels, "fewer labels a picture")
        clock("07: slider moved")
        lab.wait_for_kernel()
        lab.screenshot("07_threshold_slider.png")
        assert float(readout.text) > threshold
        assert share_changed(look, pixels(text)) > 0.01
    with capsys.disabled():
        reached = ", ".join(f"{moment} {spent} s" for moment, spent in record["seconds"].items())
        print(f"\nfrom `make lab`: {reached}")


def test_searching_a_label_changes_the_figure_of_notebook_01(lab, clock):
    from selenium.webdriver import Keys

    with lab.evidence("failed_01.png"):
        check_run(lab.run_notebook("01_eda"))
        clock("01: all cells run")
        widget = lab.show_output("label_browser(")
        field, found, text, figure = (
            widget.find_element("css selector", selector)
            for selector in ("input", "select", ".widget-html-content", "img")
        )
        lab.wait(lambda: figure.get_property("naturalWidth") > 0, "the first figure")
        look, source, said = pixels(figure), figure.get_attribute("src"), text.text
        field.send_keys("bird", Keys.ENTER)
        lab.wait(lambda: figure.get_attribute("src") != source, "another figure")
        lab.wait(lambda: figure.get_property("complete"), "the figure's pixels")
        clock("01: attribute found")
        lab.screenshot("01_label_browser.png")
        options = [option.text for option in found.find_elements("css selector", "option")]
        assert options and all("bird" in option for option in options)
        assert text.text != said
        assert share_changed(look, pixels(figure)) > 0.01
