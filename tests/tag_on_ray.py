"""Shards of a job on Ray with two CPUs, for tests/test_tagging.py.

    python tests/tag_on_ray.py OUT RUN BEHAVIOUR

BEHAVIOUR: "well", "dies once" or "dies by shard 2". The last line of standard output is JSON.
"""

import json
import os
import signal
import sys
from pathlib import Path

import ray

from imetlib.tag_job import open_job
from imetlib.tagger_ray import RayTagger, tag_with_ray

out, run, behaviour = sys.argv[1:]
deaths = Path(out) / ".deaths"


def is_first():
    """Whether no actor has died yet; of several that ask at once, one is the first."""
    try:
        deaths.open("x").close()
    except FileExistsError:
        return False
    return True


class Watched(RayTagger):
    """Dies where it is told to."""

    def __call__(self, batch):
        shard = batch["shard"].tolist()[0]
        dies = (behaviour == "dies once" and is_first()) or (
            behaviour == "dies by shard 2" and shard == 2
        )
        if dies:
            self.tagger.job.begun_path(shard).parent.mkdir(exist_ok=True)
            self.tagger.job.begun_path(shard).touch()
            with deaths.open("a") as file:
                file.write(f"{shard}\n")
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(batch)


if __name__ == "__main__":
    job, done, error = open_job(out), [], ""
    started, init = [], ray.init
    ray.init = lambda **how: started.append(init(num_cpus=2, **how))
    try:
        how = {"actors": 1 if behaviour == "dies by shard 2" else 2, "actor_class": Watched}
        done = list(tag_with_ray(job, run, job.missing(), **how))
    except ValueError as found:
        error = str(found)
    facts = {
        "done": done,
        "error": error,
        "deaths": len(deaths.read_text().split()) if deaths.exists() else 0,
        "dashboard": started[0].dashboard_url,
        "statistics": os.environ["RAY_USAGE_STATS_ENABLED"],
    }
    ray.shutdown()
    print(json.dumps(facts))
