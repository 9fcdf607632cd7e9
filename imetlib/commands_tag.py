"""What `tag` does: attributes of very many pictures, shard by shard."""

import json
import sys
from pathlib import Path

from imetlib.commands import FAULTS_FOUND, OK


def add_tag_arguments(command):
    """The arguments of `tag`, on its `argparse.ArgumentParser`."""
    add = command.add_argument
    add("folder", metavar="FOLDER",
        help="pictures; folders in it count too; or an address, s3://bucket/pictures")  # fmt: skip
    add("--run", dest="run_folder", required=True, metavar="RUN",
        help="run folder, the one with record.json")  # fmt: skip
    add("--out", required=True, metavar="OUT", help="new folder, or one of this very job")
    cut = command.add_mutually_exclusive_group()
    cut.add_argument("--shards", type=int, metavar="N", help="number of shards")
    cut.add_argument("--shard-size", type=int, default=10_000, metavar="N",
        help="pictures of a shard at most; default: 10000")  # fmt: skip
    add("--top", type=int, default=128, metavar="K",
        help="attributes of a picture that are kept with probabilities; default: 128")  # fmt: skip
    add("--scores-only", action="store_true", help="choose no attributes")
    add("--engine", choices=("here", "ray"), default="here",
        help="this process (default), or all machines of a Ray cluster (RAY_ADDRESS)")  # fmt: skip
    add("--actors", type=int, default=0, metavar="N",
        help="processes of Ray; default: one a GPU, else one a machine")  # fmt: skip
    add("--json", action="store_true", help="one JSON object on standard output")


def tag(arguments):
    """Plan a job or take it up, do its missing shards, and say what is there."""
    from imetlib.tag_job import plan_job
    from imetlib.training.load import load_run

    run_folder = Path(arguments.run_folder).expanduser().resolve()
    job = plan_job(
        arguments.folder,
        load_run(run_folder),
        arguments.out,
        num_shards=arguments.shards,
        shard_size=arguments.shard_size,
        top=arguments.top,
        decisions=not arguments.scores_only,
    )
    missing = job.missing()
    if arguments.engine == "ray":
        from imetlib.tagger_ray import tag_with_ray

        results = tag_with_ray(job, run_folder, missing, actors=arguments.actors)
    else:
        from imetlib.tagger import tag_here

        results = tag_here(job, run_folder, missing)
    before = job.num_shards - len(missing)
    done = 0
    for done, facts in enumerate(results, start=1):
        print(
            f"shard {facts['shard']}: {facts['num_pictures']:,} pictures, "
            f"{facts['num_unreadable']:,} unreadable; {before + done:,} of {job.num_shards:,}",
            file=sys.stderr,
        )
    job.clean()
    unreadable = job.count_unreadable()
    facts = {
        "folder": str(job.out),
        "num_pictures": job.settings["num_pictures"],
        "num_unreadable": unreadable,
        "num_shards": job.num_shards,
        "done_before": before,
        "done_now": done,
    }
    if arguments.json:
        print(json.dumps(facts, indent=2))
    else:
        print(
            f"{job.out}: {facts['num_pictures']:,} pictures in {job.num_shards:,} shards, "
            f"{done:,} of them done now, {before:,} before; unreadable: {unreadable:,}"
        )
    return FAULTS_FOUND if unreadable else OK
