"""Second network of the Multi-Attention CNN: crops of the picture around the attended parts."""

import keras
from keras import ops

from imetlib.models.log_odds import scaled_logits


def PartCropNetwork(
    model,
    crop_backbones,
    num_classes,
    *,
    crop_size,
    half_side=64 / 448,
    dropout=0.5,
    class_frequency=None,
    name="parts",
):
    """A classifier that looks again, in the picture, at the parts that a first network found.

    The picture is cut around the peak of each part's mask; crops and the whole picture go
    through backbones of their own, whose mean features make the logits together. The first
    network only says where to cut and does not learn: its layers are frozen here.

    Deviations from the release (Zheng et al., ICCV 2017): any backbone instead of VGG-19 and its
    512-unit layer a stream; one may be shared by all streams; no object crop (the birds'
    sixth stream). The authors fine-tune every stream alone and then train the last layer with a
    large dropout; here all streams learn together, unless their backbones are frozen.

    Args:
        model: `keras.Model` from uint8 pictures to logits with `multi_attention_logits` in it.
        crop_backbones: `keras.Model` from pictures `(crop_size, crop_size, 3)` to a map
            (`imetlib.models.backbones.build_backbone`), shared by all streams; or one of
            its own for each part and for the whole picture, num_parts + 1 with different names.
        num_classes: int >= 1.
        crop_size: int, side of a crop in pixels after resizing; 224 in the release.
        half_side: see `PartCrops`; 64 / 448 for birds, 48 / 448 for cars and aircraft.
        dropout: float in [0, 1), before the last layer.
        class_frequency: `(num_classes,)` or None, see `log_odds.log_odds_initializer`.
        name: str, that of `multi_attention_logits`.

    Returns:
        `keras.Model` from the first network's pictures to float32 logits `(batch, num_classes)`;
        the layer "<name>_crops" gives the crops.

    Raises:
        ValueError: another number of backbones than streams, or one that ends in no map.
    """
    masks = model.get_layer(f"{name}_masks").output
    num_streams = masks.shape[-1] + 1
    if isinstance(crop_backbones, keras.Model):
        crop_backbones = [crop_backbones] * num_streams
    shapes = [tuple(getattr(backbone.output, "shape", ())) for backbone in crop_backbones]
    if len(shapes) != num_streams or any(len(shape) != 4 for shape in shapes):
        raise ValueError(
            f"`crop_backbones` must be one model that ends in a map, or {num_streams} of them: one "
            f"a part and one for the whole picture. Received: {len(shapes)} with outputs {shapes}"
        )
    finder = keras.Model(model.input, masks, name=f"{name}_finder")
    finder.trainable = False
    images = keras.Input(model.input.shape[1:], dtype=model.input.dtype, name="images")
    crops = PartCrops(crop_size, half_side, name=f"{name}_crops", dtype="float32")(
        [images, finder(images)]
    )
    # A stream after the other and not one long batch: each counts in `costs.count_macs`, and
    # BatchNormalization has statistics of the stream.
    streams = [
        keras.layers.GlobalAveragePooling2D(name=f"{name}_stream{index}", dtype="float32")(
            backbone(crops[:, index])
        )
        for index, backbone in enumerate(crop_backbones)
    ]
    x = keras.layers.Concatenate(name=f"{name}_streams", dtype="float32")(streams)
    logits = scaled_logits(
        x,
        num_classes,
        name="head",
        logits_name="logits",
        dropout=dropout,
        class_frequency=class_frequency,
    )
    return keras.Model(images, logits, name=f"{model.name}_{name}")


@keras.saving.register_keras_serializable("imetlib")
class PartCrops(keras.layers.Layer):
    """Squares of a picture around the peaks of masks, and the whole picture; no weights.

    Bilinear with half-pixel centres, as pictures are resized elsewhere, without smoothing before
    it; rounded to whole pixel values. No gradient goes through it.

    Args:
        size: int >= 1, side of the output in pixels.
        half_side: float in (0, 0.5], half a square's side as a fraction of the picture's shorter
            side. A square that would stand out is moved inside.

    Input shape:
        `[(batch, height, width, channels), (batch, map_height, map_width, num_parts)]`:
        pictures in 0 to 255, masks.

    Output shape:
        `(batch, num_parts + 1, size, size, channels)` uint8, the whole picture last (squeezed
        where it is no square).

    Raises:
        ValueError: a size or half side that cannot be.
    """

    def __init__(self, size, half_side=64 / 448, **settings):
        super().__init__(**settings)
        if size < 1 or not 0 < half_side <= 0.5:
            raise ValueError(
                "`size` must be at least 1 and `half_side` in (0, 0.5]. "
                f"Received: size={size}, half_side={half_side}"
            )
        self.size, self.half_side = size, half_side

    def call(self, inputs):
        images, masks = inputs
        map_height, map_width = ops.shape(masks)[1:3]
        flat = ops.reshape(masks, (-1, map_height * map_width, masks.shape[-1]))
        peaks = ops.argmax(flat, axis=1)
        rows = (peaks // map_width, map_height)
        columns = (peaks % map_width, map_width)
        images = ops.cast(images, "float32")
        height, width = ops.shape(images)[1:3]
        half = self.half_side * ops.cast(ops.minimum(height, width), "float32")
        # Bilinear resampling is a product with two matrices, on every backend.
        crops = ops.einsum("bprh,bhwc->bprwc", self._weights(*rows, half, height), images)
        crops = ops.einsum("bpsw,bprwc->bprsc", self._weights(*columns, half, width), crops)
        return ops.cast(ops.round(crops), "uint8")

    def _weights(self, cells, num_cells, half, side):
        """Weights of a side's pixels in those of the crops, `(batch, num_crops, size, side)`."""
        length = ops.cast(side, "float32")
        centres = (ops.cast(cells, "float32") + 0.5) / ops.cast(num_cells, "float32") * length
        first = ops.clip(centres - half, 0.0, length - 2.0 * half)
        steps = (ops.arange(self.size, dtype="float32") + 0.5) / self.size
        parts = ops.expand_dims(first, -1) + 2.0 * half * steps
        whole = ops.zeros_like(parts[:, :1]) + length * steps
        places = ops.clip(ops.concatenate([parts, whole], axis=1) - 0.5, 0.0, length - 1.0)
        pixels = ops.arange(side, dtype="float32")
        return ops.relu(1.0 - ops.abs(ops.expand_dims(places, -1) - pixels))

    def compute_output_spec(self, inputs):
        images, masks = inputs
        shape = (images.shape[0], masks.shape[-1] + 1, self.size, self.size, images.shape[-1])
        return keras.KerasTensor(shape, dtype="uint8")

    def get_config(self):
        return {**super().get_config(), "size": self.size, "half_side": self.half_side}
