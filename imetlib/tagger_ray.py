"""Name the attributes of a job's pictures on all machines of a Ray cluster.

Ray Data hands shards to actors, each of which opens the run once and writes its shards itself: the
folders of pictures, run and job must have the same path on every machine. Nothing of a picture
travels through Ray. Where an actor dies Ray starts it again and its shard comes once more.
"""

import os

import numpy as np

# An actor that dies so often by one shard, of memory for one, is not started again.
RESTARTS = 2


class RayTagger:
    """Actor around `imetlib.tagger.Tagger`, for `map_batches`.

    Args:
        out, run_folder, workers: see `Tagger`.
    """

    def __init__(self, out, run_folder, workers):
        from imetlib.tagger import Tagger

        self.tagger = Tagger(out, run_folder, workers=workers)

    def __call__(self, batch):
        facts = {"shard": [], "num_pictures": [], "num_unreadable": [], "error": []}
        for shard in batch["shard"].tolist():
            try:
                found = {**self.tagger.tag(shard), "error": ""}
            except ValueError as error:
                # As data: an exception would reach the caller in pages of Ray's own words.
                found = {"shard": shard, "num_pictures": 0, "num_unreadable": 0}
                found["error"] = str(error)
            for name, value in found.items():
                facts[name].append(value)
        return {name: np.array(values) for name, values in facts.items()}


def start_ray():
    """Join the cluster that the environment's `RAY_ADDRESS` names, or start Ray on this machine.

    Without its dashboard, and without the statistics that it would send home.

    Raises:
        ValueError: Ray is not installed.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        import ray
        import ray.data
    except ModuleNotFoundError as error:
        raise ValueError(
            "The engine ray needs Ray, which is not installed: "
            "pip install -c constraints.txt 'imetlib[ray]', or take --engine here"
        ) from error
    if not ray.is_initialized():
        ray.init(include_dashboard=False, log_to_driver=False, logging_level="error")
    ray.data.DataContext.get_current().enable_progress_bars = False
    return ray


def tag_with_ray(job, run_folder, shards, *, actors=0, actor_class=RayTagger):
    """Answer shards on all machines of a Ray cluster.

    Args:
        job: `imetlib.tag_job.TagJob`.
        run_folder: folder of the run, absolute where Ray has more machines than this one.
        shards: numbers of shards, as `TagJob.missing` gives them.
        actors: int >= 0, processes with the run in them, each with its share of the cores and, on
            a cluster with GPUs, a GPU; 0: one a GPU, else one a machine.
        actor_class: class of the actors.

    Yields:
        dict, see `imetlib.tagger.Tagger.tag`, in the order in which shards are finished.

    Raises:
        ValueError: a shard could not be done, or the actor that worked on it died again and again;
            it is named, finished shards stay; or Ray is not installed.
    """
    if not shards:
        return
    if actors < 0:
        raise ValueError(f"`actors` must be 0 or greater. Received: actors={actors}")
    ray = start_ray()
    cluster = ray.cluster_resources()
    gpus = int(cluster.get("GPU", 0))
    actors = min(actors or gpus or len(ray.nodes()), len(shards))
    cores = max(1, int(cluster.get("CPU", 1)) // actors)
    tasks = ray.data.from_items(
        [{"shard": int(shard)} for shard in shards], override_num_blocks=len(shards)
    )
    results = tasks.map_batches(
        actor_class,
        fn_constructor_args=(str(job.out.resolve()), str(run_folder), cores),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=actors),
        num_cpus=cores,
        num_gpus=min(1, gpus / actors),
        max_restarts=RESTARTS,
        max_task_retries=RESTARTS,
        runtime_env={"env_vars": {"KERAS_BACKEND": job.settings["backend"]}},
    )
    try:
        for facts in results.iter_rows():
            error = facts.pop("error")
            if error:
                raise ValueError(error)
            yield facts
    except ray.exceptions.RayError as error:
        begun = ", ".join(map(str, job.begun())) or "none"
        raise ValueError(
            f"A process of Ray died more than {RESTARTS} times; it was at work on shard {begun} "
            f"of {job.num_shards}. Finished shards stay. Ray says: {str(error).splitlines()[0]}"
        ) from error
