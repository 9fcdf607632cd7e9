"""A run of a few networks within some seconds, as a hosted notebook would do it.

    python tests/faults/timed.py FOLDER SECONDS [--epochs N] [--later SECONDS]

The seconds count from the start of the process. Prints one JSON line when everything is written.
"""

import argparse
import json
import sys
import time
from pathlib import Path

START = time.monotonic()


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--epochs", type=int, default=10_000)
    parser.add_argument("--later", type=float, default=0.0)
    options = parser.parse_args(arguments)

    from imetlib.collection.prepared import prepare_pictures, prepare_tables
    from imetlib.profiles import get_profile
    from imetlib.timed import StandingSubmission
    from imetlib.training.runs import train_all_folds
    from imetlib.training.session import Session

    session = Session(
        options.seconds / 3600,
        later_hours=options.later / 3600,
        spent_seconds=time.monotonic() - START,
        reserve_seconds=4.0,
    )
    profile = get_profile(
        "fast",
        museum_size=240,
        museum_side=48,
        image_shape=(32, 32, 3),
        num_folds=3,
        epochs=options.epochs,
    )
    data = prepare_tables(profile, out=options.folder)
    folder = options.folder / "run"
    standing = StandingSubmission(folder, data, session)
    first = time.monotonic() - START
    record = train_all_folds(
        prepare_pictures(data), folder, session=session, on_network=standing.improve
    )
    print(
        json.dumps(
            {
                "first_submission": first,
                "used": time.monotonic() - START,
                "score": record["score"],
                "constant_score": record["constant_score"],
                "networks": len(record["best_epochs"]),
                "standing": standing.standing.score,
                "stopped": record.get("stopped_in_time"),
            }
        )
    )


if __name__ == "__main__":
    sys.exit(main())
