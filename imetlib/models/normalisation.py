"""Normalisation: from uint8 pixels to what a backbone's weights expect."""

import keras

# Weights files whose own training used another input than the backbone's stock weights.
NORMALISATION_OF_WEIGHTS = {
    "eff2015db9b288efcfee8e7cf80e9b3fab42d188c4fd16795f4f94a0e5f1f678": "torch",
    "912061887db6c21ce5d34c98dc5987eb6727aa5618118e3cd398d8c34bb26539": "tf",
}

_CAFFE_MEAN = (103.939, 116.779, 123.68)
_MEAN_AND_STD = {
    "tf": ((127.5,) * 3, (127.5,) * 3),
    "torch": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    "unit": ((0.0,) * 3, (255.0,) * 3),
    "raw": ((0.0,) * 3, (1.0,) * 3),
    "tf128": ((128.0,) * 3, (128.0,) * 3),
}
NORMALISATIONS = (*_MEAN_AND_STD, "caffe")


def normalisation_layer(kind, *, name="normalisation"):
    """Layer from uint8 pixels to what a backbone's weights expect, in float32.

    Args:
        kind: "tf" for x / 127.5 - 1, "torch" for (x / 255 - mean) / std of ImageNet, "caffe"
            for blue, green, red less the mean of ImageNet, "unit" for x / 255, "raw" for x,
            "tf128" for x / 128 - 1 (EfficientNetV2-S).
        name: name of the layer.

    Returns:
        `keras.layers.Layer` without weights. A saved model with "caffe" opens only after
        `import imetlib.models.backbones`.
    """
    if kind not in NORMALISATIONS:
        raise ValueError(f"Unknown normalisation {kind!r}. Known: {', '.join(NORMALISATIONS)}")
    if kind == "caffe":
        return CaffeNormalisation(dtype="float32", name=name)
    mean, std = _MEAN_AND_STD[kind]
    return keras.layers.Normalization(
        mean=list(mean), variance=[value**2 for value in std], dtype="float32", name=name
    )


@keras.saving.register_keras_serializable("imetlib")
class CaffeNormalisation(keras.layers.Layer):
    """Red, green, blue to blue, green, red, less the mean of ImageNet; no weights."""

    def call(self, images):
        # `flip` and no slice with step -1, which torch does not have.
        images = keras.ops.flip(keras.ops.cast(images, self.compute_dtype), axis=-1)
        return images - keras.ops.convert_to_tensor(_CAFFE_MEAN, dtype=self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return input_shape
