"""Save a checkpoint over two earlier ones, for who ends the process at a system call.

python tests/faults/save.py FOLDER EPOCH
"""

import importlib.util
import sys
from pathlib import Path

import numpy as np

SIDE = 300
MODULE = Path(__file__).parents[2] / "imetlib" / "training" / "checkpoint_files.py"


def save(folder, epoch):
    """Arrays, state and a further file that are all of one epoch."""
    # By its path: `imetlib.training` would import Keras, for each of some hundred processes.
    spec = importlib.util.spec_from_file_location("checkpoint_files", MODULE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    more = Path(folder).parent / "best"
    more.parent.mkdir(parents=True, exist_ok=True)
    more.write_bytes(bytes([epoch]) * 100_000)
    array = np.full((SIDE, SIDE), epoch, np.float32)
    return module.save_checkpoint(folder, epoch, {"said": epoch}, {"network/0000": array}, [more])


if __name__ == "__main__":
    save(sys.argv[1], int(sys.argv[2]))
