"""Decode pictures, each in a process of its own, and say what that took.

    python tests/faults/decode.py FILE...
    python tests/faults/decode.py --at-the-limit FOLDER

Prints one JSON object a line: file, verdict ("decoded" or the reason), processor seconds, megabytes
by which the process grew at most, and the exit status (negative: the signal that ended it). With
`--at-the-limit`, pictures of 50 million pixels are written into the folder and decoded.
"""

import json
import os
import resource
import signal
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from imetlib.collection.images import MAX_PIXELS, ImageError, decode_image

# Against a hang: the default action of the signal ends C code as well.
GUARD_SECONDS = 20


def main(arguments):
    paths = [Path(name) for name in arguments]
    if arguments[0] == "--at-the-limit":
        folder = Path(arguments[1])
        # In a child, so that the processes that are measured do not begin with its memory.
        status, _ = in_child(lambda: write_large_pictures(folder), guard=300)
        assert status == 0, "the large pictures could not be written"
        paths = sorted(folder.iterdir())
    for path in paths:
        status, answer = in_child(lambda path=path: measure(path))
        print(json.dumps({"file": str(path), "status": status, **answer}), flush=True)


def in_child(function, guard=GUARD_SECONDS):
    """Exit status of a fork that calls `function`, and the dict that it returned."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(guard)
        os.close(reader)
        status = 1
        try:
            os.write(writer, json.dumps(function() or {}).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader) as file:
        answer = file.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return status, json.loads(answer or "{}")


def measure(path):
    """Verdict, processor seconds and growth of this process as it decodes a picture."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    try:
        decode_image(path)
        verdict = "decoded"
    except ImageError as error:
        verdict = error.faults[0].reason[:200]
    after = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "verdict": verdict,
        "seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "megabytes": (after.ru_maxrss - before.ru_maxrss) / 1024,
    }


def write_large_pictures(folder):
    """One picture of each kind with as many pixels as are allowed, lying on its side."""
    folder.mkdir(parents=True, exist_ok=True)
    Image.MAX_IMAGE_PIXELS = None
    grey = Image.linear_gradient("L").resize((10_000, MAX_PIXELS // 10_000))
    exif = Image.Exif()
    exif[0x0112] = 6
    rgb, rgba = Image.merge("RGB", [grey] * 3), Image.merge("RGBA", [grey] * 4)
    palette = grey.convert("P")
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    rgb.save(folder / "rgb.jpg", exif=exif)
    rgb.save(folder / "progressive.jpg", progressive=True, exif=exif)
    Image.merge("CMYK", [grey] * 4).save(folder / "cmyk.jpg", exif=exif)
    rgba.save(folder / "rgba.png", compress_level=1, exif=exif)
    deep.save(folder / "16-bit.png", compress_level=1, exif=exif)
    palette.save(folder / "palette.png", compress_level=1, transparency=3, exif=exif)
    palette.save(folder / "palette.gif", transparency=3)
    rgb.save(folder / "rgb.bmp")
    rgba.save(folder / "rgba.webp", lossless=True, method=0, quality=0, exif=exif)


if __name__ == "__main__":
    main(sys.argv[1:])
