"""Attributes are found by pieces of their names, and what stands beside them is counted."""

import numpy as np
import pytest

from imetlib.collection.attribute_search import (
    count_companions,
    find_attributes,
    rows_with,
    say_near,
)
from imetlib.collection.labels import make_label_table

NAMES = [
    "culture::French",
    "culture::french or italian",
    "tag::french horns",
    "tag::men",
    "tag::women",
    "tag::menageries",
]


def found(text, counts=None):
    return [NAMES[column] for column in find_attributes(NAMES, text, counts)]


def test_exact_names_come_before_beginnings_and_pieces():
    assert found("men") == ["tag::men", "tag::menageries", "tag::women"]
    assert found("tag::men") == ["tag::men", "tag::menageries"]
    assert found(" FRENCH ") == [
        "culture::French",
        "culture::french or italian",
        "tag::french horns",
    ]


def test_every_word_counts_and_a_group_is_a_word():
    assert found("french tag") == ["tag::french horns"]
    assert found("culture") == NAMES[:2]
    assert found("") == NAMES


def test_frequent_ones_come_first_within_their_kind():
    counts = np.array([1, 5, 9, 2, 8, 7])
    assert found("french", counts) == [NAMES[0], NAMES[2], NAMES[1]]
    assert found("", counts)[0] == "tag::french horns"


def test_an_unknown_name_gets_near_ones():
    with pytest.raises(ValueError, match=r"No attribute is named 'womne'\. Near: tag::women"):
        find_attributes(NAMES, "womne")
    with pytest.raises(ValueError, match=r"'zzz'\. No name is near it\..*labels\.csv"):
        find_attributes(NAMES, "zzz")


def test_near_names_have_their_own_case_and_come_once():
    text = say_near("frensh", NAMES)
    assert text.startswith("Near: culture::French") and text.count("culture::French") == 1
    assert say_near("ab12", ["ab13", "ff00"]) == "Near: ab13."


def test_counts_equal_the_dense_table():
    generator = np.random.default_rng(0)
    dense = generator.random((40, 7)) < 0.3
    labels = make_label_table(
        [str(row) for row in range(40)], [np.flatnonzero(row) for row in dense], 7
    )
    for column in range(7):
        rows = np.flatnonzero(dense[:, column])
        assert rows_with(labels, column).tolist() == rows.tolist()
        wanted = dense[rows].sum(axis=0)
        wanted[column] = 0
        assert count_companions(labels, column).tolist() == wanted.tolist()
