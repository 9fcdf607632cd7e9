"""Studies of attention: equal terms, attention taken away, looks that are measured."""

from dataclasses import replace

import keras
import numpy as np
import pandas as pd
import pytest

from imetlib.collection.motifs import Motifs
from imetlib.collection.prepared import with_settings
from imetlib.profiles import get_profile
from imetlib.training.attention_study import (
    ablations_of,
    load_network,
    localise_run,
    look_scores,
    run_name,
    score_ablations,
    seed_differences,
    study_table,
    train_variants,
    variants_of,
)
from imetlib.training.localise import (
    channels_of_attributes,
    localise,
    measure_maps,
    measure_rectangles,
    part_maps,
)
from imetlib.training.networks import build_classifier
from imetlib.training.study_records import FURTHER, STUDIES, measure_runs, run_study

ONE_MOTIF = Motifs(np.array([0]), np.array([0]), np.array([0]), np.array([[0.0, 0.0, 0.5, 0.5]]))


@pytest.mark.parametrize("attention", ["residual", "multi", "recurrent"])
@pytest.mark.parametrize("profile", ["fast", "full"])
def test_a_study_has_the_plain_network_first_and_settings_that_exist(attention, profile):
    get_profile("fast", **STUDIES[attention])
    variants = variants_of(attention, get_profile(profile))
    assert next(iter(variants)) in ("plain", "trunk alone") and len(variants) == 2
    variants = {**variants, **(FURTHER.get(attention, {}) if profile == "fast" else {})}
    for settings in variants.values():
        get_profile(profile, **settings)
    with pytest.raises(ValueError, match=r"Unknown attention 'self'\. Known: residual, multi, rec"):
        variants_of("self", get_profile(profile))


@pytest.fixture(scope="module")
def study(prepared, tmp_path_factory):
    """Two tiny networks, one of them with parts and one with glimpses."""
    folder = tmp_path_factory.mktemp("study")
    variants = {
        "plain": {},
        "parts": {"attention": "multi", "attention_stride": 8},
        "glimpses": {"attention": "recurrent", "attention_stride": 8, "plain_head": False},
    }
    data = with_settings(prepared, epochs=2)
    records = train_variants(data, variants, folder, seeds=(4,))
    return data, variants, folder, records


def test_runs_share_everything_but_their_settings(study):
    _, variants, folder, records = study
    assert [record["run"] for record in records] == [run_name(name, 4) for name in variants]
    for key in ("folds_sha256", "collection_sha256", "seed", "split", "num_samples"):
        assert len({str(record[key]) for record in records}) == 1
    assert {record["parameters"]["epochs"] for record in records} == {2}
    assert (folder / "parts-seed4" / "record.json").is_file()


def test_the_table_has_differences_to_the_plain_network_of_the_seed(study):
    data, variants, folder, records = study
    table = study_table(data, variants, folder, (4,)).set_index("network")
    assert table.loc["plain", ["difference", "low", "high"]].tolist() == [0, 0, 0]
    for record, name in zip(records, variants, strict=True):
        assert table.loc[name, "score"] == record["score"]
        difference = record["score"] - records[0]["score"]
        assert table.loc[name, "difference"] == pytest.approx(difference)


def test_differences_are_named_by_network_and_seed():
    table = pd.DataFrame(
        {"network": ["parts"], "seed": [4], "difference": [0.1], "low": [0.0], "high": [0.2]}
    )
    expected = {"parts, seed 4": {"difference": 0.1, "interval": (0.0, 0.2)}}
    assert seed_differences(table) == expected


def test_ablations_change_answers_and_share_weights(study):
    data, _, folder, _ = study
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)
    forms = {"plain": [], "parts": ["parts at zero", "even masks"], "glimpses": ["glimpses fixed"]}
    for name, expected in forms.items():
        model, _ = load_network(data, folder / run_name(name, 4))
        if name == "parts":
            # Their logits start at zero, and the best epoch of so short a run may be the first.
            layer = model.get_layer("parts_logits")
            layer.set_weights([np.full_like(weight, 0.1) for weight in layer.get_weights()])
        found = ablations_of(model)
        assert list(found) == expected
        for form in found.values():
            assert form.count_params() == model.count_params()
            changed = form.predict_on_batch(images) - model.predict_on_batch(images)
            assert np.abs(changed).max() > 1e-7
    scores = score_ablations(data, folder / run_name("parts", 4))
    assert list(scores) == ["as trained", "parts at zero", "even masks"]
    assert all(0 <= score <= 1 for score in scores.values())


def test_looks_of_the_trained_and_the_untrained(study):
    data, variants, folder, _ = study
    table = measure_runs(data, folder, [(name, 4) for name in variants], "looks", localise_run)
    looks = table.groupby("network")["look"].agg(set).to_dict()
    assert looks == {
        "plain": {"activation map"},
        "parts": {"parts", "strongest part", "activation map"},
        "glimpses": {"glimpses"},
    }
    assert (table.groupby(["network", "look"])["state"].agg(set).map(len) == 2).all()
    for column in ("hits", "chance", "centre", "share", "area", "iou"):
        assert table[column].between(0, 1).all()


def test_the_places_of_the_parts_add_up_to_their_logit(study):
    data, _, folder, _ = study
    model, _ = load_network(data, folder / run_name("parts", 4))
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)
    motifs = Motifs(np.array([0, 1]), np.array([3, 5]), np.array([0, 1]), np.zeros((2, 4)))
    maps = part_maps(model, images, motifs)
    layer = model.get_layer("parts_logits")
    logits = keras.Model(model.input, layer.output).predict_on_batch(images)
    share = (logits - layer.get_weights()[1])[[0, 1], [3, 5]] / model.get_layer("parts_scale").scale
    np.testing.assert_allclose(maps["parts"].sum(axis=(1, 2)), share, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(maps["strongest part"].sum(axis=(1, 2)), 1.0, rtol=1e-4)


def test_soft_masks_are_measured_against_all_motifs_of_a_picture():
    profile = get_profile(
        "fast", image_shape=(32, 32, 3), attention="residual", attention_stride=4, plain_head=False
    )
    model, _ = build_classifier(profile, 3)
    motifs = Motifs(
        np.array([0, 0, 1]),
        np.array([0, 1, 2]),
        np.array([0, 1, 2]),
        np.array([[0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1], [0, 0, 1, 0.25]]),
    )
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)
    table = localise(model, images, motifs, (images[::-1], motifs))
    assert table["look"].tolist() == ["attention_mask", "attention_mask channels"]
    assert table["num_cases"].tolist() == [2, 3], "of a mean, a picture is one case"
    assert table["area"].iloc[0] == pytest.approx((0.5 + 0.25) / 2)
    assert localise(model, images, motifs)["look"].tolist() == ["attention_mask"]


def test_each_attribute_gets_the_channel_that_follows_its_motifs():
    # Three pictures; attribute 4 lies in the upper left quarter, attribute 6 in the lower right.
    quarters = np.array([[0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1], [0, 0, 0.5, 0.5]])
    motifs = Motifs(np.arange(3), np.array([4, 6, 4]), np.arange(3), quarters)
    masks = np.full((3, 4, 4, 3), 0.5, np.float32)
    masks[:, :2, :2, 2] = 0.6
    masks[:, 2:, 2:, 0] = 0.51
    found = channels_of_attributes(masks, motifs, np.array([6, 4, 4, 9]))
    assert found.tolist() == [0, 2, 2, 2], "9 is in no picture: the channel that is best of all"


def test_a_study_that_goes_on_reads_what_a_run_gave(tmp_path):
    (tmp_path / "plain-seed3").mkdir()
    calls = []

    def measure(data, folder):
        calls.append(folder.name)
        return pd.DataFrame({"form": ["as trained"], "score": [0.5]})

    for _ in range(2):
        table = measure_runs(None, tmp_path, [("plain", 3)], "ablations", measure)
    assert calls == ["plain-seed3"]
    assert table.values.tolist() == [["plain", 3, "as trained", 0.5]]


def test_measures_of_a_map_and_of_a_glimpse_by_hand():
    peak = np.zeros((1, 48, 48))
    peak[0, 5, 5] = 1.0
    found = measure_maps(peak, ONE_MOTIF)
    assert (found["hits"], found["chance"], found["share"]) == (1.0, 0.25, 1.0)
    assert found["iou_chance"] == pytest.approx(0.25 / 1.75)
    exact = measure_rectangles(np.array([[0.0, 0.0, 0.5, 0.5]]), ONE_MOTIF)
    assert [exact[name] for name in ("hits", "share", "iou")] == pytest.approx([1, 1, 1])
    whole = measure_rectangles(np.array([[0.0, 0.0, 1.0, 1.0]]), ONE_MOTIF)
    assert whole["iou"] == pytest.approx(0.25) and whole["share"] == pytest.approx(0.25)


def test_a_study_leaves_tables_and_records(prepared, tmp_path):
    data = replace(with_settings(prepared, epochs=1), workspace=tmp_path / "work")
    target = tmp_path / "results"
    table = run_study(data, "recurrent", target)
    names = ["recurrent-ablations.csv", "recurrent-looks.csv", "recurrent.csv"]
    assert sorted(path.name for path in target.glob("*.csv")) == names
    written = pd.read_csv(target / "recurrent.csv")
    np.testing.assert_allclose(written["score"], table["score"], atol=1e-4)
    for run in ("plain-seed0", "recurrent-attention-seed0"):
        assert (target / "attention" / run / "record.json").is_file()
    looks = look_scores(pd.read_csv(target / "recurrent-looks.csv"), "iou")
    assert set(looks) == {
        "plain: activation map",
        "plain: activation map, untrained",
        "recurrent attention: glimpses",
        "recurrent attention: glimpses, untrained",
    }
    assert all(len(values) == 1 for values in looks.values())
