"""Import Keras without the backend's start-up lines on standard error.

TensorFlow's C++ part writes time-stamped lines at its import that no log level stops; in an
executed notebook they would be outputs that differ from run to run.
"""

import contextlib
import logging
import os
import sys


@contextlib.contextmanager
def quiet_stderr():
    """Send file descriptor 2 to null for a moment; an error inside is raised as usual."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    saved = os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        sys.stderr.flush()
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)


with quiet_stderr():
    import keras

    from imetlib.processes import join_processes

    join_processes()
    keras.ops.convert_to_tensor(0.0)  # the first operation starts the backend, and its lines

# Several models in one process are the rule here: TensorFlow would warn of each new one,
# on standard output in a notebook. Its import sets the level, so this comes after it.
logging.getLogger("tensorflow").setLevel(logging.ERROR)
