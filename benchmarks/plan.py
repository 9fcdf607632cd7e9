"""What the whole costs, computed from the rates in `results/benchmarks`: a page in Markdown.

    python -m benchmarks.plan > results/plan.md

A machine without a record has no column of figures: nothing is guessed. `benchmarks.gpu --out
results/benchmarks/gpu-NAME.json` adds one.
"""

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

RESULTS = Path(__file__).resolve().parents[1] / "results" / "benchmarks"
TRAIN, TEST = 109_237, 38_801
NUM_FOLDS, EPOCHS, VIEWS = 5, 6, 2
MANY = 10_000_000
NETWORK = "ResNet-50 at 256 px"
# A step computes forward once and backward twice as much.
STEP = 3.0
# Of `benchmarks.steps`.
TRAINED = "ResNet-50, 256 px, all layers"


@dataclass(frozen=True)
class Machine:
    """Pictures per second of what a machine does, None where no record says.

    Args:
        name: of the column.
        cores: that read pictures.
        train: pictures per second of training `NETWORK`.
        predict: pictures per second and view.
        source: where both come from.
    """

    name: str
    cores: int
    train: float | None = None
    predict: float | None = None
    source: str = "no record"


def main(arguments=None):
    """Print the page."""
    print_page("plan", __doc__, write_page, arguments)


def print_page(name, description, write, arguments=None):
    """The command line of a page that is computed from records.

    Args:
        name: of the module in `benchmarks`.
        description: its docstring.
        write: function from the folder of the records to the page as text.
        arguments: list of str; None takes those of the command line.
    """
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=description)
    parser.add_argument("--records", type=Path, default=RESULTS, help="folder of the records")
    print(write(parser.parse_args(arguments).records), end="")


def write_page(folder):
    """The page as text, from the records of a folder.

    Raises:
        FileNotFoundError: the records of input, steps or export are missing.
    """
    rates = read(folder, "input.json")["pictures_per_second"]
    decode = rates["PyDataset, Pillow, source files"]["processor"]
    augmented = rates["Batches, JPEG cache, warp and colours, 1 thread"]["processor"]
    plain = rates["Batches, JPEG cache, plain, 1 thread"]["processor"]
    machines = find_machines(folder)
    lines = [
        "# What the whole costs",
        "",
        "Computed by `python -m benchmarks.plan` from the records in [`benchmarks`](benchmarks); "
        "nothing is guessed where none is.",
        "",
        f"Network: {NETWORK}. iMet 2019: {TRAIN:,} training and {TEST:,} test pictures, "
        f"{NUM_FOLDS} folds of {EPOCHS} epochs, validation and test in {VIEWS} views. A core reads "
        f"{decode:,.0f} PNG files a second, {augmented:,.0f} cached pictures with augmentation and "
        f"{plain:,.0f} without.",
        "",
        "| | " + " | ".join(machine.name for machine in machines) + " |",
        "|---|" + "---|" * len(machines),
    ]
    learned = NUM_FOLDS * EPOCHS * TRAIN * (NUM_FOLDS - 1) / NUM_FOLDS
    scored = NUM_FOLDS * VIEWS * (EPOCHS * TRAIN / NUM_FOLDS + TEST)
    rows = {
        "make the cache, once": [(TRAIN + TEST, "reading", decode * m.cores) for m in machines],
        f"training, {learned / 1e6:.1f} M steps of a picture": [
            slower(learned, m.train, augmented * m.cores) for m in machines
        ],
        f"validation and test, {scored / 1e6:.1f} M views": [
            slower(scored, m.predict, plain * m.cores) for m in machines
        ],
        f"tag {MANY / 1e6:.0f} M PNG files, one view": [
            slower(MANY, m.predict, decode * m.cores) for m in machines
        ],
    }
    for title, cells in rows.items():
        lines.append(f"| {title} | " + " | ".join(say(*cell) for cell in cells) + " |")
    lines += [
        "",
        "The slower of reading and network is named. Cores are taken to read alike.",
        "",
    ]
    lines += [f"- {machine.name}: {machine.source}." for machine in machines]
    return "\n".join(lines) + "\n"


def find_machines(folder):
    """The two processors of other records; a T4 pair and an H100, if they have records."""
    ways = read(folder, "export.json")["networks"]["ResNet-50"]["ways"]
    step = read(folder, "steps.json")["networks"][TRAINED]
    found = [
        Machine(
            "2 cores",
            2,
            step["pictures"] / step["ways"]["default"]["seconds"],
            ways[ENGINE]["pictures_per_second"],
            "training by `steps.json`, all layers in float32; predicting by OpenVINO in float32, "
            "`export.json`",
        )
    ]
    for name, file, cores in (("T4 x2", "gpu-t4x2.json", 4), ("H100", "gpu-h100.json", 16)):
        if (folder / file).is_file():
            rate = read(folder, file)["networks"]["resnet50"]["pictures_per_second"]
            source = f"`{file}`; predicting as {STEP:g} times the rate of training, an estimate"
            found.append(Machine(name, cores, rate, STEP * rate, source))
        else:
            found.append(Machine(name, cores, source=f"no record yet (`{file}`)"))
    return found


ENGINE = "OpenVINO float32"


def slower(count, network, reading):
    """Count, name and rate of what limits the two; rate None where the network has none."""
    if network is None:
        return count, "network", None
    return (count, "network", network) if network < reading else (count, "reading", reading)


def say(count, limit, rate):
    """Minutes, hours or days, and the bottleneck."""
    if rate is None:
        return "not measured"
    hours = count / rate / 3600
    if hours > 48:
        return f"{hours / 24:.1f} days ({limit})"
    return f"{hours:.1f} h ({limit})" if hours >= 1 else f"{60 * hours:.0f} min ({limit})"


def read(folder, name):
    """A record."""
    return json.loads((folder / name).read_text(encoding="utf-8"))


if __name__ == "__main__":
    sys.exit(main())
