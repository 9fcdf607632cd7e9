"""From a model and batches to a run folder: fitting, scoring, predicting."""

import imetlib.quiet  # noqa: F401  before the first import of keras
