"""Localisation: cases done by hand, and slow loops over fine grids as oracles."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from imetlib.collection.motifs import Motifs
from imetlib.localisation import (
    CENTRE,
    best_point,
    hits_of_points,
    overlap,
    pointing_game,
    summarise_seeds,
)
from imetlib.localisation_glimpses import (
    WHOLE_PICTURE,
    glimpse_overlap,
    glimpse_rectangles,
    winning_glimpses,
)
from imetlib.localisation_grids import box_coverage, cells_inside, enlarge_maps


def motifs_of(*cases, pictures=None, columns=None):
    """Motifs from the boxes of each case."""
    number = np.arange(len(cases))
    return Motifs(
        number if pictures is None else np.array(pictures),
        number if columns is None else np.array(columns),
        np.repeat(number, [len(boxes) for boxes in cases]),
        np.array([box for boxes in cases for box in boxes], float).reshape(-1, 4),
    )


LEFT, RIGHT, TOP_LEFT = (0, 0, 0.5, 1), (0.5, 0, 1, 1), (0, 0, 0.5, 0.5)


@st.composite
def boxes_on_a_grid(draw, side=12):
    """Boxes with corners on a grid of side x side, one to four a case."""

    def span():
        low = draw(st.integers(0, side - 1))
        return low, draw(st.integers(low + 1, side))

    cases = []
    for _ in range(draw(st.integers(1, 3))):
        boxes = []
        for _ in range(draw(st.integers(1, 4))):
            (x0, x1), (y0, y1) = span(), span()
            boxes.append((x0 / side, y0 / side, x1 / side, y1 / side))
        cases.append(boxes)
    return cases


def painted(boxes, side):
    """Oracle: a fine picture with True where one of the boxes is."""
    picture = np.zeros((side, side), bool)
    for y in range(side):
        for x in range(side):
            middle = (x + 0.5) / side, (y + 0.5) / side
            picture[y, x] = any(
                x0 <= middle[0] < x1 and y0 <= middle[1] < y1 for x0, y0, x1, y1 in boxes
            )
    return picture


def test_pointing_by_hand():
    maps = np.zeros((5, 2, 2))
    maps[0, 1, 0] = 2.0  # in the left half
    maps[1, 0, 1] = 2.0  # not in it
    maps[2, 0] = 3.0  # a tie of a cell inside and one outside
    maps[3] = -1.0  # all four tie
    maps[4, 1, 1] = 1.0  # in the second of two boxes
    game = pointing_game(
        maps, motifs_of([LEFT], [LEFT], [LEFT], [TOP_LEFT], [TOP_LEFT, (0.6, 0.6, 0.9, 0.9)])
    )
    assert game.hits.tolist() == [1, 0, 0.5, 0.25, 1]
    assert game.chance.tolist() == [0.5, 0.5, 0.5, 0.25, 0.5]
    assert game.possible.all()


def test_a_coarse_map_cannot_hit_a_small_box():
    maps = np.eye(3)[None]
    small = motifs_of([(0.05, 0.05, 0.15, 0.15)])
    game = pointing_game(maps, small)
    assert (game.hits, game.chance, game.possible) == (0, 0, False)
    # A cell's middle on the upper edge is outside, on the lower edge inside.
    assert pointing_game(maps, motifs_of([(0.5, 0.5, 0.6, 0.6)])).hits == pytest.approx(1 / 3)
    assert pointing_game(maps, motifs_of([(0.4, 0.4, 0.5, 0.5)])).chance == 0


def test_several_parts_a_case():
    maps = np.zeros((2, 2, 2, 3))
    maps[0, 0, 0, 0] = maps[0, 1, 1, 1] = maps[1, 0, 1, 2] = 1
    motifs = motifs_of([LEFT], [RIGHT])
    game, common = pointing_game(maps, motifs), overlap(maps, motifs)
    assert game.hits.tolist() == [[1, 0, 0.5], [0.5, 0.5, 1]]
    assert game.hits.max(axis=1).tolist() == [1, 1]
    for part in range(3):
        alone = overlap(maps[..., part], motifs)
        np.testing.assert_allclose(pointing_game(maps[..., part], motifs).hits, game.hits[:, part])
        np.testing.assert_allclose(alone.share, common.share[:, part])
        np.testing.assert_allclose(alone.iou, common.iou[:, part])
        np.testing.assert_allclose(alone.lift, common.lift[:, part])


@given(boxes_on_a_grid(), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_a_blind_pointer_hits_as_chance_says(cases, seed):
    """Oracle: the mean of the hits over all cells that a map could have its maximum in."""
    motifs = motifs_of(*cases)
    height, width = np.random.default_rng(seed).integers(1, 6, 2)
    hits = []
    for cell in range(height * width):
        maps = np.zeros((len(cases), height * width))
        maps[:, cell] = 1
        hits.append(pointing_game(maps.reshape(-1, height, width), motifs).hits)
    flat = pointing_game(np.ones((len(cases), height, width)), motifs)
    np.testing.assert_allclose(np.mean(hits, axis=0), flat.chance)
    np.testing.assert_allclose(flat.hits, flat.chance)


@given(boxes_on_a_grid(), st.sampled_from([(1, 1), (2, 3), (3, 2), (4, 4), (6, 12), (5, 7)]))
@settings(max_examples=80, deadline=None)
def test_coverage_is_that_of_the_painted_boxes(cases, map_shape):
    motifs = motifs_of(*cases)
    coverage = box_coverage(motifs, map_shape)
    assert coverage.shape == (len(cases), *map_shape)
    assert (coverage >= 0).all() and (coverage <= 1).all()
    for boxes, found in zip(cases, coverage, strict=True):
        assert found.mean() == pytest.approx(painted(boxes, 12).mean())
        if 12 % map_shape[0] == 0 and 12 % map_shape[1] == 0:
            fine = painted(boxes, 12).reshape(map_shape[0], 12 // map_shape[0], map_shape[1], -1)
            np.testing.assert_allclose(found, fine.mean(axis=(1, 3)), atol=1e-12)


@given(boxes_on_a_grid(), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_overlap_is_that_of_painted_maps(cases, seed):
    """Oracle: maps of 4 x 4 cells on a painted grid of 12 x 12, cells taken one by one."""
    motifs = motifs_of(*cases)
    maps = np.random.default_rng(seed).normal(size=(len(cases), 4, 4))
    found = overlap(maps, motifs)
    for case, boxes in enumerate(cases):
        picture = painted(boxes, 12)
        fine = np.kron(maps[case], np.ones((3, 3)))
        mass = np.maximum(fine, 0)
        assert found.share[case] == pytest.approx(mass[picture].sum() / mass.sum())
        assert found.area[case] == pytest.approx(picture.mean())
        left, common = picture.sum() / 9, 0.0
        for cell in np.argsort(-maps[case], axis=None):
            taken = min(1.0, left)
            left -= taken
            row, column = divmod(cell, 4)
            common += taken * picture[3 * row : 3 * row + 3, 3 * column : 3 * column + 3].sum()
        assert found.iou[case] == pytest.approx(common / (2 * picture.sum() - common))


def test_overlap_by_hand():
    maps = np.array([[[3, 1], [0, -5]], [[-1, -1], [-1, -1]], [[0, 0], [0, 0]]], np.float32)
    motifs = motifs_of([TOP_LEFT], [LEFT], [TOP_LEFT, RIGHT])
    found = overlap(maps, motifs)
    assert found.share.tolist() == [0.75, 0.5, 0.75]
    assert found.area.tolist() == [0.25, 0.5, 0.75]
    assert found.lift.tolist() == [3, 1, 1]
    # The highest cell is the box; without preference the share of the area counts.
    np.testing.assert_allclose(found.iou, [1, 1 / 3, 0.6])
    np.testing.assert_allclose(found.chance_iou, [1 / 7, 1 / 3, 0.6])


@given(boxes_on_a_grid(), st.floats(0.1, 9), st.floats(-3, 3))
@settings(max_examples=30, deadline=None)
def test_only_the_order_within_a_map_counts(cases, factor, shift):
    motifs = motifs_of(*cases)
    maps = np.random.default_rng(0).integers(0, 4, (len(cases), 3, 5)).astype(float)
    changed = maps * factor + shift
    before, after = pointing_game(maps, motifs), pointing_game(changed, motifs)
    np.testing.assert_allclose(before.hits, after.hits)
    np.testing.assert_allclose(overlap(maps, motifs).iou, overlap(changed, motifs).iou)
    np.testing.assert_allclose(
        overlap(maps, motifs).share, overlap(maps * factor, motifs).share, atol=1e-12
    )


@given(boxes_on_a_grid(), arrays(float, (3, 2), elements=st.floats(0, 1)))
@settings(max_examples=60, deadline=None)
def test_points_hit_what_a_loop_says(cases, points):
    points = points[: len(cases)]
    expected = [
        any(x0 <= x < x1 and y0 <= y < y1 for x0, y0, x1, y1 in boxes)
        for boxes, (x, y) in zip(cases, points, strict=True)
    ]
    assert hits_of_points(points, motifs_of(*cases)).tolist() == expected


def test_one_point_for_all_cases():
    motifs = motifs_of([LEFT], [RIGHT], [(0.4, 0.4, 0.6, 0.6), TOP_LEFT])
    assert hits_of_points(CENTRE, motifs).tolist() == [False, True, True]
    with pytest.raises(ValueError, match=r"must be \(2,\) or \(3, 2\)"):
        hits_of_points([[0.5, 0.5]], motifs)


def test_the_best_point_lies_in_most_boxes():
    corner = (0.75, 0, 1, 0.25)
    motifs = motifs_of([corner], [corner, LEFT], [corner], [LEFT])
    assert best_point(motifs, (4, 4)) == (0.875, 0.125)
    x, y = best_point(motifs)
    assert hits_of_points((x, y), motifs).mean() == 0.75
    assert (x, y) == pytest.approx((0.875, 0.125), abs=0.011)


def test_cells_have_their_middle_inside():
    inside = cells_inside(motifs_of([(0.4, 0, 1, 0.3)]), (2, 4))
    assert inside.astype(int).tolist() == [[[0, 0, 1, 1], [0, 0, 0, 0]]]


@pytest.mark.parametrize("shape", [(2, 4, 4), (1, 4), (1, 2, 2, 2, 2)])
@pytest.mark.parametrize("measure", [pointing_game, overlap])
def test_maps_of_another_form_are_refused(measure, shape):
    with pytest.raises(ValueError, match=r"`maps` must be .* with 1 cases. Received: shape"):
        measure(np.zeros(shape), motifs_of([LEFT]))
    with pytest.raises(ValueError, match="finite"):
        measure(np.full((1, 2, 2), np.nan), motifs_of([LEFT]))


def test_cases_beyond_the_first_picture_keep_their_place():
    """A picture may hold several cases, others none: maps are taken by picture and column."""
    motifs = motifs_of([LEFT], [RIGHT], [LEFT], pictures=[1, 1, 4], columns=[0, 2, 1])
    maps = np.zeros((5, 1, 2, 3))
    maps[1, 0, 0, 0] = maps[1, 0, 1, 2] = maps[4, 0, 0, 1] = 1
    picked = maps[motifs.pictures, :, :, motifs.columns]
    assert pointing_game(picked, motifs).hits.tolist() == [1, 1, 1]


def test_glimpses_in_the_reference_s_coordinates():
    """Oracle: cells whose middle is (x + 1) * (w - 1) / 2 cells from the first one's."""
    generator = np.random.default_rng(0)
    glimpses = generator.uniform(-1, 1, (20, 3, 4))
    found = glimpse_rectangles(glimpses, (5, 8))
    assert found.shape == (20, 3, 4)
    for index in np.ndindex(20, 3):
        scales, shifts = glimpses[index][:2], glimpses[index][2:]
        for axis, cells in enumerate((8, 5)):
            ends = sorted(shifts[axis] + side * scales[axis] for side in (-1, 1))
            places = [(end + 1) * (cells - 1) / 2 for end in ends]
            low, high = places[0] / cells, (places[1] + 1) / cells
            np.testing.assert_allclose(found[index][[axis, axis + 2]], [low, high], atol=1e-12)
    corner = glimpse_rectangles([0, 0, -1, 1], (4, 5))
    np.testing.assert_allclose(corner, [0, 0.75, 0.2, 1], atol=1e-12)
    half = glimpse_rectangles([0.5, 0.5, 0, 0], (3, 3))
    np.testing.assert_allclose(half, [1 / 6, 1 / 6, 5 / 6, 5 / 6])
    with pytest.raises(ValueError, match=r"must be \(..., 4\)"):
        glimpse_rectangles(np.zeros((2, 6)), (4, 4))


def test_the_whole_map_is_the_whole_picture():
    for shape in ((1, 1), (3, 7), (14, 14)):
        whole = glimpse_rectangles([1, 1, 0, 0], shape)
        np.testing.assert_allclose(whole, WHOLE_PICTURE, atol=1e-12)


@pytest.mark.parametrize("parts", [(), (3,)])
def test_enlarged_maps_are_bilinear_between_cells(parts):
    """Oracle: the four nearest cells of each point, in a loop."""
    maps = np.random.default_rng(0).normal(size=(2, 3, 4, *parts))
    found = enlarge_maps(maps, (10, 7))
    assert found.shape == (2, 10, 7, *parts)
    for row, column in np.ndindex(10, 7):
        places = []
        for value, cells in (((row + 0.5) / 10, 3), ((column + 0.5) / 7, 4)):
            place = np.clip(value * cells - 0.5, 0, cells - 1)
            low = min(int(place), cells - 2)
            places.append((low, place - low))
        (i, v), (j, u) = places
        expected = (1 - v) * ((1 - u) * maps[:, i, j] + u * maps[:, i, j + 1])
        expected += v * ((1 - u) * maps[:, i + 1, j] + u * maps[:, i + 1, j + 1])
        np.testing.assert_allclose(found[:, row, column], expected, atol=1e-12)


def test_enlarging_keeps_the_maximum_in_its_cell():
    maps = np.random.default_rng(0).random((30, 3, 4))
    # Odd numbers of points a cell: one of them is its middle.
    large = enlarge_maps(maps, (45, 44))
    rows, columns = np.divmod(large.reshape(30, -1).argmax(axis=1), 44)
    cells = np.column_stack([rows // 15, columns // 11])
    expected = np.column_stack(np.divmod(maps.reshape(30, -1).argmax(axis=1), 4))
    np.testing.assert_array_equal(cells, expected)
    np.testing.assert_allclose(enlarge_maps(maps, (3, 4)), maps)


def test_the_winning_glimpse_has_the_highest_score():
    scores = np.random.default_rng(0).normal(size=(4, 5, 3))
    motifs = motifs_of([LEFT], [LEFT], [LEFT], pictures=[0, 0, 3], columns=[0, 2, 1])
    expected = [
        max(range(5), key=lambda k: scores[picture, k, column])
        for picture, column in ((0, 0), (0, 2), (3, 1))
    ]
    assert winning_glimpses(scores, motifs).tolist() == expected
    with pytest.raises(ValueError, match="single attributes"):
        winning_glimpses(scores, motifs.by_picture())


@given(boxes_on_a_grid(), boxes_on_a_grid())
@settings(max_examples=60, deadline=None)
def test_glimpses_overlap_as_painted(cases, others):
    motifs = motifs_of(*cases)
    rectangles = [boxes[0] for boxes in others][: len(cases)]
    rectangles += [WHOLE_PICTURE] * (len(cases) - len(rectangles))
    found = glimpse_overlap(rectangles, motifs)
    for case, (boxes, seen) in enumerate(zip(cases, rectangles, strict=True)):
        glimpse = painted([seen], 12)
        pictures = [painted([box], 12) for box in boxes]
        ious = [(glimpse & box).sum() / (glimpse | box).sum() for box in pictures]
        shares = [(glimpse & box).sum() / box.sum() for box in pictures]
        assert found.iou[case] == pytest.approx(max(ious))
        assert found.covered[case] == pytest.approx(max(shares))
        assert found.area[case] == pytest.approx(glimpse.mean())
        x, y = (seen[0] + seen[2]) / 2, (seen[1] + seen[3]) / 2
        assert found.hits[case] == any(a <= x < c and b <= y < d for a, b, c, d in boxes)


def test_glimpses_beyond_the_picture_see_nothing_there():
    motifs = motifs_of([LEFT], [LEFT])
    found = glimpse_overlap([(-1, 0, 0.5, 1), (1.2, 0, 1.5, 1)], motifs)
    assert found.area.tolist() == [0.5, 0] and found.iou.tolist() == [1, 0]
    assert found.hits.tolist() == [False, False]
    whole = glimpse_overlap(WHOLE_PICTURE, motifs)
    assert whole.covered.tolist() == [1, 1] and whole.iou.tolist() == [0.5, 0.5]
    with pytest.raises(ValueError, match=r"must be \(4,\) or \(2, 4\)"):
        glimpse_overlap(np.zeros((3, 4)), motifs)


def test_seeds_have_a_mean_and_a_spread():
    table = summarise_seeds({"mask": [0.5, 0.7, 0.6], "untrained": 0.25})
    assert table["name"].tolist() == ["mask", "untrained"]
    np.testing.assert_allclose(table["mean"], [0.6, 0.25])
    np.testing.assert_allclose(table["std"], [0.1, np.nan])
    assert table["num_seeds"].tolist() == [3, 1]
    assert table["scores"].tolist() == [(0.5, 0.7, 0.6), (0.25,)]
