"""The network of a profile: backbone, attention, head."""

from imetlib.models.backbones import build_backbone, feature_map, file_sha256, find_weights
from imetlib.models.heads import attach_head, classifier
from imetlib.models.model_files import check_model_file
from imetlib.models.multi_attention import multi_attention_logits
from imetlib.models.recurrent_attention import recurrent_attention_logits
from imetlib.models.residual_attention import residual_attention_logits
from imetlib.training.devices import dtype_policy

WEIGHTS_FILE = "best.weights.h5"
GLIMPSE_UNITS = 512


def build_classifier(
    profile, num_classes, *, class_frequency=None, weights=None, normalisation=None
):
    """The network of a profile, uint8 pictures to logits.

    Args:
        profile: `Profile` with an image shape.
        num_classes: int.
        class_frequency: `(num_classes,)` or None, see `attach_head`.
        weights: overrides the profile's weights; "" for a random start.
        normalisation: of a network that is loaded afterwards; None: as its weights want.

    Returns:
        (`keras.Model`, name of the normalisation in use).

    Raises:
        ValueError: the backbone has no map of the profile's `attention_stride`, or the
            attention does not fit the map.
    """
    weights = profile.weights if weights is None else weights
    # Convolutions take any size: an open shape, where pictures grow in the course of training.
    shape = (None, None, 3) if profile.small_epochs else profile.image_shape
    with dtype_policy(profile.precision):
        backbone = build_backbone(
            profile.backbone,
            shape,
            weights=weights or None,
            normalisation=normalisation or profile.normalisation or None,
        )
        beside = []
        if profile.attention:
            beside.append(_attention_logits(profile, backbone, num_classes, class_frequency))
        if beside and not profile.plain_head:
            model = classifier(backbone, beside[0])
        else:
            model = attach_head(
                backbone,
                num_classes,
                head=profile.head,
                dropout=profile.dropout,
                class_frequency=class_frequency,
                beside=beside,
            )
    return model, backbone.normalisation


def load_classifier(folder, profile, num_classes, *, normalisation):
    """The trained network of a run folder.

    Args:
        folder: `pathlib.Path` of the run.
        profile, num_classes, normalisation: see `build_classifier`, as the run's record says.

    Returns:
        `keras.Model`.

    Raises:
        ValueError: the weights file is damaged, or made to reach outside itself.
    """
    model, _ = build_classifier(profile, num_classes, weights="", normalisation=normalisation)
    check_model_file(folder / WEIGHTS_FILE)
    model.load_weights(folder / WEIGHTS_FILE)
    return model


def start_of(profile):
    """SHA-256 of the file that a profile's backbone starts from, or None for a random start.

    That of the weights file, else of the model file of a backbone of the user's own.
    """
    path = find_weights(profile.backbone, profile.weights or None)
    if path is None and profile.backbone.endswith(".keras"):
        path = profile.backbone
    return None if path is None else file_sha256(path)


def _attention_logits(profile, backbone, num_classes, class_frequency):
    """Logits of the profile's attention; beside a plain head they start at zero."""
    features = feature_map(profile.backbone, backbone, profile.attention_stride)
    options = {"kernel_initializer": "glorot_uniform", "class_frequency": class_frequency}
    if profile.plain_head:
        options = {"kernel_initializer": "zeros", "class_frequency": None}
    if profile.attention == "residual":
        form = {"naive": {"learning": "naive"}, "": {}}
        options |= form.get(profile.attention_form, {"attention_type": profile.attention_form})
        return residual_attention_logits(features, num_classes, **options)
    if profile.attention == "multi":
        options["form"] = profile.attention_form or "standardised"
        return multi_attention_logits(features, num_classes, num_parts=profile.num_parts, **options)
    options["head"] = profile.attention_form or "compact"
    if options["head"] == "compact":
        options["units"] = min(GLIMPSE_UNITS, features.shape[-1])
    # The paper's weight of the constraints belongs to a sum of losses over the classes; beside a
    # plain head, which answers without any glimpse, it holds the glimpses where they started.
    options["constraint_weight"] = 0.01 if profile.plain_head else 0.1
    return recurrent_attention_logits(
        features, num_classes, num_glimpses=profile.num_glimpses, **options
    )
