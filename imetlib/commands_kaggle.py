"""`python -m imetlib kaggle`: make a folder to upload, and check one; no account is needed."""

import json
import os

from imetlib.commands import FAULTS_FOUND, OK
from imetlib.delivery.kaggle_metadata import DEFAULT_ACCELERATOR, GPUS, TPUS


def bundle(arguments):
    """Write the folder of a notebook for Kaggle."""
    from imetlib.delivery.kaggle_account import list_missing
    from imetlib.delivery.kaggle_bundle import HOURS, write_bundle
    from imetlib.delivery.kaggle_metadata import slugify
    from imetlib.paths import runs_folder

    # The name is no secret, and the client keeps it there.
    owner = arguments.owner or os.environ.get("KAGGLE_USERNAME", "")
    options = {
        "assignments": arguments.parameters,
        "hours": HOURS if arguments.hours is None else arguments.hours,
        "owner": owner,
        "title": arguments.title,
        "competitions": _given(arguments.competitions),
        "datasets": _given(arguments.datasets),
        "kernels": _given(arguments.kernels),
        "models": arguments.models or (),
        "accelerator": arguments.accelerator,
        "private": not arguments.public,
        "wheel": arguments.wheel,
    }
    folder = arguments.out
    if not folder:
        name = "-".join(filter(None, (arguments.notebook or "notebook", arguments.kind)))
        folder = runs_folder() / "kaggle" / slugify(arguments.title or name)
    made = write_bundle(folder, arguments.notebook, arguments.kind, **options)
    notes = [*list_missing(), *made.notes]
    if arguments.json:
        facts = {"folder": str(made.folder), "kind": made.kind, "bytes": made.num_bytes}
        facts |= {"notes": notes, "metadata": made.metadata}
        print(json.dumps(facts, indent=2))
        return OK
    print(f"{made.folder}: {made.metadata['code_file']}, {made.num_bytes / 1e3:.0f} kB, no faults")
    for note in notes:
        print(f"before you push, {note}")
    print(f'push it: kaggle kernels push -p "{made.folder}"')
    return OK


def check(arguments):
    """Check a folder that is to be uploaded."""
    from imetlib.delivery.kaggle_account import list_missing
    from imetlib.delivery.kaggle_check import check_bundle

    faults = check_bundle(arguments.folder)
    missing = [] if faults else list_missing()
    if arguments.json:
        facts = {"folder": str(arguments.folder), "faults": faults, "before_you_push": missing}
        print(json.dumps(facts, indent=2))
        return FAULTS_FOUND if faults else OK
    for fault in faults:
        print(fault)
    print(f"{arguments.folder}: faults: {len(faults)}")
    for note in missing:
        print(f"before you push, {note}")
    return FAULTS_FOUND if faults else OK


def add_arguments(command):
    """Give the command `kaggle` its two actions.

    Args:
        command: `argparse.ArgumentParser` of `kaggle`.
    """
    choose = command.add_subparsers(dest="action", required=True, metavar="ACTION")

    make = choose.add_parser("bundle", help="write a folder for `kaggle kernels push`")
    make.set_defaults(run=bundle)
    make.add_argument(
        "notebook", nargs="?", default="", metavar="NOTEBOOK", help="number, name or path"
    )
    make.add_argument(
        "--kind", choices=("train", "inference", "both"), default="",
        help="train leaves a run for a later notebook, inference answers with one, both does all "
        "within --hours; default: as the notebook can",
    )  # fmt: skip
    make.add_argument("--owner", default="", metavar="NAME", help="your user name on Kaggle")
    make.add_argument(
        "--title", default="", help="5 to 50 characters; default: the notebook's name"
    )
    make.add_argument("--hours", type=float, metavar="H", help="limit of training; default: 8.5")
    make.add_argument(
        "-p", dest="parameters", action="append", default=[], metavar="NAME=VALUE",
        help="a parameter of the notebook; can be given several times",
    )  # fmt: skip
    for name, form, default in (
        ("competition", "SLUG", "imet-2019-fgvc6"),
        ("dataset", "OWNER/SLUG", "your imetlib-weights"),
        ("kernel", "OWNER/SLUG", "for inference your bundle of the kind train"),
    ):
        make.add_argument(
            f"--{name}", dest=f"{name}s", action="append", metavar=form,
            help=f'attach it; can be given several times; "" for none; default: {default}',
        )  # fmt: skip
    make.add_argument(
        "--model", dest="models", action="append", metavar="OWNER/MODEL/...",
        help="attach a model: OWNER/MODEL/FRAMEWORK/VARIATION/VERSION",
    )  # fmt: skip
    make.add_argument(
        "--accelerator", default=DEFAULT_ACCELERATOR, metavar="NAME",
        help=f"none, or one of {', '.join((*GPUS, *TPUS))}; default: {DEFAULT_ACCELERATOR}, twice",
    )  # fmt: skip
    make.add_argument("--wheel", action="store_true", help="the package as a dataset beside it")
    make.add_argument("--public", action="store_true", help="let everybody see the notebook")
    make.add_argument("--out", default="", metavar="DIR", help="default: below runs/kaggle")
    make.add_argument("--json", action="store_true", help="one JSON object on standard output")

    look = choose.add_parser("check", help="find every fault of such a folder")
    look.set_defaults(run=check)
    look.add_argument("folder", metavar="DIR", help="folder with kernel-metadata.json")
    look.add_argument("--json", action="store_true", help="one JSON object on standard output")


def _given(names):
    """None where an option was not given, else the names that are not empty."""
    return None if names is None else [name for name in names if name]
