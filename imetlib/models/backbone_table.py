"""The table of backbones: what is known of each before anything is built."""

from collections.abc import Callable
from dataclasses import dataclass, field

import keras

from imetlib.models.convnext import ConvNeXtTiny
from imetlib.models.residual_attention import (
    ResidualAttention56,
    ResidualAttention92,
    ResidualAttentionSmall,
)
from imetlib.models.small_convnet import SmallConvNet


@dataclass(frozen=True)
class Backbone:
    """What is known of a backbone before it is built.

    Args:
        builder: function of `keras.applications` or of the same form; None for a model file.
        normalisation: what the stock weights want, see `normalisation_layer`; "" where only
            the user knows it.
        image_size: side in pixels that the stock weights were trained with.
        weights_name: name of the stock file without top; "" where there is none.
        weights_digest: MD5 or SHA-256 of that file, as the source of `keras.applications` has
            it; "" where it has none (MobileNetV2).
        channels: of the last map.
        num_params: parameters without top; 0 where not known.
        macs: multiply-adds of one picture at `image_size`, without top; 0 where not known.
        feature_maps: layer names by the stride of their map, for heads on earlier maps; the
            last one is the backbone's output.
        min_size: smallest side in pixels.
        options: further arguments of the builder.
        pooled_layers: layers whose pooled maps the kernel head sees together. Earlier maps
            hold what an object's style and page look like, later ones what it is. Empty
            takes all of `feature_maps`.
        grid_layers: early layers of which it also sees the means of 3 x 2 parts of the map:
            where on the picture something is.
        fixed_shape: (height, width) that a model file is fixed to, None where it is open.
    """

    builder: Callable[..., keras.Model] | None
    normalisation: str
    image_size: int
    weights_name: str
    channels: int
    feature_maps: dict[int, str]
    weights_digest: str = ""
    num_params: int = 0
    macs: int = 0
    min_size: int = 32
    options: dict[str, object] = field(default_factory=dict)
    pooled_layers: tuple[str, ...] = ()
    grid_layers: tuple[str, ...] = ()
    fixed_shape: tuple[int | None, int | None] = (None, None)

    def __post_init__(self):
        if not self.pooled_layers:
            maps = tuple(self.feature_maps[stride] for stride in sorted(self.feature_maps))
            object.__setattr__(self, "pooled_layers", maps)


# Sizes, smallest sides and file names as in the source of `keras.applications`. A map is the
# last activation at its stride. In InceptionResNetV2 and Xception layers without a place in
# their names ("activation_74") count through the process: never name one of them here.
BACKBONES = {
    "mobilenet_v2": Backbone(
        builder=keras.applications.MobileNetV2,
        normalisation="tf",
        image_size=224,
        weights_name="mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5",
        channels=1280,
        num_params=2_257_984,
        macs=299_494_272,
        feature_maps={8: "block_6_expand_relu", 16: "block_13_expand_relu", 32: "out_relu"},
        pooled_layers=(
            *(f"block_{number}_expand_relu" for number in (3, 6, 10, 13, 16)),
            "out_relu",
        ),
        grid_layers=tuple(f"block_{number}_expand_relu" for number in (1, 3, 6, 10)),
    ),
    "xception": Backbone(
        builder=keras.applications.Xception,
        normalisation="tf",
        image_size=299,
        min_size=71,
        weights_name="xception_weights_tf_dim_ordering_tf_kernels_notop.h5",
        weights_digest="b0042744bf5b25fce3cb969f33bebb97",
        channels=2048,
        num_params=20_861_480,
        macs=8_355_355_496,
        feature_maps={
            8: "block4_sepconv2_bn",
            16: "block13_sepconv2_bn",
            32: "block14_sepconv2_act",
        },
        pooled_layers=(
            "block4_sepconv1_act",
            "block8_sepconv1_act",
            "block13_sepconv2_act",
            "block14_sepconv2_act",
        ),
        grid_layers=("block2_sepconv2_act", "block3_sepconv2_act", "block4_sepconv1_act"),
    ),
    "small_convnet": Backbone(
        builder=SmallConvNet,
        normalisation="unit",
        image_size=64,
        min_size=16,
        weights_name="",
        channels=192,
        num_params=661_896,
        macs=29_859_840,
        feature_maps={4: "stage2_conv2_relu", 8: "stage3_conv2_relu", 16: "stage4_conv2_relu"},
        pooled_layers=("stage3_conv2_relu", "stage4_conv2_relu"),
    ),
    "small_convnet_16": Backbone(
        builder=SmallConvNet,
        options={"filters": 16},
        normalisation="unit",
        image_size=48,
        min_size=16,
        weights_name="",
        channels=128,
        num_params=294_960,
        macs=7_547_904,
        feature_maps={4: "stage2_conv2_relu", 8: "stage3_conv2_relu", 16: "stage4_conv2_relu"},
        pooled_layers=("stage3_conv2_relu", "stage4_conv2_relu"),
    ),
    "resnet50": Backbone(
        builder=keras.applications.ResNet50,
        normalisation="caffe",
        image_size=224,
        weights_name="resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
        weights_digest="4d473c1dd8becc155b73f8504c6f6626",
        channels=2048,
        num_params=23_587_712,
        macs=3_855_925_248,
        feature_maps={
            4: "conv2_block3_out",
            8: "conv3_block4_out",
            16: "conv4_block6_out",
            32: "conv5_block3_out",
        },
    ),
    "inception_resnet_v2": Backbone(
        builder=keras.applications.InceptionResNetV2,
        normalisation="tf",
        image_size=299,
        min_size=75,
        weights_name="inception_resnet_v2_weights_tf_dim_ordering_tf_kernels_notop.h5",
        weights_digest="d19885ff4a710c122648d3b5c3b684e4",
        channels=1536,
        num_params=54_336_736,
        macs=13_154_258_016,
        feature_maps={8: "block35_10_ac", 16: "block17_20_ac", 32: "conv_7b_ac"},
    ),
    "vgg16": Backbone(
        builder=keras.applications.VGG16,
        normalisation="caffe",
        image_size=224,
        weights_name="vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
        weights_digest="6d6bbae143d832006294945121d1f1fc",
        channels=512,
        num_params=14_714_688,
        macs=15_346_630_656,
        feature_maps={4: "block3_conv3", 8: "block4_conv3", 16: "block5_conv3", 32: "block5_pool"},
    ),
    "vgg19": Backbone(
        builder=keras.applications.VGG19,
        normalisation="caffe",
        image_size=224,
        weights_name="vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5",
        weights_digest="253f8cb515780f3b799900260a226db6",
        channels=512,
        num_params=20_024_384,
        macs=19_508_428_800,
        feature_maps={4: "block3_conv4", 8: "block4_conv4", 16: "block5_conv4", 32: "block5_pool"},
    ),
    "efficientnet_v2_b0": Backbone(
        builder=keras.applications.EfficientNetV2B0,
        options={"include_preprocessing": False},
        normalisation="torch",
        image_size=224,
        weights_name="efficientnetv2-b0_notop.h5",
        weights_digest="893217f2bb855e2983157299931e43ff",
        channels=1280,
        num_params=5_919_312,
        macs=716_806_176,
        feature_maps={
            4: "block2b_expand_activation",
            8: "block4a_expand_activation",
            16: "block6a_expand_activation",
            32: "top_activation",
        },
    ),
    "efficientnet_v2_s": Backbone(
        builder=keras.applications.EfficientNetV2S,
        options={"include_preprocessing": False},
        normalisation="tf128",
        image_size=384,
        weights_name="efficientnetv2-s_notop.h5",
        weights_digest="af0682fb74e8c54910f2d4393339c070",
        channels=1280,
        num_params=20_331_360,
        macs=8_364_337_152,
        feature_maps={
            4: "block2d_expand_activation",
            8: "block4a_expand_activation",
            16: "block6a_expand_activation",
            32: "top_activation",
        },
    ),
    "convnext_tiny": Backbone(
        builder=ConvNeXtTiny,
        options={"include_preprocessing": False},
        normalisation="torch",
        image_size=224,
        weights_name="convnext_tiny_notop.h5",
        weights_digest="d547c096cabd03329d7be5562c5e14798aa39ed24b474157cef5e85ab9e49ef1",
        channels=768,
        num_params=27_820_128,
        macs=4_454_763_264,
        feature_maps={
            4: "convnext_tiny_stage_0_out",
            8: "convnext_tiny_stage_1_out",
            16: "convnext_tiny_stage_2_out",
            32: "convnext_tiny_head_layernorm",
        },
    ),
    # A stage of these ends in a sum; its map is the next unit's activation of it.
    "residual_attention_56": Backbone(
        builder=ResidualAttention56,
        normalisation="torch",
        image_size=224,
        min_size=33,
        weights_name="",
        channels=2048,
        num_params=29_834_432,
        macs=6_268_788_736,
        feature_maps={
            4: "stage2_unit1_1_relu",
            8: "stage3_unit1_1_relu",
            16: "stage4_unit1_1_relu",
            32: "last_relu",
        },
    ),
    "residual_attention_92": Backbone(
        builder=ResidualAttention92,
        normalisation="torch",
        image_size=224,
        min_size=33,
        weights_name="",
        channels=2048,
        num_params=50_550_976,
        macs=10_531_741_696,
        feature_maps={
            4: "stage2_unit1_1_relu",
            8: "stage3_unit1_1_relu",
            16: "stage4_unit1_1_relu",
            32: "last_relu",
        },
    ),
    "residual_attention_small": Backbone(
        builder=ResidualAttentionSmall,
        normalisation="unit",
        image_size=48,
        min_size=17,
        weights_name="",
        channels=256,
        num_params=304_816,
        macs=25_887_744,
        feature_maps={2: "stage2_unit1_1_relu", 4: "stage3_unit1_1_relu", 8: "last_relu"},
    ),
    # The trunk of the last one, to tell what its masks add.
    "residual_small": Backbone(
        builder=ResidualAttentionSmall,
        options={"masks": False},
        normalisation="unit",
        image_size=48,
        min_size=8,
        weights_name="",
        channels=256,
        num_params=180_144,
        macs=18_975_744,
        feature_maps={2: "stage2_unit1_1_relu", 4: "stage3_unit1_1_relu", 8: "last_relu"},
    ),
}


def row_of_model(model):
    """Row of a model of the user's.

    Args:
        model: functional `keras.Model` from pictures to one map; `build_backbone` calls its
            output "feature_map".

    Returns:
        `Backbone` without builder, stock weights and normalisation.
    """
    sides = tuple(model.input.shape[1:3])
    height, width = (side or 256 for side in sides)
    stride = round(height / model.compute_output_shape((1, height, width, 3))[1])
    return Backbone(
        builder=None,
        normalisation="",
        image_size=max(side or 224 for side in sides),
        min_size=1,
        weights_name="",
        channels=model.output.shape[3],
        feature_maps={stride: "feature_map"},
        fixed_shape=sides,
    )
