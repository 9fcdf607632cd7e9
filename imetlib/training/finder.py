"""Which learning rate to take: a short pass with a rising one (Smith, arXiv 1506.01186)."""

import math
from dataclasses import dataclass

import keras
import numpy as np

_SMOOTHING = 0.9
# The search has seen enough when the loss is this many times its least value.
_DIVERGED = 4.0


@dataclass(frozen=True, eq=False)
class LearningRateCurve:
    """Loss of a network while its learning rate rises.

    Args:
        rates: `(num_steps,)` float64, rising by a constant factor.
        losses: `(num_steps,)` float64, exponentially smoothed training loss after each step.
        suggestion: float, the rate at which the loss falls steepest: a safe greatest rate for
            a schedule with warm-up.
    """

    rates: np.ndarray
    losses: np.ndarray
    suggestion: float


def find_learning_rate(model, batches, *, start=1e-6, stop=1.0, steps=100):
    """Train a copy of a network for some steps while the learning rate rises exponentially.

    The network itself is not touched. The search ends early when the loss is no number any
    more or four times its least value.

    Args:
        model: compiled `keras.Model`; its optimizer's own rate or schedule is left aside.
        batches: `Batches` with labels, or any sequence of `(inputs, targets)`; begun again
            where it is shorter than `steps`.
        start, stop: float, 0 < start < stop. First and last learning rate.
        steps: int >= 10.

    Returns:
        `LearningRateCurve`, of fewer than `steps` steps where training diverged.

    Raises:
        ValueError: the model is not compiled, an argument is out of its range, or the loss
            never fell.
    """
    if not 0 < start < stop or steps < 10:
        raise ValueError(
            "`start` must lie between 0 and `stop`, and `steps` be 10 or more. "
            f"Received: start={start}, stop={stop}, steps={steps}"
        )
    if getattr(model, "optimizer", None) is None:
        raise ValueError(f"{model.name} has no optimizer: call `compile` first")
    probe = keras.models.clone_model(model)
    probe.set_weights(model.get_weights())
    settings = {**model.optimizer.get_config(), "learning_rate": start}
    probe.compile(optimizer=type(model.optimizer).from_config(settings), loss=model.loss)
    rates, losses, mean = [], [], 0.0
    for step, rate in enumerate(np.geomspace(start, stop, steps)):
        probe.optimizer.learning_rate = float(rate)
        loss = float(probe.train_on_batch(*batches[step % len(batches)]))
        mean = _SMOOTHING * mean + (1 - _SMOOTHING) * loss
        smoothed = mean / (1 - _SMOOTHING ** (step + 1))
        if not math.isfinite(smoothed) or (losses and smoothed > _DIVERGED * min(losses)):
            break
        rates.append(rate)
        losses.append(smoothed)
    slopes = np.gradient(losses, np.log(rates)) if len(rates) > 2 else np.zeros(1)
    if not slopes.min() < 0:
        raise ValueError(
            f"The loss never fell in {len(rates)} steps from a rate of {start}: begin with a "
            "smaller `start`, or look at the labels"
        )
    return LearningRateCurve(np.array(rates), np.array(losses), float(rates[slopes.argmin()]))
