"""BatchNormalization that learns by one fused kernel on tensorflow."""

import keras


@keras.saving.register_keras_serializable(package="imetlib")
class BatchNormalization(keras.layers.BatchNormalization):
    """Keras's layer with Keras's arguments, weights and results.

    On tensorflow Keras composes it of some ten elementwise operations, each of which reads and
    writes the whole map: more than half of a training step of MobileNetV2 on a processor. While
    it learns from maps `(batch, height, width, channels)` this layer calls the fused kernel
    instead, which agrees up to rounding. All else is Keras's own: inference, frozen layers, other
    shapes, masks, synchronised or renormalised statistics, and jax and torch.

    Ioffe and Szegedy, "Batch Normalization", 2015, algorithm 1; the moving variance is, as in
    Keras, that of the batch and not the unbiased one. The class has the name of Keras's, because
    files of weights name layers by their class.
    """

    def call(self, inputs, training=None, mask=None):
        if not (training and self.trainable and mask is None and self._fuses(inputs)):
            return super().call(inputs, training=training, mask=mask)
        import tensorflow as tf

        ones = tf.ones_like(self.moving_mean)
        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            tf.cast(inputs, self.compute_dtype),
            self.gamma if self.scale else ones,
            self.beta if self.center else 0.0 * ones,
            epsilon=self.epsilon,
            is_training=True,
        )
        # The kernel's variance is the unbiased one.
        count = tf.cast(tf.reduce_prod(tf.shape(inputs)[:3]), variance.dtype)
        variance *= (count - 1.0) / count
        for moving, new in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(self.momentum * moving + (1.0 - self.momentum) * new)
        return outputs

    def _fuses(self, inputs):
        return (
            keras.backend.backend() == "tensorflow"
            and len(inputs.shape) == 4
            and self.axis in (-1, 3)
            and self.variable_dtype == "float32"
            # Older versions of Keras have no `renorm`.
            and not (self.synchronized or getattr(self, "renorm", False))
        )


def fuse_batch_normalization(layers):
    """Let layers of `keras.layers.BatchNormalization` learn by the fused kernel, in place.

    For models that others build; layers of any other class, subclasses included, stay as they are.

    Args:
        layers: iterable of `keras.layers.Layer`.
    """
    for layer in layers:
        if type(layer) is keras.layers.BatchNormalization:
            layer.__class__ = BatchNormalization
