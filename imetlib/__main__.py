"""The command line: `python -m imetlib COMMAND`, or `imetlib COMMAND` once installed.

Exit codes: 0 done; 1 faults were found, or a notebook failed; 2 a call that cannot be carried out;
`run` and `demo` also 3 (time limit) and 4 (kernel died). Stopped from outside: 130 by Ctrl-C, and
`run` and `demo` 143 by SIGTERM.
"""

import argparse
import os
import sys

from imetlib import commands, commands_collection, commands_kaggle, commands_own, commands_tag
from imetlib.profiles import PROFILE_NAMES


def main(arguments=None):
    """Run one command.

    Args:
        arguments: list of str; None takes those of the process.

    Returns:
        int, the exit code.
    """
    parsed = build_parser().parse_args(arguments)
    try:
        return parsed.run(parsed)
    except BrokenPipeError:
        # The reader, `head` for one, has seen enough; Python must not complain at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("\nimetlib: interrupted", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        print(f"imetlib {parsed.command}: {commands.explain(error)}", file=sys.stderr)
        return commands.exit_code_of(error)


def build_parser():
    """The `argparse.ArgumentParser` of all commands."""
    parser = argparse.ArgumentParser(
        prog="imetlib", description="Recognise the attributes of artworks."
    )
    choose = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name, run, summary, details=""):
        command = choose.add_parser(name, help=summary, description=f"{summary}. {details}")
        command.set_defaults(run=run)
        return command

    museum = add(
        "museum", commands_collection.museum, "draw a pocket museum, a collection to practise on"
    )
    museum.add_argument("folder", metavar="OUT", help="new or empty folder")
    museum.add_argument("--size", type=int, default=1200, help="pictures, 200 to 109237")
    museum.add_argument("--seed", type=int, default=0, help="another seed, another museum")
    museum.add_argument("--image-size", type=int, default=300, help="shorter side in pixels")

    unpack = add(
        "unpack",
        commands_collection.unpack,
        "unpack a zip or tar file that was downloaded",
        "Ends with 1, and writes nothing, where a member would leave the folder or is no file.",
    )
    unpack.add_argument("archive", metavar="ARCHIVE", help=".zip, .tar, .tar.gz, .tar.bz2, .tar.xz")
    unpack.add_argument("folder", metavar="FOLDER", help="new or empty folder")

    check = add(
        "check",
        commands_collection.check,
        "verify every row and every picture of a collection",
        "Lists all faults and ends with 1 if there are any. Where the folder has a SHA256SUMS, "
        "every file is compared with it.",
    )
    check.add_argument("collection", metavar="COLLECTION", help="folder with train.csv, labels.csv")
    _add_json(check)

    collect = add(
        "collect",
        commands_own.collect,
        "bring a table and a folder of pictures into the form of a collection",
        "Shows what each column becomes and what is left out; writes with --write alone. Without "
        "--picture it shows what the columns hold.",
    )
    commands_own.add_collect_arguments(collect)

    manifest = add(
        "manifest",
        commands_collection.manifest,
        "write SHA256SUMS over the tables and pictures of a collection",
        "`check` compares with it from then on, `sha256sum --check` does as well.",
    )
    manifest.add_argument(
        "collection", metavar="COLLECTION", help="folder with train.csv, labels.csv"
    )

    folds = add(
        "folds", commands_collection.folds, "share the training pictures out into even folds"
    )
    folds.add_argument("collection", metavar="COLLECTION", help="folder with train.csv, labels.csv")
    folds.add_argument("--folds", type=int, default=5, metavar="K", help="number of folds")
    folds.add_argument("--seed", type=int, default=0, help="another seed, other folds")
    folds.add_argument("--out", default="folds.csv", metavar="FILE", help="default: folds.csv")
    _add_json(folds)

    run = add(
        "run",
        commands.run,
        "run notebooks one after another",
        "Stops at the first that fails. Ends with 0, or 1 (a cell failed), 2 (unknown notebook or "
        "parameter), 3 (time limit), 4 (kernel died), 130 (Ctrl-C), 143 (SIGTERM). The executed "
        "notebook is saved as it runs, with the true state of every cell.",
    )
    run.add_argument("notebooks", nargs="+", metavar="NOTEBOOK", help="number, name or path")
    run.add_argument("--collection", default="", metavar="DIR", help="default: looked for")
    run.add_argument("--profile", choices=PROFILE_NAMES, default="fast", help="default: fast")
    run.add_argument(
        "-p", dest="parameters", action="append", default=[], metavar="NAME=VALUE",
        help="a parameter of the notebooks; can be given several times",
    )  # fmt: skip
    run.add_argument("--out", default="", metavar="DIR", help="default: runs")
    run.add_argument("--timeout", type=float, metavar="SECONDS", help="limit for each cell")
    _add_json(run)

    predict = add("predict", commands.predict, "name the attributes of the pictures in a folder")
    predict.add_argument("folder", metavar="FOLDER", help="pictures; folders in it count too")
    predict.add_argument("--run", dest="run_folder", required=True, metavar="RUN",
                         help="run folder, with record.json, or an exported one")  # fmt: skip
    predict.add_argument("--out", metavar="CSV", help="default: standard output")
    predict.add_argument("--bfloat16", action="store_true",
                         help="exported runs: faster where the processor has it, but no longer "
                         "the same labels")  # fmt: skip

    export = add(
        "export",
        commands.export,
        "write a run as a folder that predicts by OpenVINO, without TensorFlow",
        "Twice as fast on processors, with the same labels; needs the extra `export`. `predict "
        "--run` takes the folder.",
    )
    export.add_argument("run_folder", metavar="RUN", help="run folder, the one with record.json")
    export.add_argument("folder", metavar="OUT", help="new or empty folder")

    tag = add(
        "tag",
        commands_tag.tag,
        "name the attributes of very many pictures, on many machines if need be",
        "Writes Parquet files, one a shard, into OUT/shards. Called again it goes on with the "
        "shards that are missing. Ends with 1 where pictures could not be read.",
    )
    commands_tag.add_tag_arguments(tag)

    verify = add("verify", commands.verify, "check a submission against sample_submission.csv")
    verify.add_argument("submission", metavar="SUBMISSION", help="csv file")
    verify.add_argument("--collection", required=True, metavar="DIR", help="what it answers")
    _add_json(verify)

    audit = add(
        "audit",
        commands.audit,
        "compute every figure of a run again from its files",
        "Lists what is not what it says and ends with 1 if there is any; warnings do not count.",
    )
    audit.add_argument("run_folder", metavar="RUN", help="run folder, the one with record.json")
    audit.add_argument("--collection", required=True, metavar="DIR", help="what it was made on")
    _add_json(audit)

    repeat = add(
        "repeat",
        commands.repeat,
        "train a run again from its record and compare the figures",
        "Ends with 0 where all are the same, with 1 where one differs.",
    )
    repeat.add_argument("record", metavar="RECORD", help="record.json, or a folder with one")
    repeat.add_argument("--collection", default="", metavar="DIR", help="what it was made on")
    repeat.add_argument("--out", default="", metavar="DIR", help="default: runs")

    kaggle = add(
        "kaggle",
        None,
        "make a notebook ready for Kaggle, or check one that is",
        "Nothing is uploaded, and no account is needed. `check` ends with 1 where it finds faults.",
    )
    commands_kaggle.add_arguments(kaggle)

    demo = add(
        "demo",
        commands.demo,
        "from nothing to a submission, on a drawn museum",
        "Runs notebooks 01, 02, 07 and 08 in the fast profile: a few minutes on a CPU.",
    )
    demo.add_argument("--out", default="demo", metavar="DIR", help="default: demo")

    weights = add(
        "weights",
        commands_own.weights,
        "list the files of pretrained weights, and which of them are here",
        "Exact names, sizes and digests; downloads nothing. With --dataset and --owner those found "
        "become a folder for `kaggle datasets create`. Ends with 1 where a digest differs.",
    )
    commands_own.add_weights_arguments(weights)

    versions = add(
        "versions",
        commands.versions,
        "name this environment, and what in it has known security holes",
        "Ends with 1 where a package lies below its floor; not on Kaggle, whose image does.",
    )
    _add_json(versions)
    return parser


def _add_json(command):
    command.add_argument("--json", action="store_true", help="one JSON object on standard output")


if __name__ == "__main__":
    sys.exit(main())
