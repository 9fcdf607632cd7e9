"""The JSON file that a benchmark leaves."""

import json

from imetlib.delivery.records import environment


def write_figures(path, figures):
    """Write a benchmark's figures with the environment that they were measured in.

    Args:
        path: `pathlib.Path`; its folder is made where missing.
        figures: dict of what JSON can hold.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    record = {**figures, "environment": environment()}
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
