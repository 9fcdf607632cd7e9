"""What Keras's optimizers lack where tensorflow keeps copies of a network on several devices."""

import keras
from keras import ops

from imetlib.training.data_parallel import call_across_replicas, num_replicas, sum_over_replicas


@keras.saving.register_keras_serializable("imetlib")
class MirroredAdamW(keras.optimizers.AdamW):
    """AdamW that accumulates gradients on several devices.

    Keras's own decides within each copy whether a step updates, and `MirroredStrategy` allows no
    update in such a branch. Here one decision is made for all copies. What is accumulated is the
    gradient of the whole batch, on every device the same, so that a checkpoint holds what one
    device would.
    """

    def _backend_apply_gradients(self, grads, trainable_variables):
        if not self.gradient_accumulation_steps:
            super()._backend_apply_gradients(grads, trainable_variables)
            return
        call_across_replicas(self._update_or_accumulate, grads, trainable_variables)
        if self.use_ema:
            self._update_model_variables_moving_average(self._trainable_variables)

    def _update_or_accumulate(self, strategy, grads, variables):
        def on_each(function):
            return lambda: strategy.extended.call_for_each_replica(
                function, args=(grads, variables)
            )

        updates = (self._iterations + 1) % self.gradient_accumulation_steps == 0
        ops.cond(updates, on_each(self._update), on_each(self._accumulate))

    def _accumulate(self, grads, variables):
        self._backend_increment_gradient_accumulators(
            sum_over_replicas(list(grads)), self._accumulators_of(variables)
        )

    def _update(self, grads, variables):
        # The update adds up what it gets from all copies.
        share = 1.0 / num_replicas()
        grads = [
            (grad + share * sums) / self.gradient_accumulation_steps
            for grad, sums in zip(grads, self._accumulators_of(variables), strict=True)
        ]
        self._apply_weight_decay(variables)
        self._backend_update_step(grads, variables, self.learning_rate)
        self._backend_reset_gradient_accumulators()

    def _accumulators_of(self, variables):
        return [self._accumulated_gradients[self._get_variable_index(one)] for one in variables]


@keras.saving.register_keras_serializable("imetlib")
class MirroredLossScale(keras.optimizers.LossScaleOptimizer):
    """Loss scaling of float16 that leaves a step out where any copy's gradients overflow.

    Keras's own looks at the first copy alone; an overflow on another device then ruins the
    weights.
    """

    def check_finite(self, grads):
        finite = ops.cast(super().check_finite(grads), "float32")
        return ops.equal(sum_over_replicas([finite])[0], num_replicas())
