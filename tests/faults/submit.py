"""Write a submission over what stands there, for who ends the process at a system call.

python tests/faults/submit.py FOLDER LABEL
"""

import sys
from pathlib import Path

import numpy as np

from imetlib.delivery.submission import write_submission

NUM_ROWS = 600  # more than one buffer of a file


def submit(folder, label):
    """Every picture gets one label, so that a file of two answers would show."""
    ids = [f"{row:016x}" for row in range(NUM_ROWS)]
    path, sample = Path(folder) / "submission.csv", Path(folder) / "sample_submission.csv"
    if not sample.exists():
        sample.write_text("id,attribute_ids\n" + "".join(f"{i},0\n" for i in ids))
    answer = [np.array([label])] * NUM_ROWS
    write_submission(path, ids, answer, sample, num_classes=10, overwrite=True)


if __name__ == "__main__":
    submit(sys.argv[1], int(sys.argv[2]))
