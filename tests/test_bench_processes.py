"""The benchmark of processes: what its ratios are of, and where it says that it cannot run."""

import importlib.util

import pytest

from benchmarks import processes


def test_ratios():
    rates = {"train, one": 10.0, "train, two": 15.0, "train, two alone": 18.0, "tag, one": 4.0}
    assert processes.ratios_of({**rates, "tag, two": 7.0}) == {
        "train, two": {"of_one": 1.5, "of_limit": pytest.approx(15 / 18)},
        "train, two alone": {"of_one": 1.8},
        "tag, two": {"of_one": 1.75},
    }


def test_without_jax_a_line_says_so(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    processes.main([])
    assert "not measured here: jax is not installed" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--rows", "100"], ["--batch", "7"], ["--turns", "0"]])
def test_sizes_out_of_range(arguments, capsys):
    with pytest.raises(SystemExit):
        processes.main(arguments)
    assert "--rows must be a multiple" in capsys.readouterr().err
