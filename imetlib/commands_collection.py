"""What the commands do that make, check and divide a collection; see `imetlib.commands`."""

import json
import sys

from imetlib.commands import FAULTS_FOUND, OK, below


def museum(arguments):
    """Draw a pocket museum."""
    from imetlib.collection.museum import draw_museum

    folder = draw_museum(
        arguments.folder,
        size=arguments.size,
        image_size=arguments.image_size,
        seed=arguments.seed,
        progress=sys.stderr.isatty(),
    )
    print(f"{folder}: {arguments.size:,} pictures drawn")
    return OK


def unpack(arguments):
    """Unpack an archive, such as a collection's pictures."""
    from imetlib.archives import unpack as unpack_archive

    folder = unpack_archive(arguments.archive, arguments.folder)
    print(f"{folder}: {sum(path.is_file() for path in folder.rglob('*')):,} files")
    return OK


def check(arguments):
    """Verify tables and pictures, and list every fault of both."""
    from imetlib.collection.csvfiles import CollectionError
    from imetlib.collection.images import SUFFIXES, check_images
    from imetlib.collection.manifest import MANIFEST_FILE, verify_manifest
    from imetlib.collection.tables import read_collection
    from imetlib.paths import find_collection

    root = find_collection(arguments.collection)
    facts, faults = {"collection": root.name}, []
    try:
        collection = read_collection(root)
        facts |= {
            "num_train": len(collection.train),
            "num_test": len(collection.test_ids),
            "num_classes": collection.num_classes,
            "groups": {group: len(columns) for group, columns in collection.groups.items()},
            "sha256": collection.sha256,
        }
    except CollectionError as error:
        faults += error.faults
    # All files of both folders, so that faults in the tables do not hide those of pictures.
    pictures = sorted(
        path
        for split in ("train", "test")
        for path in (root / split).glob("*")
        if path.suffix.lower() in SUFFIXES
    )
    facts["num_pictures"] = len(pictures)
    found = check_images(pictures, progress=sys.stderr.isatty())
    faults += [f"{below(fault.path, root)}: {fault.reason}" for fault in found]
    facts["manifest"] = (root / MANIFEST_FILE).exists()
    if facts["manifest"]:
        try:
            faults += verify_manifest(root, progress=sys.stderr.isatty())
        except CollectionError as error:
            faults += [f"{MANIFEST_FILE}, {fault}" for fault in error.faults]
    if arguments.json:
        print(json.dumps({**facts, "faults": faults}, indent=2))
        return FAULTS_FOUND if faults else OK
    for fault in faults:
        print(fault)
    if "sha256" in facts:
        groups = ", ".join(f"{group} {count:,}" for group, count in facts["groups"].items())
        print(
            f"{root.name}: {facts['num_train']:,} training and {facts['num_test']:,} test "
            f"pictures, {facts['num_classes']:,} attributes ({groups})"
        )
    compared = f", all compared with {MANIFEST_FILE}" if facts["manifest"] else ""
    print(f"{len(pictures):,} pictures opened{compared}, faults: {len(faults):,}")
    return FAULTS_FOUND if faults else OK


def manifest(arguments):
    """Write the digests of a collection's files."""
    from imetlib.collection.manifest import write_manifest
    from imetlib.paths import find_collection

    path = write_manifest(find_collection(arguments.collection), progress=sys.stderr.isatty())
    with path.open(encoding="utf-8") as file:
        print(f"{path}: {sum(1 for _ in file):,} files")
    return OK


def folds(arguments):
    """Make folds and write them to a file."""
    from imetlib.collection.folds import fold_report, make_folds, write_folds
    from imetlib.collection.tables import read_collection
    from imetlib.paths import find_collection

    collection = read_collection(find_collection(arguments.collection), require_pictures=False)
    made = make_folds(
        collection.train, arguments.folds, specimens=collection.specimens, seed=arguments.seed
    )
    meta = {"seed": arguments.seed, "collection_sha256": collection.sha256}
    path = write_folds(arguments.out, collection.train.ids, made, meta)
    report = fold_report(collection.train, made, specimens=collection.specimens)
    facts = {
        "path": str(path),
        "num_pictures": report.sizes.tolist(),
        "mean_deviation": report.mean_deviation,
        "max_deviation": report.max_deviation,
        "absent_attributes": report.absent.tolist(),
        "cut_specimens": report.cut_specimens,
    }
    if arguments.json:
        print(json.dumps(facts, indent=2))
        return OK
    print(f"{path}: pictures in each fold: {', '.join(f'{size:,}' for size in report.sizes)}")
    print(
        f"pictures with an attribute differ from an even share by {report.mean_deviation:.2f} "
        f"on average, by {report.max_deviation:.1f} at most"
    )
    return OK
