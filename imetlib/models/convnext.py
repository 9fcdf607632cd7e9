"""ConvNeXt-Tiny of `keras.applications` with a name for the end of every stage."""

import keras


def ConvNeXtTiny(*, include_top=False, weights=None, input_tensor=None, **options):
    """`keras.applications.ConvNeXtTiny` whose stages end in layers with names.

    There a stage ends in an unnamed addition, and the last normalisation has a name that
    counts through the process. Here each stage ends in an identity
    `convnext_tiny_stage_0_out` to `..._3_out`, the last layer is
    `convnext_tiny_head_layernorm`. Order and number of weights are the same, so that the
    stock file fits.

    Args:
        include_top: must be False.
        weights: must be None.
        input_tensor: normalised pictures `(batch, height, width, 3)`.
        **options: of `keras.applications.ConvNeXtTiny`.

    Returns:
        `keras.Model` whose output map has 1/32 of the sides and 768 channels.

    Raises:
        ValueError: `include_top` or `weights` asked for.

    Reference:
        Liu et al., A ConvNet for the 2020s, https://arxiv.org/abs/2201.03545
    """
    if include_top or weights is not None:
        raise ValueError("ConvNeXtTiny has no top here, and weights are loaded afterwards")
    stock = keras.applications.ConvNeXtTiny(
        include_top=False, weights=None, input_tensor=input_tensor, **options
    )

    def clone_layer(layer):
        config = layer.get_config()
        if config["name"].startswith("layer_normalization"):
            config["name"] = "convnext_tiny_head_layernorm"
        return type(layer).from_config(config)

    def call_layer(layer, *args, **settings):
        before, _, stage = layer.name.rpartition("_")
        if layer.name == "convnext_tiny_head_layernorm":
            before, stage = "convnext_tiny_downsampling_block", 3
        if before == "convnext_tiny_downsampling_block":
            args = [keras.layers.Identity(name=f"convnext_tiny_stage_{stage}_out")(*args)]
        return layer(*args, **settings)

    return keras.models.clone_model(
        stock, input_tensors=stock.input, clone_function=clone_layer, call_function=call_layer
    )
