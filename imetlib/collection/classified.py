"""Pictures of one size with one class each, split into train and test, all in memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class ClassifiedPictures:
    """A data set for classification, checked when it is made.

    Rows to hold out of `train` are drawn, stratified, by
    `sklearn.model_selection.train_test_split(rows, test_size=..., stratify=train_labels)`.

    Args:
        train_images, test_images: `(num_samples, height, width, 3)` uint8 RGB in [0, 255].
        train_labels, test_labels: `(num_samples,)` int64, `0 <= label < len(class_names)`.
        class_names: tuple of str.
        source: str. One line that says which data this is; belongs beside every number.

    Raises:
        ValueError: a shape, dtype or label does not fit, or images and labels differ in number.
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    class_names: tuple[str, ...]
    source: str

    def __post_init__(self):
        image_shape = self.train_images.shape[1:]
        for split in ("train", "test"):
            images, labels = self.split(split)
            if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
                raise ValueError(
                    f"`{split}_images` must be (num_samples, height, width, 3) uint8. "
                    f"Received: {images.shape} {images.dtype}"
                )
            if images.shape[1:] != image_shape:
                raise ValueError(
                    "`train_images` and `test_images` must have one size. "
                    f"Received: {image_shape[:2]} and {images.shape[1:3]}"
                )
            if labels.dtype != np.int64 or labels.ndim != 1:
                raise ValueError(
                    f"`{split}_labels` must be (num_samples,) int64. "
                    f"Received: {labels.shape} {labels.dtype}"
                )
            if len(labels) != len(images) or not len(labels):
                raise ValueError(
                    f"`{split}_labels` must have one label an image, and one image at least. "
                    f"Received: {len(labels):,} labels, {len(images):,} images"
                )
            low, high = labels.min(), labels.max()
            if low < 0 or high >= len(self.class_names):
                raise ValueError(
                    f"`{split}_labels` must be in 0..{len(self.class_names) - 1}. "
                    f"Received: labels from {low} to {high}"
                )

    def split(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Images and labels of `"train"` or `"test"`."""
        splits = {
            "train": (self.train_images, self.train_labels),
            "test": (self.test_images, self.test_labels),
        }
        if name not in splits:
            raise ValueError(f"`name` must be train or test. Received: name={name!r}")
        return splits[name]
