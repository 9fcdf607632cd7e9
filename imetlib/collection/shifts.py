"""Random shifts and mirror images of small pictures: the augmentation of CIFAR networks."""

import numpy as np

PADDING = 4


def shift_pictures(images, generator, padding=PADDING):
    """A random window of each picture padded with black: `RandomCrop(side, padding)`.

    Args:
        images: `(num_pictures, height, width, 3)` uint8.
        generator: `numpy.random.Generator`.
        padding: int >= 0, pixels added to each side.

    Returns:
        Array of the same shape and dtype; every shift from -padding to padding is equally likely.
    """
    height, width = images.shape[1:3]
    around = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    windows = np.lib.stride_tricks.sliding_window_view(
        np.pad(images, around), (height, width), axis=(1, 2)
    )
    top, left = generator.integers(0, 2 * padding + 1, (2, len(images)))
    chosen = windows[np.arange(len(images)), top, left]
    return np.ascontiguousarray(np.moveaxis(chosen, 1, -1))


def mirror_pictures(images, generator):
    """Each picture or, as often, its mirror image (left for right).

    Args:
        images, generator: see `shift_pictures`.

    Returns:
        Array of the same shape and dtype.
    """
    mirrored = generator.random(len(images)) < 0.5
    return np.where(mirrored[:, None, None, None], images[:, :, ::-1], images)
