"""What `collect` and `weights` do: the user's own pictures, and the files of pretrained weights."""

import json
from dataclasses import asdict
from pathlib import Path

OK, FAULTS_FOUND = 0, 1
VERDICTS = {
    "fits": "the published digest fits",
    "differs": "NOT the published file, and refused; get it again, or give yours another name",
    "not published": "no digest to compare with",
    "another name": "taken by its name; not the published file",
    "not found": "not found",
}


def add_collect_arguments(command):
    """The arguments of `collect`, on its `argparse.ArgumentParser`."""
    add = command.add_argument
    add("table", metavar="TABLE", help=".csv, .tsv or .xlsx, one row a picture")
    add("pictures", metavar="PICTURES", help="folder of pictures; folders in it count too")
    add("folder", metavar="OUT", help="new or empty folder for the collection")
    add("--picture", metavar="COLUMN", default="",
        help="names the picture: a path, a file name, or one without suffix")  # fmt: skip
    add("--group", metavar="COLUMN[=GROUP]", action="append", default=[],
        help="values of one group; can be given several times, as can the next three")  # fmt: skip
    add("--list", metavar="COLUMN[=GROUP]", action="append", default=[], dest="lists",
        help="a list of names group::name, or of names of this group")  # fmt: skip
    add("--years", metavar="COLUMN[=GROUP]", action="append", default=[],
        help="dates; GROUP is decade or century, default: both")  # fmt: skip
    add("--separator", metavar="TEXT", action="append", default=[], dest="separators",
        help="between the values of a cell; default: |")  # fmt: skip
    add("--ignore", metavar="VALUE", action="append", default=[], help='such as "unknown"')
    add("--min-count", type=int, default=5, metavar="N",
        help="attributes of fewer training pictures are dropped; default: 5")  # fmt: skip
    add("--id", metavar="COLUMN", default="", help="default: the names of the picture files")
    add("--specimen", metavar="COLUMN", default="", help="equal where pictures show one object")
    add("--test-fraction", type=float, default=0.0, metavar="SHARE", help="drawn as test set")
    add("--test-column", metavar="COLUMN[=VALUE]", default="",
        help="test pictures have VALUE there, default: test")  # fmt: skip
    add("--seed", type=int, default=0, help="another seed, another test set")
    add("--merge-rows", action="store_true", help="several rows of a picture are united")
    add("--exact-dates", action="store_true", help="dates with ca. give their century alone")
    add("--copy", action="store_true", help="copy pictures; default: hard links where possible")
    add("--write", action="store_true", help="write what was shown")
    add("--json", action="store_true", help="one JSON object on standard output")


def collect(arguments):
    """Show what a table and a folder become as a collection, and write it if told to."""
    from imetlib.collection.own import plan_collection
    from imetlib.collection.own_files import (
        check_target,
        describe_columns,
        describe_plan,
        write_collection,
    )
    from imetlib.collection.own_pictures import PictureIndex
    from imetlib.collection.own_table import read_own_table

    pictures, folder = Path(arguments.pictures), Path(arguments.folder)
    if not pictures.is_dir():
        raise FileNotFoundError(f"No folder at {pictures}. Give the one that holds the pictures.")
    check_target(folder, pictures)
    table, index = read_own_table(arguments.table), PictureIndex(pictures)
    named = arguments.group + arguments.lists + arguments.years
    if not (arguments.picture and named):
        hint = "Name the columns: --picture, and --group, --list or --years for the attributes."
        if arguments.write or arguments.json:
            raise ValueError(f"{hint} Without --write and --json they are shown.")
        print("\n".join([*describe_columns(table, index), hint]))
        return OK
    plan = plan_collection(
        table,
        index,
        _own_columns(arguments, table),
        min_count=arguments.min_count,
        test_fraction=arguments.test_fraction,
        seed=arguments.seed,
        merge_rows=arguments.merge_rows,
        exact_dates=arguments.exact_dates,
    )
    if not arguments.json:
        print("\n".join(describe_plan(plan)))
    if arguments.write:
        write_collection(plan, folder, copy=arguments.copy)
    if arguments.json:
        facts = asdict(plan) | {"train": len(plan.train), "test": len(plan.test)}
        facts |= {"changed_ids": plan.changed_ids, "written": arguments.write}
        print(json.dumps(facts, indent=2, default=str))
    elif arguments.write:
        print(f"{folder}: written; `imetlib check` opens every picture")
    else:
        print("Nothing is written yet: the same call with --write does.")
    return OK


def _own_columns(arguments, table):
    """The arguments as `OwnColumns`."""
    from imetlib.collection.own_rows import DATE_GROUPS, OwnColumns

    def pairs(given):
        return [_split_column(text, table) for text in given]

    def groups(given):
        return {column: group or "_".join(column.lower().split()) for column, group in pairs(given)}

    test = None
    if arguments.test_column:
        column, value = _split_column(arguments.test_column, table)
        test = (column, value or "test")
    return OwnColumns(
        picture=arguments.picture,
        groups=groups(arguments.group),
        lists=groups(arguments.lists),
        years={
            column: (group,) if group else DATE_GROUPS for column, group in pairs(arguments.years)
        },
        id=arguments.id,
        specimen=arguments.specimen,
        test=test,
        separators=tuple(arguments.separators) or ("|",),
        ignored=tuple(arguments.ignore),
    )


def _split_column(text, table):
    """(column, what stands behind the last "="); a column's own name may hold one."""
    if "=" not in text or text in table.columns:
        return table.find_column(text), ""
    column, _, rest = text.rpartition("=")
    return table.find_column(column), rest.strip()


def add_weights_arguments(command):
    """The arguments of `weights`, on its `argparse.ArgumentParser`."""
    add = command.add_argument
    add("--dataset", metavar="DIR", default="",
        help="new or empty folder: those found, with dataset-metadata.json")  # fmt: skip
    add("--owner", metavar="NAME", default="", help="of the dataset: your name on Kaggle")
    add("--json", action="store_true", help="one JSON object on standard output")


def weights(arguments):
    """List the files of pretrained weights, and make a Kaggle dataset of those found."""
    if bool(arguments.dataset) != bool(arguments.owner):
        raise ValueError("--dataset and --owner go together: a dataset on Kaggle has an owner.")
    import imetlib.quiet  # noqa: F401
    from imetlib.models.weights_files import list_weights_files, write_weights_dataset
    from imetlib.paths import search_weights

    files = list_weights_files()
    written = None
    if arguments.dataset:
        written = write_weights_dataset(arguments.dataset, arguments.owner, files)
    differs = any(file.verdict == "differs" for file in files)
    if arguments.json:
        listed = [asdict(file) for file in files]
        facts = {"files": listed, "dataset": arguments.dataset or None}
        print(json.dumps(facts, indent=2, default=str))
        return FAULTS_FOUND if differs else OK
    for file in files:
        digest = f"{file.digest_kind} {file.digest}" if file.digest else "no digest published"
        found = f"{file.path}, {file.found_bytes / 1e6:.1f} MB: " if file.path else ""
        print(f"{file.backbone}: {file.file_name}, {file.num_bytes / 1e6:.1f} MB, {digest}")
        print(f"  {found}{VERDICTS[file.verdict]}")
    if written:
        folder, names = written
        print(f"{folder}: dataset-metadata.json and {', '.join(names)}. With an account:")
        print(f"  kaggle datasets create -p {folder}")
        print("Attached to a notebook, weights are found below /kaggle/input.")
    elif not any(file.path for file in files):
        print(f"Looked into {', '.join(search_weights(())[1])}; nothing is downloaded.")
    return FAULTS_FOUND if differs else OK
