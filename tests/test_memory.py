"""Memory of batches comes back when nobody holds them, and never while somebody does."""

import copy
import gc
import pickle
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest

from imetlib.collection.batches import Batches
from imetlib.collection.geometry import Augmentation, Preprocessing
from imetlib.collection.memory import ALIGNMENT, MAX_FREE, Memory
from imetlib.collection.pixels import Pixels

SIDE = Preprocessing((16, 16, 3))
ROWS = np.arange(40)


class Plain:
    """Pictures of one grey level each."""

    def read(self, row):
        return np.full((16, 16, 3), row, np.uint8)


def prepared():
    data = np.repeat(ROWS.astype(np.uint8), 16 * 16 * 3).reshape(40, 16, 16, 3)
    return Pixels(ROWS.astype(str).astype(object), data, SIDE)


def address(array):
    return array.__array_interface__["data"][0]


def test_memory_comes_back_with_the_last_reference():
    memory = Memory()
    first = memory.empty((3, 5, 7))
    place = address(first)
    assert first.shape == (3, 5, 7) and first.dtype == np.uint8 and first.flags.c_contiguous
    assert place % ALIGNMENT == 0
    # A view of a view, of another type and form, as a buffer that NumPy knows nothing of.
    kept = memoryview(np.asarray(first[1:, ::2].T[3:].view(np.int8)))
    del first
    assert address(memory.empty((3, 5, 7))) != place
    del kept
    # That of the array above, dropped at once, or the one that has just come back.
    assert place in [address(array) for array in (memory.empty((3, 5, 7)), memory.empty((105,)))]


def test_arrays_that_live_never_share_memory():
    memory, rng, held = Memory(), np.random.default_rng(0), []
    for turn in range(300):
        if held and rng.random() < 0.5:
            held.pop(rng.integers(len(held)))
        array = memory.empty((int(rng.integers(0, 200)),))
        array[:] = turn % 256
        held.append((turn % 256, array[::3]))
        for value, view in held:
            assert np.all(view == value)


def test_no_more_than_a_few_are_kept_and_small_ones_make_room():
    memory = Memory()
    arrays = [memory.empty((10,)) for _ in range(3 * MAX_FREE)]
    del arrays
    assert len(memory._free) == MAX_FREE
    large = memory.empty((1000,))
    large[:] = 1
    assert len(large) == 1000


def test_a_copy_starts_empty():
    memory = Memory()
    memory.empty((1 << 16,))
    assert len(pickle.dumps(memory)) < 200
    assert not copy.deepcopy(memory)._free and not pickle.loads(pickle.dumps(memory))._free


# Batches --------------------------------------------------------------------------------------


@pytest.mark.parametrize("pictures", [Plain(), prepared()], ids=["decoded", "prepared"])
@pytest.mark.parametrize("flip", [False, True])
def test_an_epoch_that_is_kept_stays_what_it_was(pictures, flip):
    batches = Batches(pictures, ROWS, SIDE, batch_size=7, shuffle=True, seed=2, flip=flip)
    kept = [batches[index] for index in range(len(batches))]
    for index in range(len(batches)):
        batches[index]
    assert np.concatenate(kept)[:, 3, 3, 1].tolist() == batches.order(0).tolist()
    assert all(np.all(batch == batch[:, :1, :1, :1]) for batch in kept)


@pytest.mark.parametrize("pictures", [Plain(), prepared()], ids=["decoded", "prepared"])
def test_a_batch_lies_where_the_last_one_was(pictures):
    batches = Batches(pictures, ROWS, SIDE, batch_size=7)
    places = {address(batches[index]) for _ in range(3) for index in range(len(batches))}
    # Sizes differ by a picture: the first may have been too small.
    assert len(places) <= 2


def to_tensors(library, batches):
    """Tensors of all batches as `library` makes them without a copy; skips where it is missing."""
    module = pytest.importorskip(library)
    if library == "tensorflow":
        # As `fit` reads them; `tf.convert_to_tensor` copies, as `jax.numpy.asarray` does.
        dataset = module.data.Dataset.from_generator(
            lambda: (batches[index] for index in range(len(batches))),
            output_signature=module.TensorSpec((None, 16, 16, 3), "uint8"),
        )
        yield from dataset
        return
    convert = {
        "jax": lambda: module.device_put,
        "torch": lambda: module.as_tensor,
        "keras": lambda: keras.ops.convert_to_tensor,
    }[library]()
    for index in range(len(batches)):
        yield convert(batches[index])


@pytest.mark.parametrize("library", ["keras", "tensorflow", "jax", "torch"])
def test_tensors_keep_their_values_when_the_arrays_are_gone(library):
    batches = Batches(prepared(), ROWS, SIDE, batch_size=4)
    kept = list(to_tensors(library, batches))
    gc.collect()
    for index in range(len(batches)):
        batches[index]
    found = np.concatenate([keras.ops.convert_to_numpy(tensor) for tensor in kept])
    np.testing.assert_array_equal(found[:, 5, 5, 0], ROWS)
    assert np.all(found == found[:, :1, :1, :1])


@pytest.mark.parametrize("library", ["tensorflow", "jax", "torch"])
def test_tensors_lie_where_the_arrays_were(library, monkeypatch):
    """Else the test above would show nothing, and `fit` would copy each batch once more."""
    places, empty = [], Memory.empty

    def watch(self, shape):
        array = empty(self, shape)
        places.append(address(array))
        return array

    monkeypatch.setattr(Memory, "empty", watch)
    tensors = to_tensors(library, Batches(prepared(), ROWS, SIDE, batch_size=4))
    found = [address(np.from_dlpack(tensor)) for tensor in tensors]
    assert len(found) == 10 and set(found) <= set(places)


def test_mixed_pictures_do_not_lie_in_memory_that_is_used_again():
    mixing = Augmentation(0, 0, 0, 0, 0, 0, mixup=0.4)
    batches = Batches(
        Plain(),
        ROWS,
        SIDE,
        labels=np.eye(40)[ROWS],
        batch_size=8,
        augmentation=mixing,
        shuffle=True,
    )
    kept = [batches[index] for index in range(len(batches))]
    again = [batches[index][0].copy() for index in range(len(batches))]
    for (images, _), copied in zip(kept, again, strict=True):
        np.testing.assert_array_equal(images, copied)


@pytest.mark.parametrize("pictures", [Plain(), prepared()], ids=["decoded", "prepared"])
def test_threads_that_read_one_sequence_get_their_own_batches(pictures):
    batches = Batches(pictures, ROWS, SIDE, batch_size=4)

    def read(seed):
        indices = np.random.default_rng(seed).integers(len(batches), size=60)
        held = {}
        for index in indices.tolist():
            held[index] = batches[index]
            for kept, batch in held.items():
                wanted = np.arange(4 * kept, 4 * kept + 4)
                np.testing.assert_array_equal(batch[:, 8, 8, 2], wanted)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(read, range(4)))
