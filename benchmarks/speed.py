"""What is fast and why, from the records in `results/benchmarks`: a page in Markdown.

python -m benchmarks.speed > results/speed.md
"""

import sys

from benchmarks.plan import print_page, read
from benchmarks.scaling_reasons import LOCKED, WHOLE
from benchmarks.steps import DEFAULT, WAYS

UNFUSED_IS_SLOWEST = "MobileNetV2, 128 px, all layers"
UNFUSED = "Keras's BatchNormalization"


def main(arguments=None):
    """Print the page."""
    print_page("speed", __doc__, write_page, arguments)


def write_page(folder):
    """The page as text, from the records of a folder.

    Raises:
        FileNotFoundError: a record is missing.
    """
    sections = (write_input, write_scaling, write_steps, write_processes)
    files = ("input", "scaling", "steps", "processes")
    lines = [
        "# What is fast, and why",
        "",
        "Computed by `python -m benchmarks.speed` from the records in [`benchmarks`](benchmarks), "
        "two processor cores each. Ratios are of one run; the rates of another machine differ.",
    ]
    for section, name in zip(sections, files, strict=True):
        lines += ["", *section(read(folder, f"{name}.json"))]
    return "\n".join(lines) + "\n"


def write_input(record):
    """Pictures per second of every way of reading, beside decoding alone and two peers."""
    rates = record["pictures_per_second"]
    base, limit = next(iter(rates)), next(iter(rates.values()))
    lines = [
        "## Reading pictures",
        "",
        f"{record['pictures']} drawn pictures of 300 px to batches of {record['batch_size']} in "
        f"{record['image_shape'][0]} x {record['image_shape'][1]} px, uint8 "
        "([`input.json`](benchmarks/input.json); `make bench`). A second of processor time counts "
        "all threads, so its rate is that of one core.",
        "",
        "| way | pictures a second | of decoding | for a second of processor time | of decoding |",
        "|---|---|---|---|---|",
    ]
    for name, rate in rates.items():
        cells = (f"{rate[clock]:,.0f} | {rate[clock] / limit[clock]:.2f}" for clock in rate)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    # A picture that is one byte a channel already is a copy.
    uint8 = rates["Batches, uint8, plain"]["processor"]
    warp = rates["Batches, JPEG cache, fused warp, 2 threads"]
    legacy = rates["ImageDataGenerator, source files, four changes"]
    one, layers = record["milliseconds_of_augmentation"].values()
    return [
        *lines,
        "",
        f"Prepared uint8 pictures come {uint8 / limit['processor']:.1f} times as fast as {base[7:]}"
        f", for the same processor time; a copy of the bytes alone would reach "
        f"{rates['limit: copy of the same bytes']['processor'] / limit['processor']:.1f}. With "
        "flip, rotation, zoom and shift two threads read "
        f"{warp['clock'] / legacy['clock']:.1f} times as many pictures a second as Keras's old "
        f"`ImageDataGenerator` does from PNG ({warp['processor'] / legacy['processor']:.1f} times "
        "for the same processor time). The four changes as one warp cost "
        f"{one:.2f} ms a picture, as four layers of Keras {layers:.1f} ms: "
        f"{layers / one:.0f} times as much.",
    ]


def write_scaling(record):
    """Which way of reading grows with cores, and what explains it."""
    gains, reasons, steps = record["gains"], record["reasons"], record["steps"]
    lines = [
        "## What grows with cores",
        "",
        "The same cache through the same warp, with one worker and with two "
        "([`scaling.json`](benchmarks/scaling.json); `make bench-scaling`).",
        "",
        "| way | pictures a second | gain | for a second of processor time |",
        "|---|---|---|---|",
    ]
    for name, rate in record["pictures_per_second"].items():
        gain = f"{gains[name]:.2f}" if name in gains else ""
        lines.append(f"| {name} | {rate['clock']:,.0f} | {gain} | {rate['processor']:,.0f} |")
    text = SCALING.format(
        limit=reasons["gain_of_two_cores"],
        picture=steps[WHOLE]["ms"],
        decode=steps["decode"]["speed_up"],
        warp=steps["draw and warp"]["speed_up"],
        locked=steps[LOCKED]["ms"],
        share=reasons["share_that_holds_the_lock"],
        expected_threads=reasons["expected_gain_of_threads"],
        handed=steps[LOCKED]["speed_up"],
        batch=record["batch_between_processes"]["bytes"] / 1e6,
        sent=reasons["ms_of_sending_a_picture"],
        expected_processes=reasons["expected_gain_of_processes"],
        keras=gains["PyDataset, 2 processes"],
        grain=gains["grain, 2 processes"],
        start=reasons["seconds_to_start_a_process"],
    )
    return [*lines, "", text]


SCALING = """\
Two processes that share nothing gain {limit:.2f} here: more the machine does not give. \
**Threads:** a picture takes {picture:.2f} ms. Decoding lets other threads go on, and two of \
them gain {decode:.2f}; in the warp, many short calls, they gain {warp:.2f}. What holds Python's \
lock takes {locked:.3f} ms, at most {share:.0%}: by Amdahl's law alone threads would gain \
{expected_threads:.2f}, but two that hand the lock to each other do these parts at {handed:.2f} \
times the pace of one. **Processes** share no lock. Keras's send every batch of {batch:.1f} MB \
through a pipe, {sent:.2f} ms a picture at the least (so {expected_processes:.2f} at best), and \
gain {keras:.2f}; grain's use shared memory and gain {grain:.2f}. Each takes {start:.0f} s to \
start and the memory of another Python. `Batches` keeps to two threads: they feed every training \
step measured below, start at once, and any number of them gives the same batches."""


def write_steps(record):
    """Training steps by way, and what their time goes into."""
    others = [way for way in WAYS if any(way in n["ways"] for n in record["networks"].values())]
    lines = [
        "## A training step",
        "",
        "Milliseconds of a step on TensorFlow, and how many times as fast it is in another way, "
        "both for the same processor time ([`steps.json`](benchmarks/steps.json); "
        "`make bench-steps`). By default networks learn in float32, without XLA and by the fused "
        "kernel of BatchNormalization.",
        "",
        "| network | pictures | ms | " + " | ".join(others[1:]) + " | its time goes into |",
        "|---|---|---|" + "---|" * len(others),
    ]
    for name, network in record["networks"].items():
        ways = network["ways"]
        cells = [
            f"{ways[way]['processor_seconds_ratio']:.2f}" if way in ways else ""
            for way in others[1:]
        ]
        largest = list(network["shares"].get(DEFAULT, {}).items())[:3]
        cells.append(", ".join(f"{kind} {share:.0%}" for kind, share in largest))
        step = 1000 * ways[DEFAULT]["processor_seconds"]
        lines.append(f"| {name} | {network['pictures']} | {step:,.0f} | {' | '.join(cells)} |")
    network = record["networks"][UNFUSED_IS_SLOWEST]
    before, after = (
        sum(network["shares"][way].get(kind, 0.0) for kind in ARITHMETIC)
        for way in (UNFUSED, DEFAULT)
    )
    calls = record["steps_in_one_call"]
    return [
        *lines,
        "",
        f"With Keras's own BatchNormalization sums, means and other arithmetic take {before:.0%} "
        f"of a step of {UNFUSED_IS_SLOWEST}, with the fused kernel {after:.0%}: that was the "
        "slowest part, and is what was cut. bfloat16 pays for matrix products and plain "
        "convolutions on a processor that has units for them, not for depthwise convolutions. "
        f"{calls['steps']} steps in one call of TensorFlow are "
        f"{calls['times_as_fast']['processor_seconds']:.2f} times as fast on a processor.",
    ]


LEARNING = {"all": "all layers learn", "late": "the late stages learn, as in `full`"}
ARITHMETIC = ("sums and means", "other arithmetic")


def write_processes(record):
    """Two processes against one."""
    lines = [
        "## Two processes",
        "",
        "Training on jax in two processes, each on a core of its own "
        "([`processes.json`](benchmarks/processes.json); `make bench-processes`). Two that do the "
        "same and exchange nothing show what the machine gives.",
    ]
    for figures in record.values():
        if "pictures_per_second" not in figures:
            continue
        lines += [
            "",
            f"MobileNetV2, {LEARNING[figures['trainable_from']]}, {figures['side']} px, batches of "
            f"{figures['batch']}:",
            "",
            "| way | pictures a second | of one | of the limit |",
            "|---|---|---|---|",
        ]
        for name, rate in figures["pictures_per_second"].items():
            if name.startswith("read"):
                continue  # a tenth of a second: turns spread by up to two fifths
            ratios = figures["ratios"].get(name, {})
            cells = (f"{ratios[k]:.2f}" if k in ratios else "" for k in ("of_one", "of_limit"))
            lines.append(f"| {name} | {rate:,.1f} | {' | '.join(cells)} |")
        if "step_ms" in figures:
            step = figures["step_ms"]
            lines += [
                "",
                f"A step takes {step['one']:,.0f} ms in one process and {step['two']:,.0f} ms in "
                f"two; the sum of {figures['exchange_bytes'] / 1e6:.1f} MB of gradients over both "
                f"takes {step['exchange']:,.0f} ms by itself.",
            ]
    return lines


if __name__ == "__main__":
    sys.exit(main())
