"""The benchmark for GPUs says so where there is none, and measures a product anywhere."""

import pytest

from benchmarks import gpu

pytestmark = pytest.mark.keras


def test_without_a_gpu_nothing_is_written(tmp_path, capsys, monkeypatch):
    none = {"backend": "jax", "accelerators": [], "num_devices": 1, "threads": 2}
    monkeypatch.setattr(gpu, "describe_devices", lambda: none)
    gpu.main(["--out", str(tmp_path / "gpu.json")])
    assert capsys.readouterr().out == (
        "jax finds no GPU here: nothing was measured, nothing is written.\n"
    )
    assert not list(tmp_path.iterdir())


def test_a_share_is_operations_over_the_peak():
    options = type("Options", (), {"steps": 10, "batch_size": 4})
    rate = gpu._rate_of(2.0, 9.0, 5e9, options, 1e12)
    assert rate["pictures_per_second"] == 20
    assert rate["share_of_peak"] == pytest.approx(20 * 5e9 * 6 / 1e12)


def test_products_are_measured():
    assert gpu.measure_products(64, repeats=2) > 0


def test_bad_arguments_are_refused():
    with pytest.raises(SystemExit):
        gpu.main(["--side", "32"])
    with pytest.raises(SystemExit):
        gpu.main(["--models", "vgg"])
