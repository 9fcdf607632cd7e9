"""What a network learns by: optimizer, schedule and loss of a profile, and when it stops."""

import keras

from imetlib.training.data_parallel import num_replicas
from imetlib.training.devices import accelerator_names
from imetlib.training.losses import LOSSES
from imetlib.training.mirrored import MirroredAdamW, MirroredLossScale
from imetlib.training.part_losses import SharedTargets
from imetlib.training.schedules import warmup_cosine

# Weight of each part's own loss.
PART_WEIGHT = 0.1
STEPS_IN_ONE_CALL = 8


def compile_model(model, profile, updates):
    """AdamW with warm-up and cosine over a number of updates, and the profile's loss.

    Args:
        model: `keras.Model`.
        profile: `Profile`.
        updates: int >= 1, or None for a constant rate, which a callback sets.

    Returns:
        (`keras.losses.Loss`, `keras.optimizers.schedules.CosineDecay` or float), both in use.
    """
    schedule = profile.learning_rate
    if updates is not None:
        warmup = max(1, round(updates * profile.warmup_fraction))
        schedule = warmup_cosine(profile.learning_rate, updates, warmup)
    mirrored = num_replicas() > 1
    optimizer = (MirroredAdamW if mirrored else keras.optimizers.AdamW)(
        schedule,
        # Keras's own name, so that a checkpoint fits any number of devices.
        name="adam_w" if mirrored else None,
        weight_decay=profile.weight_decay,
        use_ema=bool(profile.ema),
        ema_momentum=profile.ema or 0.99,
        gradient_accumulation_steps=profile.accumulation if profile.accumulation > 1 else None,
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    if mirrored and model.dtype_policy.name == "mixed_float16":
        optimizer = MirroredLossScale(optimizer, name="loss_scale_optimizer")
    loss = LOSSES[profile.loss]()
    # Multi-attention has several logits an attribute while it learns.
    several = len(model.output.shape) == 3
    model.compile(
        optimizer=optimizer,
        loss=SharedTargets(loss, PART_WEIGHT) if several else loss,
        # A time budget takes the time of each.
        steps_per_execution=1 if updates is None else steps_in_one_call(),
    )
    return loss, schedule


def steps_in_one_call():
    """Training steps between which Python does nothing, int.

    On tensorflow Keras waits for the loss at the end of every call, and an accelerator then waits
    for Python. A processor gains little (`benchmarks.steps`); jax would compile so many
    steps one after the other, and needs none of it (`StopOnNaN`). Under
    `MirroredStrategy` Keras 3.15 fails with batches of several sizes.
    """
    waits = keras.backend.backend() == "tensorflow" and accelerator_names()
    return STEPS_IN_ONE_CALL if waits and num_replicas() == 1 else 1


class StopOnNaN(keras.callbacks.TerminateOnNaN):
    """Ends training soon after a step whose loss is no number.

    Because of Keras's own, the next step waits for the loss of the last one and a GPU for Python.
    This one lets Keras read it in a thread beside training on jax and torch; the end of an epoch
    waits for it. On tensorflow Keras reads the loss after every call itself
    (`steps_in_one_call`).
    """

    async_safe = True


class LearningRate:
    """The learning rate of a compiled model, which can be halved as training goes on.

    Args:
        model: `keras.Model`.
        schedule: `keras.optimizers.schedules.CosineDecay` that it was compiled with.

    Attributes:
        halved: bool.
    """

    def __init__(self, model, schedule):
        self.model, self.schedule, self.halved = model, schedule, False

    def halve(self):
        """Half of every rate of the schedule, in the model's next `fit`."""
        self._scale(0.5)
        self.halved = True

    def get_state(self):
        """What to go on from."""
        return {"halved": self.halved}

    def set_state(self, state):
        """Go on from what `get_state` gave."""
        if state["halved"] != self.halved:
            self._scale(0.5 if state["halved"] else 2.0)
        self.halved = state["halved"]

    def _scale(self, factor):
        self.schedule.initial_learning_rate *= factor
        self.schedule.warmup_target *= factor
        # The rates are constants of a step that was traced with them.
        self.model.make_train_function(force=True)
