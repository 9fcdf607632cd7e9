"""One pipeline for all splits: order, augmentation and pixels can be told beforehand."""

import cv2
import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imetlib.collection import geometry
from imetlib.collection.batches import Batches
from imetlib.collection.cache import cache_of_images
from imetlib.collection.geometry import Augmentation, Preprocessing, picture_matrix, prepare
from imetlib.collection.images import decode_image
from imetlib.training.predict import predict_views

NOTHING = dict.fromkeys(("flip", "scale", "shift", "rotate", "brightness", "contrast"), 0.0)
TINY = Preprocessing((8, 8, 3))


class Plain:
    """Pictures of one grey level each: what comes out tells which row was read."""

    def read(self, row):
        return np.full((9, 12, 3), 5 * row, np.uint8)


def smooth_picture(height, width, seed=0):
    """Colourful, with gradients of a few levels a pixel."""
    coarse = np.random.default_rng(seed).integers(0, 256, (3, 3, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def largest_difference(left, right):
    return np.abs(left.astype(int) - right.astype(int)).max()


# Order ----------------------------------------------------------------------------------------


def rows_by_epoch(batches, epochs):
    """The labels that `fit` is given, in order: here the rows themselves."""
    seen = []

    def loss(y_true, y_pred):
        seen.append(y_true)
        return keras.ops.mean(y_pred)

    inputs = keras.Input((8, 8, 3), dtype="uint8")
    outputs = keras.layers.Dense(1)(keras.layers.GlobalMaxPooling2D()(inputs))
    model = keras.Model(inputs, outputs)
    model.compile("sgd", loss, run_eagerly=True)
    # Before it trains, `fit` builds the loss with symbols on some backends.
    begin = keras.callbacks.LambdaCallback(on_train_begin=lambda logs: seen.clear())
    model.fit(batches, epochs=epochs, shuffle=False, verbose=0, callbacks=[begin])
    rows = [keras.ops.convert_to_numpy(y_true)[:, 0] for y_true in seen]
    return np.concatenate(rows).astype(int).reshape(epochs, -1)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_an_epoch_holds_each_row_once_whatever_the_workers(workers):
    """Old kits gave each worker a shuffled copy of its own: rows came twice or never."""
    rows = np.arange(3, 26)
    batches = Batches(
        Plain(), rows, TINY, labels=rows[:, None], batch_size=7, shuffle=True, workers=workers
    )
    seen = rows_by_epoch(batches, epochs=2)
    for epoch in (0, 1):
        assert sorted(seen[epoch]) == rows.tolist()
        # A function of (seed, epoch): the same for any number of workers.
        assert seen[epoch].tolist() == rows[batches.order(epoch)].tolist()
    assert seen[0].tolist() != seen[1].tolist()


@settings(deadline=None)
@given(num_rows=st.integers(1, 60), batch_size=st.integers(1, 64))
def test_batches_cover_the_rows_and_differ_by_one_picture_at_most(num_rows, batch_size):
    rows = np.arange(num_rows) % 50
    batches = Batches(Plain(), rows, Preprocessing((1, 1, 3)), batch_size=batch_size)
    parts = [batches[index] for index in range(len(batches))]
    np.testing.assert_array_equal(np.concatenate(parts)[:, 0, 0, 0] // 5, rows)
    sizes = [len(part) for part in parts]
    assert max(sizes) <= batch_size and max(sizes) - min(sizes) <= 1


def test_order_depends_on_seed_and_epoch_only():
    first = Batches(Plain(), np.arange(40), TINY, shuffle=True, seed=1, batch_size=3)
    same = Batches(Plain(), np.arange(40), TINY, shuffle=True, seed=1, batch_size=16)
    other = Batches(Plain(), np.arange(40), TINY, shuffle=True, seed=2)
    assert first.order(4).tolist() == same.order(4).tolist() != first.order(5).tolist()
    assert first.order(4).tolist() != other.order(4).tolist()


def run_through(batches):
    """One epoch as `fit` reads it."""
    batches.on_epoch_begin()
    parts = [batches[index] for index in range(len(batches))]
    batches.on_epoch_end()
    return parts


@pytest.mark.parametrize("mixup", [0.0, 1.0])
def test_a_later_stage_goes_on_with_order_and_augmentation(prepared, mixup):
    rows = np.arange(20)

    def stage(first_epoch):
        return Batches(
            prepared.train_pictures,
            rows,
            Preprocessing((16, 16, 3)),
            labels=prepared.collection.train.dense(rows),
            batch_size=8,
            shuffle=True,
            augmentation=Augmentation(erase=0.5, mixup=mixup),
            seed=3,
            first_epoch=first_epoch,
        )

    whole = stage(0)
    epochs = [run_through(whole) for _ in range(3)]
    later = stage(1)
    for expected in epochs[1:]:
        for (images, labels), (own_images, own_labels) in zip(
            expected, run_through(later), strict=True
        ):
            np.testing.assert_array_equal(images, own_images)
            np.testing.assert_array_equal(labels, own_labels)
    assert later.epoch == whole.epoch == 3
    assert not np.array_equal(epochs[0][0][0], epochs[1][0][0])


@pytest.mark.parametrize("epochs", [(1, 2), (2, 1)])
def test_fit_in_two_stages_sees_what_fit_in_one_sees(epochs):
    rows = np.arange(3, 26)

    def stage(first_epoch):
        return Batches(
            Plain(),
            rows,
            TINY,
            labels=rows[:, None],
            batch_size=7,
            shuffle=True,
            first_epoch=first_epoch,
        )

    whole = rows_by_epoch(stage(0), epochs=3)
    parts = [rows_by_epoch(stage(0), epochs[0]), rows_by_epoch(stage(epochs[0]), epochs[1])]
    assert np.concatenate(parts).tolist() == whole.tolist()


# Augmentation ---------------------------------------------------------------------------------


def augmented(prepared, rows, *, epoch=0, **arguments):
    """Pictures by row."""
    arguments = {"augmentation": Augmentation(erase=0.5), "seed": 3, **arguments}
    batches = Batches(prepared.train_pictures, rows, Preprocessing((32, 32, 3)), **arguments)
    batches.epoch = epoch
    order = batches.rows[batches.order(epoch)]
    images = np.concatenate([batches[index] for index in range(len(batches))])
    return dict(zip(order.tolist(), images, strict=True))


def test_augmentation_is_a_function_of_seed_epoch_and_row(prepared):
    rows = np.arange(10)
    images = augmented(prepared, rows, batch_size=4)
    again = augmented(prepared, rows[::-1], batch_size=3, shuffle=True)
    later = augmented(prepared, rows, epoch=1)
    reseeded = augmented(prepared, rows, seed=4)
    for row in rows:
        np.testing.assert_array_equal(images[row], again[row])
        assert not np.array_equal(images[row], later[row])
        assert not np.array_equal(images[row], reseeded[row])


def test_augmentation_of_nothing_changes_nothing(prepared):
    picture = prepared.train_pictures.read(0)
    rng = np.random.default_rng(0)
    out = prepare(picture, TINY, augmentation=Augmentation(**NOTHING), rng=rng)
    np.testing.assert_array_equal(out, prepare(picture, TINY))


def test_brightness_and_contrast_stay_within_their_amounts():
    grey = np.full((8, 8, 3), 100, np.uint8)
    augmentation = Augmentation(**NOTHING | {"brightness": 0.1, "contrast": 0.2})
    levels = [
        prepare(grey, TINY, augmentation=augmentation, rng=np.random.default_rng(seed))[0, 0, 0]
        for seed in range(200)
    ]
    reach = 0.1 * 255 + 0.2 * 27.5 + 1
    assert 100 - reach <= min(levels) < 85 and 115 < max(levels) <= 100 + reach


def test_erasing_fills_one_rectangle_with_noise():
    black = np.zeros((40, 40, 3), np.uint8)
    augmentation = Augmentation(**NOTHING | {"erase": 1.0})
    for seed in range(20):
        out = prepare(
            black,
            Preprocessing((40, 40, 3)),
            augmentation=augmentation,
            rng=np.random.default_rng(seed),
        )
        noisy = out.any(axis=2)
        rows, columns = np.flatnonzero(noisy.any(axis=1)), np.flatnonzero(noisy.any(axis=0))
        box = noisy[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert box.mean() > 0.99  # noise itself is seldom black
        assert 0.015 < box.size / noisy.size < 0.27


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_mixed_labels_weigh_what_is_in_the_picture(name):
    rows = np.arange(0, 50, 5)
    preprocessing = Preprocessing((64, 64, 3))

    def mixed(seed=0, epoch=0):
        batches = Batches(
            Plain(),
            rows,
            preprocessing,
            labels=np.eye(10),
            augmentation=Augmentation(**NOTHING | {name: 1.0}),
            seed=seed,
        )
        batches.epoch = epoch
        return batches[0]

    images, labels = mixed()
    assert images.dtype == np.uint8 and labels.dtype == np.float32
    np.testing.assert_allclose(labels.sum(axis=1), 1.0, atol=1e-5)
    assert (labels.max(axis=1) < 0.99).any()
    # One grey level a picture: the mean level is the mean of the levels by label, but for the
    # rounding of levels, and of the sides of CutMix's rectangles to whole pixels.
    atol = {"mixup": 0.5, "cutmix": np.ptp(5.0 * rows) * 2 / 64}[name]
    np.testing.assert_allclose(images.mean(axis=(1, 2, 3)), labels @ (5.0 * rows), atol=atol)
    for left, right in zip(mixed(), (images, labels), strict=True):
        np.testing.assert_array_equal(left, right)
    assert not np.array_equal(mixed(seed=1)[1], labels)
    assert not np.array_equal(mixed(epoch=1)[1], labels)


# The same pixels everywhere -------------------------------------------------------------------


class Looker:
    """A network that says what it sees."""

    def predict_on_batch(self, images):
        assert images.dtype == np.uint8
        return images.reshape(len(images), -1).astype(np.float32)


@pytest.mark.parametrize("mode", ["squash", "pad", "crop"])
def test_train_val_test_and_prediction_see_the_same_bits(prepared, museum, mode):
    """Old kits trained on x / 255 and predicted on x / 127.5 - 1."""
    preprocessing = Preprocessing((32, 32, 3), mode)
    pictures, rows = prepared.train_pictures, np.arange(23)
    by_hand = np.stack([prepare(pictures.read(row), preprocessing) for row in rows])
    train = Batches(
        pictures, rows, preprocessing, labels=np.zeros((23, 1)), batch_size=5, shuffle=True
    )
    shuffled = np.concatenate([train[index][0] for index in range(len(train))])
    np.testing.assert_array_equal(shuffled, by_hand[train.order(0)])
    views = predict_views(Looker(), pictures, rows, preprocessing, mirror_view=True, batch_size=4)
    np.testing.assert_array_equal(views[0].reshape(by_hand.shape), by_hand)
    mirrored = np.stack([prepare(pictures.read(row), preprocessing, flip=True) for row in rows])
    np.testing.assert_array_equal(views[1].reshape(by_hand.shape), mirrored)
    # Files given to a finished run take the same way as the collection's.
    ids = prepared.collection.train.ids[:5]
    files = [decode_image(prepared.collection.picture_path("train", name)) for name in ids]
    own = cache_of_images(files, ids, preprocessing.min_side)
    for row in range(5):
        np.testing.assert_array_equal(prepare(own.read(row), preprocessing), by_hand[row])


# Geometry -------------------------------------------------------------------------------------

sides = st.integers(16, 90)


@settings(max_examples=40, deadline=None)
@given(height=sides, width=sides, target=st.tuples(sides, sides), seed=st.integers(0, 99))
def test_squash_is_bilinear_resizing_at_pixel_centres(height, width, target, seed):
    picture = smooth_picture(height, width, seed)
    expected = cv2.resize(picture, target[::-1], interpolation=cv2.INTER_LINEAR)
    # Smooth pictures rise by up to 30 levels a pixel; a warp rounds to 1/32 pixel.
    assert largest_difference(prepare(picture, Preprocessing((*target, 3))), expected) <= 2


def warp_slowly(picture, target, *, flip, scale, shift, rotate):
    """Pixel by pixel: undo the shift, the rotation about the centre, the zoom, the mirror."""
    height, width, _ = picture.shape
    rows, columns = np.mgrid[: target[0], : target[1]] + 0.5
    x, y = columns - target[1] * (0.5 + shift[0]), rows - target[0] * (0.5 + shift[1])
    angle = np.deg2rad(rotate)
    x, y = np.cos(angle) * x - np.sin(angle) * y, np.sin(angle) * x + np.cos(angle) * y
    x, y = x / scale / target[1] * width, y / scale / target[0] * height
    x = (-x if flip else x) + width / 2 - 0.5
    y = y + height / 2 - 0.5
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    across, down = (x - left)[..., None], (y - top)[..., None]
    values = picture.astype(float)

    def pixel(row, column):
        return values[np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)]

    upper = pixel(top, left) * (1 - across) + pixel(top, left + 1) * across
    lower = pixel(top + 1, left) * (1 - across) + pixel(top + 1, left + 1) * across
    return upper * (1 - down) + lower * down


@settings(max_examples=40, deadline=None)
@given(
    height=sides,
    width=sides,
    target=st.tuples(sides, sides),
    flip=st.booleans(),
    scale=st.floats(0.7, 1.4),
    shift=st.tuples(st.floats(-0.2, 0.2), st.floats(-0.2, 0.2)),
    rotate=st.floats(-45, 45),
)
def test_one_warp_is_flip_zoom_rotation_and_shift(height, width, target, **draw):
    picture = smooth_picture(height, width)
    matrix = picture_matrix(height, width, Preprocessing((*target, 3)), **draw)
    warped = cv2.warpAffine(
        picture, matrix, target[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    assert largest_difference(warped, np.round(warp_slowly(picture, target, **draw))) <= 3


@settings(deadline=None)
@given(
    height=sides,
    width=sides,
    target=st.tuples(sides, sides),
    mode=st.sampled_from(["squash", "pad", "crop"]),
    seed=st.integers(0, 99),
)
def test_four_channels_give_the_pixels_of_three(height, width, target, mode, seed):
    picture = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    preprocessing = Preprocessing((*target, 3), mode)
    strong = Augmentation(scale=0.5, shift=0.3, rotate=40.0, brightness=0.0, contrast=0.0)

    results = []
    for four in (False, True):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(geometry, "_FOUR_CHANNELS", four)
            rng = np.random.default_rng(seed)
            out = np.empty(preprocessing.image_shape, np.uint8)
            prepare(picture, preprocessing, augmentation=strong, rng=rng, out=out)
            results.append(out)
    np.testing.assert_array_equal(*results)


def test_whole_pixels_move_without_loss():
    picture = np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)

    def warp(**draw):
        matrix = picture_matrix(20, 20, Preprocessing((20, 20, 3)), **draw)
        return cv2.warpAffine(picture, matrix, (20, 20), borderMode=cv2.BORDER_REPLICATE)

    np.testing.assert_array_equal(warp(), picture)
    np.testing.assert_array_equal(warp(flip=True), picture[:, ::-1])
    np.testing.assert_array_equal(warp(rotate=90), np.rot90(picture))
    np.testing.assert_array_equal(warp(shift=(0.1, 0.0))[:, 2:], picture[:, :-2])
    np.testing.assert_array_equal(warp(shift=(0.0, -0.05))[:-1], picture[1:])


@settings(max_examples=30, deadline=None)
@given(
    height=sides,
    width=sides,
    target=st.tuples(sides, sides),
    mode=st.sampled_from(["squash", "pad", "crop"]),
)
def test_the_mirror_of_the_result_is_the_result_of_the_mirror(height, width, target, mode):
    picture = smooth_picture(height, width)
    preprocessing = Preprocessing((*target, 3), mode)
    result = prepare(picture, preprocessing)
    of_mirror = prepare(np.ascontiguousarray(picture[:, ::-1]), preprocessing)
    assert largest_difference(result[:, ::-1], of_mirror) <= 2
    assert largest_difference(result[:, ::-1], prepare(picture, preprocessing, flip=True)) <= 2


@settings(max_examples=30, deadline=None)
@given(height=sides, width=sides, target=st.tuples(sides, sides))
def test_pad_keeps_the_aspect_ratio_in_the_middle_of_grey(height, width, target):
    white = np.full((height, width, 3), 255, np.uint8)
    result = prepare(white, Preprocessing((*target, 3), "pad"))[..., 0]
    scale = min(target[0] / height, target[1] / width)
    # Edge pixels are part picture, part grey: their share counts.
    shares = (result.astype(float) - 127) / 128
    assert shares.max(axis=1).sum() == pytest.approx(scale * height, abs=1.5)
    assert shares.max(axis=0).sum() == pytest.approx(scale * width, abs=1.5)
    assert largest_difference(result, result[::-1, ::-1]) <= 8


def test_crop_of_a_strip_keeps_twice_its_shorter_side():
    """iMet 2019 has a strip of 300 x 7,531 pixels."""
    strip = smooth_picture(7531, 300)
    preprocessing = Preprocessing((64, 64, 3), "crop")
    cuts = {0.0: strip[:600], 0.5: strip[3465:4065], 1.0: strip[-600:]}
    for crop, cut in cuts.items():
        matrix = picture_matrix(7531, 300, preprocessing, crop=crop)
        warped = cv2.warpAffine(strip, matrix, (64, 64), flags=cv2.INTER_LINEAR)
        expected = cv2.resize(cut, (64, 64), interpolation=cv2.INTER_LINEAR)
        assert largest_difference(warped, expected) <= 2
    lying = prepare(np.ascontiguousarray(strip.transpose(1, 0, 2)), preprocessing)
    assert largest_difference(lying.transpose(1, 0, 2), prepare(strip, preprocessing)) <= 2
    # Up to 2:1 nothing is cut.
    moderate = smooth_picture(300, 600)
    np.testing.assert_array_equal(
        prepare(moderate, preprocessing), prepare(moderate, Preprocessing((64, 64, 3)))
    )


# What bad input gets --------------------------------------------------------------------------


def test_errors_say_what_came():
    with pytest.raises(ValueError, match=r"image_shape=\(32, 32, 1\)"):
        Preprocessing((32, 32, 1))
    with pytest.raises(ValueError, match=r"one of squash, pad, crop. Received: resize_mode='fit'"):
        Preprocessing((32, 32, 3), "fit")
    with pytest.raises(ValueError, match=r"Received: contrast=1\.5"):
        Augmentation(contrast=1.5)
    with pytest.raises(ValueError, match=r"Received: shift=-0\.1"):
        Augmentation(shift=-0.1)
    with pytest.raises(ValueError, match=r"Received: mixup=nan"):
        Augmentation(mixup=float("nan"))
    with pytest.raises(ValueError, match="2 labels and 3 rows"):
        Batches(Plain(), [0, 1, 2], TINY, labels=np.zeros((2, 4)))
    with pytest.raises(ValueError, match="batch_size=0, 3 rows"):
        Batches(Plain(), [0, 1, 2], TINY, batch_size=0)
    with pytest.raises(ValueError, match="0 rows"):
        Batches(Plain(), [], TINY)


def test_preprocessing_travels_as_plain_values():
    preprocessing = Preprocessing((64, 48, 3), "pad")
    assert preprocessing.min_side == 48
    assert Preprocessing.from_dict(preprocessing.to_dict()) == preprocessing
