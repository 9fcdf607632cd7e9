"""What the commands of `python -m imetlib` do; each returns its exit code.

Results go to standard output, progress and errors to standard error. Heavy libraries are imported
by the command that needs them, so that `--help` answers at once.
"""

import contextlib
import csv
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

OK, FAULTS_FOUND, BAD_CALL = 0, 1, 2
PREDICT_AT_ONCE = 4096


def run(arguments):
    """Run notebooks in the order given, until one fails."""
    from imetlib.delivery.notebooks import find_notebook, run_notebook
    from imetlib.delivery.parameters import check_parameters, parse_parameters, read_parameters
    from imetlib.paths import find_collection, runs_folder

    if arguments.profile == "fast" and arguments.collection:
        raise ValueError(
            "The fast profile always takes the pocket museum: for a collection of yours add "
            "--profile report or --profile full."
        )
    sources = [find_notebook(name) for name in arguments.notebooks]
    given = [parse_parameters(source, arguments.parameters) for source in sources]
    # One on other data, such as CIFAR-10, has no such parameter.
    on_collection = ["collection" in read_parameters(source) for source in sources]
    if arguments.collection and not any(on_collection):
        raise ValueError("None of these notebooks takes a collection.")
    collection = ""
    if arguments.profile != "fast" and any(on_collection):
        collection = str(find_collection(arguments.collection))
    settings = [
        {"profile": arguments.profile} | ({"collection": collection} if takes_one else {})
        for takes_one in on_collection
    ]
    for source, own, parameters in zip(sources, settings, given, strict=True):
        check_parameters(source, own | {"out": ""} | parameters)
    out = runs_folder(arguments.out)
    results = []
    for source, own, parameters in zip(sources, settings, given, strict=True):
        results.append(
            run_notebook(
                source,
                out / "notebooks",
                own | {"out": str(out)} | parameters,
                timeout_seconds=arguments.timeout,
            )
        )
        if not arguments.json:
            print(results[-1].path or results[-1].error)
        if results[-1].exit_code:
            break
    if arguments.json:
        listed = [
            {
                "notebook": source.stem,
                "path": None if result.path is None else str(result.path),
                "exit_code": result.exit_code,
                "error": result.error,
                "seconds": round(result.seconds, 1),
            }
            for source, result in zip(sources, results, strict=False)
        ]
        print(json.dumps({"notebooks": listed}, indent=2))
    return results[-1].exit_code


def predict(arguments):
    """Name the attributes of pictures that belong to no collection."""
    from imetlib.collection.images import SUFFIXES
    from imetlib.files import replacing

    root = Path(arguments.folder)
    if not root.is_dir():
        raise FileNotFoundError(f"No folder at {root}. Give one that holds pictures.")
    pictures = sorted(path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not pictures:
        raise ValueError(f"{root} holds no pictures ({', '.join(SUFFIXES)}).")
    from imetlib.exported_files import is_export

    answers = _answers_of_export if is_export(arguments.run_folder) else _answers_of_run
    faults = []
    with contextlib.ExitStack() as stack:
        file = sys.stdout
        if arguments.out:
            path = stack.enter_context(replacing(arguments.out))
            file = stack.enter_context(path.open("w", encoding="utf-8", newline=""))
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("picture", "attribute", "probability"))
        for scores, chosen in answers(arguments, pictures, root, faults):
            for picture, share, columns in zip(scores.ids, scores.y_prob, chosen, strict=True):
                for column in sorted(columns.nonzero()[0], key=lambda column: -share[column]):
                    writer.writerow((picture, scores.class_names[column], f"{share[column]:.3f}"))
    for fault in faults:
        print(f"left out: {fault}", file=sys.stderr)
    return FAULTS_FOUND if faults else OK


def _answers_of_run(arguments, pictures, root, faults):
    """Scores and label sets of so many pictures at once; what cannot be read goes to `faults`."""
    from imetlib.collection.images import check_images
    from imetlib.training.load import load_run

    if arguments.bfloat16:
        raise ValueError("--bfloat16 is for an exported run: make one with `imetlib export`.")
    trained = load_run(arguments.run_folder)
    faults += check_images(pictures, progress=sys.stderr.isatty())
    unreadable = {fault.path for fault in faults}
    pictures = [path for path in pictures if str(path) not in unreadable]
    for start in range(0, len(pictures), PREDICT_AT_ONCE):
        part = pictures[start : start + PREDICT_AT_ONCE]
        scores = trained.predict(part, ids=[below(path, root) for path in part])
        yield scores, trained.decide(scores)


def _answers_of_export(arguments, pictures, root, faults):
    """As `_answers_of_run`, in one pass over the pictures and without Keras."""
    import numpy as np
    from tqdm.auto import tqdm

    from imetlib.exported_files import open_export
    from imetlib.scores import Scores

    exported = open_export(
        arguments.run_folder, precision="bfloat16" if arguments.bfloat16 else "float32"
    )
    names = exported.class_names
    hidden = not sys.stderr.isatty()
    with tqdm(total=len(pictures), unit="picture", mininterval=0.5, disable=hidden) as bar:
        for start in range(0, len(pictures), PREDICT_AT_ONCE):
            part = pictures[start : start + PREDICT_AT_ONCE]
            ids = [below(path, root) for path in part]
            found = exported.predict_files(part, ids=ids, k=len(names), on_batch=bar.update)
            faults += found.faults
            if found.ids:
                scores = Scores(np.array(found.ids, dtype=object), found.scores.dense(), names)
                yield scores, exported.decide(scores)


def export(arguments):
    """Write a run as a folder that predicts without Keras and TensorFlow."""
    from imetlib.export import export_run

    def show(line):
        print(line, file=sys.stderr, flush=True)

    record = export_run(arguments.run_folder, arguments.folder, progress=show)
    differences = ", ".join(f"{name} {value:.1g}" for name, value in record["differences"].items())
    print(
        f"{arguments.folder}: {len(record['networks'])} networks, {len(record['class_names']):,} "
        f"attributes; greatest difference of a logit: {differences}"
    )
    print(f"predict with it: python -m imetlib predict FOLDER --run {arguments.folder}")
    return OK


def verify(arguments):
    """Check a submission."""
    from imetlib.collection.tables import read_collection
    from imetlib.delivery.submission import check_submission
    from imetlib.paths import find_collection

    path = Path(arguments.submission)
    if not path.is_file():
        raise FileNotFoundError(f"No submission at {path}.")
    root = find_collection(arguments.collection)
    collection = read_collection(root, require_pictures=False)
    found = check_submission(path, root / "sample_submission.csv", collection.num_classes)
    if arguments.json:
        facts = {"num_rows": found.num_rows, "num_labels": found.num_labels}
        print(json.dumps({**facts, "faults": found.faults, "notes": found.notes}, indent=2))
        return FAULTS_FOUND if found.faults else OK
    for line in (*found.faults, *(f"note: {note}" for note in found.notes)):
        print(line)
    mean = found.num_labels / max(found.num_rows, 1)
    print(
        f"{path.name}: {found.num_rows:,} rows, {mean:.2f} attributes a picture, "
        f"faults: {len(found.faults):,}"
    )
    return FAULTS_FOUND if found.faults else OK


def audit(arguments):
    """Compute every figure of a run again, and list what is not what it says."""
    from imetlib.collection.tables import read_collection
    from imetlib.delivery.audit_run import audit_run
    from imetlib.paths import find_collection

    collection = read_collection(find_collection(arguments.collection), require_pictures=False)
    found = audit_run(arguments.run_folder, collection)
    errors = sum(finding.severity == "error" for finding in found)
    name = Path(arguments.run_folder).resolve().name
    if arguments.json:
        listed = [asdict(finding) for finding in found]
        print(json.dumps({"run": name, "findings": listed}, indent=2))
        return FAULTS_FOUND if errors else OK
    for finding in found:
        print(f"{finding.severity}, {finding.rule}: {finding.message}")
    print(f"{name}: errors: {errors:,}, warnings: {len(found) - errors:,}")
    return FAULTS_FOUND if errors else OK


def repeat(arguments):
    """Train a run again from its record, and compare the figures."""
    from imetlib.training.repeat import repeat_run

    again = repeat_run(arguments.record, arguments.collection, arguments.out, verbose=2)
    for name, (was, now) in again.changed.items():
        print(f"{name}: recorded {was}, repeated {now}")
    verdict = "figures differ" if again.changed else "every figure is the same"
    print(f"{again.record['run']}: F2 {again.record['score']:.4f}, {verdict}")
    return FAULTS_FOUND if again.changed else OK


def demo(arguments):
    """Draw the museum, run the main path, score its submission, write the report."""
    from imetlib.demo import run_demo

    return run_demo(arguments.out)


def versions(arguments):
    """Name the environment, and the packages below their floors."""
    from imetlib.delivery.floors import below_floors, installed_versions
    from imetlib.delivery.machine import environment

    facts = environment()
    facts["versions"] |= installed_versions()
    below = below_floors()
    if arguments.json:
        print(json.dumps({**facts, "below_floor": below}, indent=2))
    else:
        for name, value in (facts | facts.pop("versions")).items():
            print(f"{name}: {value}")
        for line in below:
            print(line)
    # Nobody can change Kaggle's image, and nothing foreign is opened there.
    return FAULTS_FOUND if below and "KAGGLE_KERNEL_RUN_TYPE" not in os.environ else OK


def explain(error):
    """An error in one line; a collection's list of faults in one line each."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    if hasattr(error, "faults"):
        return str(error)
    return " ".join(str(error).split())


def exit_code_of(error):
    """1 where the error lists faults of a collection, submission or picture, else 2."""
    return FAULTS_FOUND if hasattr(error, "faults") else BAD_CALL


def below(path, root):
    """The part of a path below a folder, with slashes on every system."""
    return Path(path).relative_to(root).as_posix()
