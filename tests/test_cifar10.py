"""CIFAR-10: both forms of the file, where it is found, what is refused, and the real copy."""

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imetlib import paths
from imetlib.collection.cifar10 import CLASS_NAMES, load_cifar10
from imetlib.collection.classified import ClassifiedPictures

NUM = {"train": 30, "test": 20}


def make_arrays(seed=0):
    """Arrays of a small CIFAR-10 with the labels in turn."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for split, number in NUM.items():
        # Smooth, so that JPEG keeps them nearly as they are.
        corners = rng.integers(0, 256, (number, 2, 2, 3)).astype(np.uint8)
        arrays[f"x_{split}"] = np.stack(
            [np.asarray(Image.fromarray(c).resize((32, 32), Image.Resampling.BICUBIC))
             for c in corners]
        )  # fmt: skip
        first = 0 if split == "train" else 3
        arrays[f"y_{split}"] = ((np.arange(number) + first) % 10).astype(np.uint8)
    return arrays


def jpeg(picture):
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=75)
    return stream.getvalue()


def make_packed():
    """The same pictures in the packed form."""
    arrays, packed = make_arrays(), {"class_names": np.array(CLASS_NAMES)}
    for split in NUM:
        files = [jpeg(picture) for picture in arrays[f"x_{split}"]]
        ends = np.cumsum([len(file) for file in files])
        packed[f"{split}_jpeg"] = np.frombuffer(b"".join(files), np.uint8)
        packed[f"{split}_offsets"] = np.append(0, ends).astype(np.int32)
        packed[f"{split}_labels"] = arrays[f"y_{split}"]
    return packed


def write(path, arrays):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **arrays)
    return path


def test_arrays_come_back_as_they_are(tmp_path):
    arrays = make_arrays()
    data = load_cifar10(write(tmp_path / "small.npz", arrays))
    np.testing.assert_array_equal(data.train_images, arrays["x_train"])
    np.testing.assert_array_equal(data.test_images, arrays["x_test"])
    assert data.train_labels.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9] * 3
    assert data.test_labels.tolist() == [3, 4, 5, 6, 7, 8, 9, 0, 1, 2] * 2
    assert data.train_labels.dtype == data.test_labels.dtype == np.int64
    assert data.class_names[0] == "airplane" and data.class_names[9] == "truck"
    assert len(data.class_names) == 10


def test_labels_in_a_column_are_the_same(tmp_path):
    arrays = make_arrays()
    flat = load_cifar10(write(tmp_path / "flat.npz", arrays))
    arrays |= {key: arrays[key][:, None].astype(np.int32) for key in ("y_train", "y_test")}
    column = load_cifar10(str(write(tmp_path / "column.npz", arrays)))
    np.testing.assert_array_equal(column.train_labels, flat.train_labels)
    np.testing.assert_array_equal(column.test_labels, flat.test_labels)


def test_arrays_say_whether_they_begin_with_the_original_pixels(tmp_path):
    arrays = make_arrays()
    data = load_cifar10(write(tmp_path / "unpacked.npz", arrays))
    assert data.source == "CIFAR-10 (not the original pixels), unpacked.npz"
    arrays["x_train"][0, 0, 0], arrays["x_test"][0, 0, 0] = (59, 62, 63), (158, 112, 49)
    assert load_cifar10(write(tmp_path / "own.npz", arrays)).source == "CIFAR-10, own.npz"


def test_packed_pictures_are_decoded_in_their_order(tmp_path):
    arrays, packed = make_arrays(), make_packed()
    data = load_cifar10(write(tmp_path / "packed.npz", packed))
    assert data.source == "CIFAR-10 (JPEG q75 copy), packed.npz"
    for split in NUM:
        images, labels = data.split(split)
        for row, image in enumerate(images):
            wanted = np.asarray(Image.open(io.BytesIO(jpeg(arrays[f"x_{split}"][row]))))
            np.testing.assert_array_equal(image, wanted)
        error = np.abs(images.astype(int) - arrays[f"x_{split}"])
        assert 0 < error.mean() < 6  # other pictures differ by about 85
        np.testing.assert_array_equal(labels, arrays[f"y_{split}"])


def changed(arrays, **changes):
    return {key: value for key, value in (arrays | changes).items() if value is not None}


ARRAYS, PACKED = make_arrays(), make_packed()
OFFSETS = PACKED["train_offsets"]
GIF = np.frombuffer(b"GIF89a" + bytes(40), np.uint8)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (changed(ARRAYS, y_test=None), "must hold the arrays x_train.*Received: x_test, x_train"),
        ({}, "Received: none"),
        (changed(PACKED, class_names=None), "or train_jpeg.*Received: test_jpeg"),
        (changed(ARRAYS, x_train=ARRAYS["x_train"] / 255), r"`x_train` must be .* float64"),
        (
            changed(ARRAYS, x_test=ARRAYS["x_test"].transpose(0, 3, 1, 2)),
            r"`x_test` must be .*Received: \(20, 3, 32, 32\)",
        ),
        (changed(ARRAYS, x_test=ARRAYS["x_test"].reshape(20, -1)), r"Received: \(20, 3072\)"),
        (changed(ARRAYS, x_test=ARRAYS["x_test"][:, :28]), r"Received: \(20, 28, 32, 3\)"),
        (changed(ARRAYS, x_test=np.uint8(1)), r"`x_test` must be .*Received: \(\)"),
        (changed(ARRAYS, y_test=ARRAYS["y_test"] / 1), "labels of test must be integers.*float64"),
        (changed(ARRAYS, y_test=np.eye(20, 10, dtype=int)), r"\(num_samples, 1\).*\(20, 10\)"),
        (changed(ARRAYS, y_test=np.uint8(1)), r"labels of test must be .*Received: \(\)"),
        (changed(ARRAYS, y_test=ARRAYS["y_test"][:19]), "19 labels, 20 images"),
        (changed(ARRAYS, y_train=ARRAYS["y_train"] + 1), "`train_labels` must be in 0..9.*1 to 10"),
        (changed(ARRAYS, y_train=ARRAYS["y_train"].astype(int) - 1), "labels from -1 to 8"),
        (changed(ARRAYS, y_train=np.full(30, 2**64 - 1, np.uint64)), "labels from -1 to -1"),
        (
            changed(ARRAYS, x_test=ARRAYS["x_test"][:0], y_test=ARRAYS["y_test"][:0]),
            "0 labels, 0 images",
        ),
        (changed(ARRAYS, y_test=np.array([None] * 20)), "cannot be read.*allow_pickle"),
        (changed(PACKED, class_names=np.array(CLASS_NAMES[::-1])), "Received: truck, ship"),
        (changed(PACKED, train_labels=PACKED["train_labels"][:29]), "29 labels, 30 images"),
        (changed(PACKED, test_jpeg=PACKED["test_jpeg"][None]), r"`test_jpeg` must be .*\(1, "),
        (changed(PACKED, train_offsets=OFFSETS / 1), "`train_offsets` must be .* float64"),
        (changed(PACKED, train_offsets=OFFSETS[:1]), r"`train_offsets` must be .*\(1,\)"),
        (changed(PACKED, train_offsets=np.maximum(OFFSETS, 1)), "must rise .* Received: 1 to"),
        (changed(PACKED, train_offsets=OFFSETS[:-1]), "must rise from 0 to the"),
        (changed(PACKED, train_offsets=np.sort(OFFSETS)[[0, 2, 1, *range(3, 31)]]), "1 steps not"),
        (changed(PACKED, train_jpeg=PACKED["train_jpeg"][:-9]), "must rise from 0 to the"),
        (
            changed(PACKED, train_offsets=OFFSETS - np.isin(np.arange(31), [2]) * 300),
            "bad.npz, train picture 1: cannot be decoded|bad.npz, train picture 1: not a picture",
        ),
        (
            changed(
                PACKED,
                test_jpeg=np.concatenate([GIF] * 20),
                test_offsets=np.arange(21) * len(GIF),
            ),
            "bad.npz, test picture 0: ",
        ),
    ],
)  # fmt: skip
def test_what_is_refused_names_the_file(tmp_path, arrays, message):
    path = write(tmp_path / "bad.npz", arrays)
    with pytest.raises(ValueError, match=message) as error:
        load_cifar10(path)
    assert str(path) in str(error.value)


def test_a_picture_of_another_size_is_refused(tmp_path):
    packed = make_packed()
    file = np.frombuffer(jpeg(np.zeros((40, 32, 3), np.uint8)), np.uint8)
    packed["test_jpeg"] = np.append(packed["test_jpeg"], file)
    packed["test_offsets"] = np.append(packed["test_offsets"], len(packed["test_jpeg"]))
    packed["test_labels"] = np.append(packed["test_labels"], 3)
    with pytest.raises(ValueError, match=r"big.npz, test picture 20 must have .*\(40, 32, 3\)"):
        load_cifar10(write(tmp_path / "big.npz", packed))


def damage(content, how):
    if how == "half":
        return content[: len(content) // 2]
    if how == "empty":
        return b""
    if how == "page":
        return b"<!DOCTYPE html><title>Not found</title>"
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        start = archive.getinfo("x_train.npy").header_offset + 500
    return content[:start] + bytes(200) + content[start + 200 :]


@pytest.mark.parametrize("how", ["half", "empty", "page", "hole"])
def test_a_damaged_file_is_refused(tmp_path, how):
    path = write(tmp_path / "cifar10.npz", make_arrays())
    path.write_bytes(damage(path.read_bytes(), how))
    with pytest.raises(ValueError, match=r"cifar10\.npz cannot be read; get it again"):
        load_cifar10(path)


def test_a_single_array_is_refused(tmp_path):
    path = tmp_path / "cifar10.npz"
    with path.open("wb") as file:
        np.save(file, make_arrays()["x_train"])
    with pytest.raises(ValueError, match=r"no \.npz file"):
        load_cifar10(path)


def test_a_path_without_a_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.npz"):
        load_cifar10(tmp_path / "nowhere.npz")
    with pytest.raises(FileNotFoundError, match=r"must be a \.npz file"):
        load_cifar10(tmp_path)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Data folders without any data; their paths."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IMETLIB_DATA", str(tmp_path / "own"))
    monkeypatch.setattr(paths, "KAGGLE_INPUT", tmp_path / "kaggle")
    return tmp_path


def test_the_file_is_found_in_the_data_folders(home):
    for folder in ("kaggle", "data", "own"):  # each goes before the one written earlier
        path = write(home / folder / "cifar10" / f"from-{folder}.npz", make_packed())
        assert load_cifar10().source.endswith(f", from-{folder}.npz")
    write(path.with_name("another.npz"), make_arrays())
    with pytest.raises(FileNotFoundError, match=r"another\.npz.*from-own\.npz.*Give one"):
        load_cifar10()
    assert load_cifar10(path).source.endswith("from-own.npz")


def test_without_a_file_it_comes_from_keras(home, monkeypatch):
    arrays = make_arrays()
    splits = tuple((arrays[f"x_{split}"], arrays[f"y_{split}"][:, None]) for split in NUM)
    monkeypatch.setattr("keras.datasets.cifar10.load_data", lambda: splits)
    data = load_cifar10()
    assert data.source == "CIFAR-10, keras.datasets.cifar10"
    np.testing.assert_array_equal(data.train_images, arrays["x_train"])
    np.testing.assert_array_equal(data.test_labels, arrays["y_test"])


def test_without_a_file_and_a_network_it_says_where_to_put_one(home, monkeypatch):
    def refuse():
        raise Exception("URL fetch failure")

    monkeypatch.setattr("keras.datasets.cifar10.load_data", refuse)
    with pytest.raises(FileNotFoundError, match="URL fetch failure") as error:
        load_cifar10()
    assert str(home / "own" / "cifar10") in str(error.value)


def make_data(**changes):
    images, labels = np.zeros((4, 8, 8, 3), np.uint8), np.array([0, 1, 1, 0])
    return ClassifiedPictures(
        **{
            "train_images": images, "train_labels": labels, "test_images": images[:2],
            "test_labels": labels[:2], "class_names": ("cat", "dog"), "source": "zeros",
        }
        | changes
    )  # fmt: skip


def test_a_data_set_gives_its_splits():
    data = make_data()
    assert data.split("train")[0] is data.train_images
    assert data.split("test")[1] is data.test_labels
    with pytest.raises(ValueError, match=r"must be train or test\. Received: name='val'"):
        data.split("val")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_images": np.zeros((4, 8, 8, 3))}, "`train_images` must be .* float64"),
        ({"test_images": np.zeros((2, 8, 8, 1), np.uint8)}, r"`test_images` must be .*8, 1\)"),
        ({"test_images": np.zeros((2, 8, 9, 3), np.uint8)}, r"one size.*\(8, 8\) and \(8, 9\)"),
        ({"train_labels": np.zeros(4, np.int32)}, "`train_labels` must be .* int32"),
        ({"train_labels": np.zeros((4, 1), np.int64)}, r"`train_labels` must be .*\(4, 1\)"),
        ({"train_labels": np.zeros(3, np.int64)}, "3 labels, 4 images"),
        ({"test_labels": np.array([0, 2])}, r"`test_labels` must be in 0..1.*from 0 to 2"),
    ],
)
def test_a_data_set_is_checked(changes, message):
    with pytest.raises(ValueError, match=message):
        make_data(**changes)


@pytest.fixture(scope="module")
def real():
    if "IMETLIB_DATA" not in os.environ:
        pytest.skip("IMETLIB_DATA is not set")
    files = sorted((Path(os.environ["IMETLIB_DATA"]) / "cifar10").glob("*.npz"))
    if not files:
        pytest.skip("IMETLIB_DATA has no cifar10/*.npz")
    return load_cifar10(files[0])


def test_the_real_copy_is_cifar10_in_its_order(real):
    assert real.train_images.shape == (50_000, 32, 32, 3)
    assert real.test_images.shape == (10_000, 32, 32, 3)
    assert real.train_labels[:10].tolist() == [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]
    assert real.test_labels[:10].tolist() == [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]
    assert np.bincount(real.train_labels).tolist() == [5_000] * 10
    assert np.bincount(real.test_labels).tolist() == [1_000] * 10


def test_the_real_copy_has_the_colours_of_cifar10(real):
    for images, mean, deviation in (
        (real.train_images, (0.4913, 0.4821, 0.4465), (0.2452, 0.2428, 0.2606)),
        (real.test_images, (0.4941, 0.4851, 0.4504), (0.2448, 0.2422, 0.2606)),
    ):
        np.testing.assert_allclose(images.mean(axis=(0, 1, 2)) / 255, mean, atol=0.001)
        found = [images[..., channel].std() / 255 for channel in range(3)]
        np.testing.assert_allclose(found, deviation, atol=0.005)
    # Another decoder may differ by a little; the original is (59, 62, 63).
    np.testing.assert_allclose(real.train_images[0, 0, 0], (61, 62, 67), atol=3)
    np.testing.assert_allclose(real.test_images[0, 0, 0], (167, 107, 47), atol=3)


def test_the_real_copy_has_the_quality_that_its_source_names(real):
    name = real.source.rpartition(", ")[2]
    if not real.source.startswith("CIFAR-10 (JPEG q75 copy)"):
        pytest.skip(f"{name} holds no JPEG files")
    with np.load(Path(os.environ["IMETLIB_DATA"]) / "cifar10" / name) as archive:
        code, offsets = archive["train_jpeg"].tobytes(), archive["train_offsets"]
    wanted = Image.open(io.BytesIO(jpeg(np.zeros((32, 32, 3), np.uint8)))).quantization
    for row in (0, 12_345, 49_999):
        file = Image.open(io.BytesIO(code[offsets[row] : offsets[row + 1]]))
        assert file.quantization == wanted
