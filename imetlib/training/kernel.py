"""A kernel machine on frozen features: what a linear head misses, still in closed form.

Gaussian kernel ridge regression (Saunders et al., ICML 1998) in the subset-of-regressors form
with random landmarks (Nystroem; Williams and Seeger, NIPS 2000), so that a hundred thousand
pictures fit as well as six thousand. Features enter by their signed square root (Perronnin et
al., ECCV 2010), which keeps the few large ones from deciding alone.
"""

from dataclasses import dataclass

import numpy as np

from imetlib.training.ridge import fit_ridge

PENALTIES = (0.003, 0.01, 0.03, 0.1, 0.3)
MAX_LANDMARKS = 8_000
_JITTER = 1e-4


@dataclass(frozen=True, eq=False)
class KernelHead:
    """Logits as a sum of Gaussians around landmarks.

    Args:
        landmarks: `(num_landmarks, num_features)` float32, standardised roots of features.
        mean, scale: `(num_features,)` float32, which standardise.
        width: float > 0, squared distance at which a Gaussian falls to 1/e.
        kernel: `(num_landmarks, num_classes)` float32.
        bias: `(num_classes,)` float32.
        penalty: the ridge penalty that was chosen.
    """

    landmarks: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    width: float
    kernel: np.ndarray
    bias: np.ndarray
    penalty: float

    @property
    def macs(self):
        """Multiply-adds of one picture's features: distances to the landmarks, and the sum."""
        return int(self.landmarks.size + self.kernel.size)

    def logits(self, features):
        """`(num_samples, num_classes)` float32 logits of `(num_samples, num_features)`."""
        standard = _standardise(signed_root(features), self.mean, self.scale)
        return _gaussians(standard, self.landmarks, self.width) @ self.kernel + self.bias


def fit_kernel(
    features,
    labels,
    *,
    groups=None,
    width=2.0,
    penalties=PENALTIES,
    max_landmarks=MAX_LANDMARKS,
    seed=0,
):
    """Fit labels by Gaussian kernel ridge regression, calibrated to logits.

    The penalty and the pair that turns scores into logits are found as in `fit_ridge`, on a
    fifth of the rows, whole groups; no other rows are looked at.

    Args:
        features: `(num_samples, num_features)` float32.
        labels: `(num_samples, num_classes)` bool.
        groups: `(num_samples,)` int or None, rows that stay on one side.
        width: float > 0, in units of the median squared distance of the samples. 2 is the best
            of 0.5, 1, 2, 4 and 8 on the inner folds of the watercolours, by .002 F2 over 1.
        penalties: float > 0 to choose from.
        max_landmarks: int. Samples around which Gaussians stand; all where there are fewer.
        seed: int.

    Returns:
        `KernelHead`.

    Raises:
        ValueError: `width` is not positive, or see `fit_ridge`.
    """
    if not width > 0:
        raise ValueError(f"`width` must be positive. Received: width={width}")
    rng = np.random.default_rng(seed)
    features = signed_root(np.asarray(features, dtype=np.float32))
    mean, scale = features.mean(axis=0), features.std(axis=0) + 1e-3
    standard = _standardise(features, mean, scale)
    chosen = rng.permutation(len(standard))[:max_landmarks]
    landmarks = standard[np.sort(chosen)]
    sample = landmarks[:1000]
    width = float(width * np.median(_squared_distances(sample, sample)))
    inner = _gaussians(landmarks, landmarks, width)
    # Whitening makes ridge on the landmark features equal to ridge in the kernel's own norm.
    factor = np.linalg.cholesky(inner + _JITTER * np.eye(len(inner), dtype=np.float32))
    whitening = np.linalg.inv(factor).T.astype(np.float32)
    mapped = _gaussians(standard, landmarks, width) @ whitening
    head = fit_ridge(
        mapped, labels, groups=groups, penalties=penalties, standardise=False, seed=seed
    )
    return KernelHead(
        landmarks, mean, scale, width, whitening @ head.kernel, head.bias, head.penalty
    )


def signed_root(features):
    """Square root of the size of each feature, with its sign."""
    return np.copysign(np.sqrt(np.abs(features)), features)


def _standardise(features, mean, scale):
    # A feature that is rare in training may be huge elsewhere: it must not decide alone.
    return np.clip((features - mean) / scale, -6.0, 6.0).astype(np.float32)


def _squared_distances(left, right):
    product = left @ right.T
    left_norms, right_norms = (np.einsum("ij,ij->i", x, x) for x in (left, right))
    return np.maximum(left_norms[:, None] + right_norms[None] - 2.0 * product, 0.0)


def _gaussians(left, right, width):
    return np.exp(_squared_distances(left, right) / -width).astype(np.float32)
