"""A sheet of the pocket museum's pictures: the first figure of the README.

python -m imetlib.collection.contact_sheet results/museum.jpg
"""

import sys
from pathlib import Path

import cv2
import numpy as np

from imetlib.collection.museum import draw_picture, picture_spec

_GAP = 6


def draw_contact_sheet(*, num_rows=4, width=1200, height=150, seed=0, first=152):
    """Pictures of the museum side by side, every row as wide as the sheet.

    Args:
        num_rows: int >= 1.
        width: int. Pixels of the sheet.
        height: int. Pixels of a row before it is stretched to the width.
        seed: int. Of the museum.
        first: int. Number of the first picture; the first 152 go round the rare attributes.

    Returns:
        `(rows, width, 3)` uint8, RGB.
    """
    strips, row, filled, index = [], [], 0, first
    while len(strips) < num_rows:
        picture = draw_picture(picture_spec(seed, index), height)
        index += 1
        if picture.ndim == 2:
            picture = np.repeat(picture[..., None], 3, axis=2)
        across = round(picture.shape[1] * height / picture.shape[0])
        if across > width // 3 or across < height // 3:
            continue  # a frieze or a scroll would fill the row, or be a line
        row.append(cv2.resize(picture, (across, height), interpolation=cv2.INTER_AREA))
        filled += across + _GAP
        if filled >= width:
            gap = np.full((height, _GAP, 3), 255, np.uint8)
            strip = np.concatenate([part for item in row for part in (item, gap)][:-1], axis=1)
            size = (width, round(height * width / strip.shape[1]))
            strips += [cv2.resize(strip, size, interpolation=cv2.INTER_AREA)]
            row, filled = [], 0
    line = np.full((_GAP, width, 3), 255, np.uint8)
    return np.concatenate([part for strip in strips for part in (strip, line)][:-1])


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sheet = cv2.cvtColor(draw_contact_sheet(), cv2.COLOR_RGB2BGR)
    quality = [cv2.IMWRITE_JPEG_QUALITY, 88]
    Path(sys.argv[1]).write_bytes(cv2.imencode(".jpg", sheet, quality)[1].tobytes())
