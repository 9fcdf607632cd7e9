"""Foreign pictures come out as a person sees them, or are refused by name."""

import csv
import io
import os
import struct
import threading
import time
import warnings
import zlib
from pathlib import Path

import numpy as np
import PIL
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from imetlib.collection.images import (
    MAX_PIXELS,
    MAX_SCANS,
    ImageError,
    ImageFault,
    check_images,
    decode_image,
    map_in_threads,
    shrink,
)

DATA = os.environ.get("IMETLIB_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="IMETLIB_DATA is not set")
WHITE, BLACK, RED = (255, 255, 255), (0, 0, 0), (255, 0, 0)


def encode(image, format="PNG", **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def as_image(pixels, mode=None):
    image = Image.fromarray(np.array(pixels, np.uint8))
    return image if mode is None else image.convert(mode)


def draw(height=40, width=60):
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 5, columns * 4, 128 + 0 * rows], axis=-1).astype(np.uint8)


def png_header(width, height):
    """A whole PNG of three chunks that promises more pixels than it has."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", b"")]
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in [*chunks, (b"IEND", b"")]
    )
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("format", ["PNG", "BMP", "WEBP"])
def test_lossless_formats_keep_every_pixel(format):
    pixels = draw()
    options = {"lossless": True} if format == "WEBP" else {}
    decoded = decode_image(encode(as_image(pixels), format, **options))
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, pixels)
    decoded[0, 0] = 7  # the array is the caller's own


@pytest.mark.parametrize(("mode", "error"), [("RGB", 4), ("L", 4), ("CMYK", 8)])
def test_jpeg_is_close(mode, error):
    pixels = draw()
    decoded = decode_image(encode(as_image(pixels, mode), "JPEG", quality=95, subsampling=0))
    wanted = np.asarray(as_image(pixels, mode).convert("RGB"))
    assert decoded.shape == pixels.shape
    assert np.abs(decoded.astype(int) - wanted).mean() < error


@pytest.mark.parametrize(
    ("image", "wanted"),
    [
        (as_image([[0, 100, 255]]), [BLACK, (100, 100, 100), WHITE]),
        (as_image([[0, 255, 255]], "1"), [BLACK, WHITE, WHITE]),
        (as_image([[RED, WHITE, BLACK]], "P"), [RED, WHITE, BLACK]),
        (Image.fromarray(np.array([[0, 25_700, 65_535]], np.uint16)), [BLACK, (100,) * 3, WHITE]),
        (as_image([[(255, 0, 0, 255), (0, 0, 255, 0)]]), [RED, WHITE]),
        (as_image([[(0, 0, 0, 51)]]), [(204, 204, 204)]),
        (as_image([[(0, 0, 0, 51)]], "LA"), [(204, 204, 204)]),
    ],
    ids=["grey", "1 bit", "palette", "16 bit", "alpha", "half alpha", "grey alpha"],
)
def test_modes_become_rgb_on_white(image, wanted):
    np.testing.assert_array_equal(decode_image(encode(image))[0], wanted)


@pytest.mark.parametrize("mode", ["L", "P", "RGB"])
def test_a_transparent_colour_becomes_white(mode):
    image = as_image([[BLACK, RED]], mode)
    colour = {"L": 0, "P": image.getpixel((0, 0)), "RGB": BLACK}[mode]
    decoded = decode_image(encode(image, transparency=colour))
    assert decoded[0, 0].tolist() == list(WHITE)
    assert decoded[0, 1].tolist() == list(image.convert("RGB").getpixel((1, 0)))


def test_16_bit_grey_with_a_transparent_value_is_refused():
    image = Image.fromarray(np.array([[0, 25_700]], np.uint16))
    chunk = b"tRNS\0\0"
    data = encode(image)
    place = data.index(b"IDAT") - 4
    chunk = struct.pack(">I", 2) + chunk + struct.pack(">I", zlib.crc32(chunk))
    with pytest.raises(ImageError, match="16-bit grey with a transparent value"):
        decode_image(data[:place] + chunk + data[place:])


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG"])
def test_first_frame_of_an_animation(format):
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, BLACK)]
    options = {"lossless": True} if format == "WEBP" else {}
    data = encode(frames[0], format, save_all=True, append_images=frames[1:], **options)
    np.testing.assert_array_equal(decode_image(data), np.full((8, 8, 3), RED))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_pictures_stand_upright(orientation, format):
    upright = draw()
    # What a camera stores, written out for each value of the tag (EXIF 2.3, section 4.6.4).
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright.transpose(1, 0, 2)[::-1],
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: upright.transpose(1, 0, 2)[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}
    image = Image.fromarray(np.ascontiguousarray(stored))
    decoded = decode_image(encode(image, format, exif=exif, **options.get(format, {})))
    assert decoded.shape == upright.shape
    assert np.abs(decoded.astype(int) - upright).max() <= (6 if format == "JPEG" else 0)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not a picture of the kinds that are read"),
        (b"<!doctype html><html></html>", "not a picture of the kinds that are read"),
        (encode(Image.new("RGB", (9, 9)), "TIFF"), "not a picture of the kinds that are read"),
        (encode(Image.new("RGB", (9, 9)), "PPM"), "not a picture of the kinds that are read"),
        (encode(as_image(draw()), "JPEG")[:-40], "cannot be decoded: .*truncated"),
        (encode(as_image(draw()), "PNG")[:90], "cannot be decoded"),
        (encode(as_image(draw()), "WEBP")[:100], "cannot be decoded|not a picture"),
        (png_header(10_000, 5_001), "10000 x 5001 pixels, the limit is 50,000,000"),
        (png_header(10_000, 10_000), "100000000 pixels|10000 x 10000"),
        (png_header(60_000, 60_000), "3600000000 pixels"),
        (bytes.fromhex("ffd8ffe00005ff"), "cannot be decoded|not a picture"),
    ],
)
def test_bad_pictures_are_refused_by_name(tmp_path, data, reason):
    path = tmp_path / "vase.jpg"
    path.write_bytes(data)
    start = time.process_time()
    with pytest.raises(ImageError, match=reason) as caught:
        decode_image(path)
    assert time.process_time() - start < 2
    assert str(caught.value).startswith(str(path))
    assert caught.value.faults[0].path == str(path)


def many_scans(number):
    """A progressive JPEG whose last scan, which refines nothing, stands there `number` times."""
    data = encode(Image.new("L", (160, 80), 128), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * number + data[-2:]


def test_a_jpeg_has_a_limit_of_scans():
    """Each goes over all the pixels: in 100 kB there is room for minutes of them."""
    others = many_scans(0).count(b"\xff\xda")
    plain = decode_image(many_scans(1))
    np.testing.assert_array_equal(decode_image(many_scans(MAX_SCANS - others)), plain)
    with pytest.raises(ImageError, match=f"a JPEG of {MAX_SCANS + 1} scans, the limit is 100"):
        decode_image(many_scans(MAX_SCANS - others + 1))


@pytest.mark.parametrize("height", [1, 255, 256, 257, 600])
def test_pictures_of_any_height_are_whole(height):
    """They become RGB in strips."""
    pixels = np.random.default_rng(0).integers(0, 256, (height, 5, 4), np.uint8)
    # Pillow's own blend of a whole picture with white.
    page = Image.new("RGB", (5, height), "white")
    page.paste(as_image(pixels), mask=as_image(pixels).getchannel("A"))
    np.testing.assert_array_equal(decode_image(encode(as_image(pixels))), np.asarray(page))


def test_the_pixel_limit_is_not_a_pixel_lower():
    """Header only: a picture at the limit gets as far as its missing pixels."""
    with pytest.raises(ImageError, match=r"truncated|unrecognized|broken|incomplete"):
        decode_image(png_header(10_000, MAX_PIXELS // 10_000))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damage_gives_a_picture_or_an_image_error(data):
    whole = bytearray(encode(as_image(draw()), data.draw(st.sampled_from(["JPEG", "PNG", "GIF"]))))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        decoded = decode_image(bytes(whole), name="damaged")
    except ImageError as error:
        assert str(error).startswith("damaged: ")
    else:
        assert decoded.ndim == 3
        assert decoded.shape[2] == 3


def test_sources_and_their_names(tmp_path):
    data = encode(as_image(draw()))
    path = tmp_path / "a.png"
    path.write_bytes(data)
    with path.open("rb") as file:
        np.testing.assert_array_equal(decode_image(file), decode_image(path))
    np.testing.assert_array_equal(decode_image(data), decode_image(str(path)))
    with pytest.raises(ImageError, match=r"nothing.png: no such file"):
        decode_image(tmp_path / "nothing.png")
    with pytest.raises(ImageError, match=r"cannot be decoded: Is a directory|Permission"):
        decode_image(tmp_path)
    with pytest.raises(ImageError, match="a picture of 3 bytes: not a picture"):
        decode_image(b"abc")
    with pytest.raises(ImageError, match="upload 7: not a picture"):
        decode_image(b"abc", name="upload 7")


def test_check_images_names_all_bad_ones_in_order(tmp_path, capfd):
    paths = [tmp_path / f"{i:02}.png" for i in range(20)]
    for i, path in enumerate(paths):
        path.write_bytes(b"bad" if i % 4 == 1 else encode(as_image(draw(5, 5))))
    faults = check_images(paths)
    assert [Path(fault.path).name for fault in faults] == [f"{i:02}.png" for i in range(1, 20, 4)]
    assert capfd.readouterr() == ("", "")
    assert check_images(paths[:1]) == []
    error = ImageError(faults)
    assert str(error).startswith("5 pictures cannot be read; replace or remove them\n")
    assert all(str(path) in str(error) for path in paths[1::4])
    assert str(ImageFault("a.png", "cut")) == "a.png: cut"


def test_warning_filters_survive_threads():
    """Pillow warns about this palette; overlapping threads must not leave filters behind."""
    data = encode(as_image([[BLACK, RED]], "P"), transparency=b"\x00\xff")
    before = list(warnings.filters)
    barrier = threading.Barrier(8)

    def decode(_):
        barrier.wait(timeout=20)
        for _ in range(20):
            decode_image(data)

    list(map_in_threads(decode, range(8), workers=8, progress=False))
    assert list(warnings.filters) == before


def test_map_in_threads_keeps_the_order_and_stops_early():
    assert list(map_in_threads(str, range(50), workers=4, progress=False)) == [*map(str, range(50))]
    seen = []

    def note(item):
        time.sleep(0.002)
        seen.append(item)
        return item

    results = map_in_threads(note, range(1_000), workers=2, progress=False)
    assert next(iter(results)) == 0
    results.close()
    assert len(seen) < 100
    with pytest.raises(ValueError, match="workers=0"):
        next(iter(map_in_threads(str, [1], workers=0, progress=False)))


@given(st.integers(1, 200), st.integers(1, 200), st.integers(1, 120))
@settings(max_examples=60, deadline=None)
def test_shrink_gives_the_wanted_side_and_keeps_the_aspect(height, width, min_side):
    image = np.zeros((height, width, 3), np.uint8)
    small = shrink(image, min_side)
    if min(height, width) <= min_side:
        assert small is image
    else:
        assert min(small.shape[:2]) == min_side
        factor = min_side / min(height, width)
        assert abs(max(small.shape[:2]) - max(height, width) * factor) <= 0.5 + 1e-9


def test_shrink_counts_every_pixel():
    """A fine chequerboard becomes even grey; taking single pixels would leave black and white."""
    board = (np.indices((400, 600)).sum(axis=0) % 2 * 255).astype(np.uint8)
    small = shrink(np.repeat(board[..., None], 3, axis=2), 37)
    assert np.abs(small[3:-3, 3:-3].astype(float) - 127.5).max() < 4
    rows, columns = np.mgrid[:200, :300]
    photo = np.stack([rows, columns * 0.8, 120 + rows * 0.5], axis=-1).astype(np.uint8)
    blocks = photo.reshape(50, 4, 75, 4, 3).mean(axis=(1, 3))
    assert np.abs(shrink(photo, 50)[2:-2, 2:-2] - blocks[2:-2, 2:-2]).max() < 2.5


def test_shrink_takes_a_long_strip():
    strip = np.random.default_rng(0).integers(0, 256, (300, 7_531, 3), np.uint8)
    assert shrink(strip, 160).shape == (160, 4_017, 3)
    assert shrink(strip.transpose(1, 0, 2), 160).shape == (4_017, 160, 3)
    with pytest.raises(ValueError, match="min_side=0"):
        shrink(strip, 0)


def corpus(folder):
    if not DATA:
        return []
    with (Path(DATA) / "bad_inputs/MANIFEST.csv").open(encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["cls"] == folder]


def corpus_path(row):
    return Path(DATA) / "bad_inputs" / row["cls"] / row["file"]


@needs_data
def test_corpus_must_decode():
    rows = corpus("must_decode")
    for row in rows:
        decoded = decode_image(corpus_path(row))
        assert decoded.shape[:2] == (int(row["upright_height"]), int(row["upright_width"])), row
        if row["mean_rgb"]:
            mean = [float(value) for value in row["mean_rgb"].split()]
            np.testing.assert_allclose(decoded.mean(axis=(0, 1)), mean, atol=0.06, err_msg=str(row))
    assert len(rows) == 234


@needs_data
@pytest.mark.parametrize(("folder", "count"), [("must_refuse", 228), ("must_not_hang_or_crash", 7)])
def test_corpus_must_refuse(folder, count):
    rows = corpus(folder)
    for row in rows:
        start = time.process_time()
        with pytest.raises(ImageError) as caught:
            decode_image(corpus_path(row))
        assert row["file"] in str(caught.value)
        assert time.process_time() - start < 2, row
    assert len(rows) == count


@needs_data
@pytest.mark.skipif(PIL.__version__ < "12", reason="older Pillow reads one odd BMP otherwise")
def test_corpus_disputed_is_the_reference_or_refused():
    """One more fuzzed GIF, without reference values, has a whole first frame and decodes."""
    refused = 0
    for row in corpus("disputed"):
        try:
            decoded = decode_image(corpus_path(row))
        except ImageError as error:
            assert row["file"] in str(error)
            refused += 1
            continue
        if row["upright_height"]:
            assert decoded.shape[:2] == (int(row["upright_height"]), int(row["upright_width"])), row
        if row["mean_rgb"]:
            # One number for grey pictures; those of 16 bits come unrounded, hence the margin.
            mean = np.array(row["mean_rgb"].split("(")[0].split(), float)
            assert np.abs(decoded.mean(axis=(0, 1)) - mean).max() < 0.11, row
    assert refused == 49
