"""Nothing executes from data: no call in package, benchmarks or notebooks that could."""

import ast
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted(
    path
    for folder in ("imetlib", "benchmarks", "notebooks")
    for kind in ("*.py", "*.ipynb")
    for path in (ROOT / folder).rglob(kind)
    if ".ipynb_checkpoints" not in path.parts
)

# (file, finding): why it may stand there.
EXCEPTIONS = {
    ("imetlib/collection/cifar10.py", "keras.datasets"): (
        "Keras's own download, checked by Keras against its hash, unpickled by a loader that knows "
        "arrays alone"
    ),
}

MODULES = {"pickle", "cPickle", "_pickle", "joblib", "dill", "cloudpickle", "shelve", "marshal"}
CALLS = {
    "torch.load", "os.system", "os.popen", "eval", "exec", "builtins.eval", "builtins.exec",
    "yaml.load", "yaml.load_all", "yaml.full_load", "yaml.unsafe_load",
    "pandas.read_pickle", "numpy.lib.format.read_array",
}  # fmt: skip
# Methods and functions of these names, whatever they hang on.
NAMES = {"enable_unsafe_deserialization", "read_pickle", "to_pickle", "unsafe_load"}
# An argument of this name must be this literal.
ARGUMENTS = {
    "allow_pickle": False,
    "safe_mode": True,
    "shell": False,
    "try_recover_truncated": False,
}
# TensorFlow's decoders die or read palettes as grey when the file chooses the channels.
DECODERS = {"decode_image", "decode_png", "decode_jpeg", "decode_bmp", "decode_webp"}


def find_unsafe(source):
    """Findings of one module or of the code of a notebook.

    Args:
        source: str.

    Returns:
        list of (line, finding).
    """
    tree = ast.parse(source)
    known, found = {}, []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                known[alias.asname or alias.name.split(".")[0]] = (
                    alias.name if alias.asname else alias.name.split(".")[0]
                )
                if alias.name.split(".")[0] in MODULES:
                    found.append((node.lineno, alias.name.split(".")[0]))
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if module.split(".")[0] in MODULES:
                found.append((node.lineno, module.split(".")[0]))
            for alias in node.names:
                known[alias.asname or alias.name] = f"{module}.{alias.name}"

    def dotted(node):
        if isinstance(node, ast.Name):
            return known.get(node.id, node.id)
        if isinstance(node, ast.Attribute):
            return f"{dotted(node.value)}.{node.attr}"
        return "?"

    def check(line, name, value):
        safe = isinstance(value, ast.Constant) and value.value is ARGUMENTS[name]
        if not safe:
            found.append((line, f"{name}={ast.unparse(value)}"))

    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and key.value in ARGUMENTS:
                    check(node.lineno, key.value, value)
        elif isinstance(node, ast.Attribute | ast.Name):
            # Not only calls: what is handed on is called elsewhere.
            name = dotted(node)
            if name in CALLS or name.rsplit(".", 1)[-1] in NAMES:
                found.append((node.lineno, name))
            elif ".keras.datasets." in f".{name}." and name.endswith(".load_data"):
                found.append((node.lineno, "keras.datasets"))
        elif isinstance(node, ast.Call):
            name = dotted(node.func)
            for keyword in node.keywords:
                if keyword.arg in ARGUMENTS:
                    check(node.lineno, keyword.arg, keyword.value)
            if name in ("__import__", "importlib.import_module", "builtins.__import__"):
                first = node.args[0] if node.args else None
                if not isinstance(first, ast.Constant) or first.value in MODULES:
                    found.append((node.lineno, name))
            if name.startswith("tensorflow.") and name.rsplit(".", 1)[-1] in DECODERS:
                channels = [k.value for k in node.keywords if k.arg == "channels"]
                if [getattr(value, "value", None) for value in channels] != [3]:
                    found.append((node.lineno, f"{name} without channels=3"))
    return found


def code_of(path):
    if path.suffix == ".py":
        return path.read_text(encoding="utf-8")
    cells = nbformat.read(path, as_version=4).cells
    return "\n".join(cell.source for cell in cells if cell.cell_type == "code")


def name_of(path):
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_nothing_executes_from_data(path):
    # `ast` refuses lines that begin with `!` or `%`, so notebooks have none either.
    found = [
        finding
        for finding in find_unsafe(code_of(path))
        if (name_of(path), finding[1]) not in EXCEPTIONS
    ]
    assert found == []


def test_exceptions_are_still_needed():
    for (name, finding), reason in EXCEPTIONS.items():
        assert finding in [what for _, what in find_unsafe(code_of(ROOT / name))], name
        assert len(reason) > 20
    assert {"imetlib", "benchmarks", "notebooks"} == {name_of(p).split("/")[0] for p in SOURCES}


@pytest.mark.parametrize(
    ("code", "finding"),
    [
        ("import pickle", "pickle"),
        ("import pickle as p", "pickle"),
        ("def f():\n    from pickle import loads", "pickle"),
        ("import cPickle", "cPickle"),
        ("from joblib import load", "joblib"),
        ("import dill", "dill"),
        ("import cloudpickle", "cloudpickle"),
        ("import shelve", "shelve"),
        ("import marshal", "marshal"),
        ("import importlib\nimportlib.import_module('pickle')", "importlib.import_module"),
        ("__import__('marshal')", "__import__"),
        ("__import__(name)", "__import__"),
        ("import torch\ntorch.load('a')", "torch.load"),
        ("from torch import load as l\nl('a')", "torch.load"),
        ("import numpy as np\nnp.load('a', allow_pickle=True)", "allow_pickle=True"),
        ("import numpy as np\nnp.load('a', allow_pickle=flag)", "allow_pickle=flag"),
        ("np.load('a', **{'allow_pickle': True})", "allow_pickle=True"),
        ("import pandas as pd\npd.read_pickle('a')", "pandas.read_pickle"),
        ("table.to_pickle('a')", "table.to_pickle"),
        ("import yaml\nyaml.load(text)", "yaml.load"),
        ("from yaml import load\nload(text, Loader=SafeLoader)", "yaml.load"),
        ("import yaml\nyaml.unsafe_load(text)", "yaml.unsafe_load"),
        ("load_model('a', safe_mode=False)", "safe_mode=False"),
        ("import keras\nkeras.config.enable_unsafe_deserialization()",
         "keras.config.enable_unsafe_deserialization"),
        ("from keras.config import enable_unsafe_deserialization as e\ne()",
         "keras.config.enable_unsafe_deserialization"),
        ("subprocess.run('ls', shell=True)", "shell=True"),
        ("import os\nos.system('ls')", "os.system"),
        ("from os import system\nsystem('ls')", "os.system"),
        ("import os\nrun = os.popen", "os.popen"),
        ("eval(text)", "eval"),
        ("exec(text)", "exec"),
        ("list(map(eval, texts))", "eval"),
        ("import builtins\nbuiltins.exec(text)", "builtins.exec"),
        ("import tensorflow as tf\ntf.io.decode_jpeg(x, channels=3, try_recover_truncated=True)",
         "try_recover_truncated=True"),
        ("import tensorflow as tf\ntf.io.decode_image(x)",
         "tensorflow.io.decode_image without channels=3"),
        ("import tensorflow as tf\ntf.io.decode_png(x, channels=0)",
         "tensorflow.io.decode_png without channels=3"),
        ("from tensorflow.io import decode_image\ndecode_image(x)",
         "tensorflow.io.decode_image without channels=3"),
        ("import keras\nkeras.datasets.cifar10.load_data()", "keras.datasets"),
    ],
)  # fmt: skip
def test_the_scan_finds_it(code, finding):
    assert finding in [what for _, what in find_unsafe(f"x = 1\n{code}\n")]


@pytest.mark.parametrize(
    "code",
    [
        "import numpy as np\nnp.load('a')\nnp.load('a', allow_pickle=False)",
        "import yaml\nyaml.safe_load(text)",
        "load_model('a', safe_mode=True)",
        "import subprocess\nsubprocess.run(['ls'], shell=False)",
        "model.eval()\nmodel.exec(1)\nimport os\nos.path.join('a')",
        "import tensorflow as tf\ntf.io.decode_jpeg(x, channels=3)",
        "from imetlib.collection.images import decode_image\ndecode_image('a')",
        "import ast\nast.literal_eval('1')\n'pickle'",
    ],
)
def test_the_scan_leaves_what_is_safe(code):
    assert find_unsafe(code) == []


@pytest.mark.parametrize("line", ["!pip install x", "%run other.py", "%%bash\nls"])
def test_a_shell_line_in_a_notebook_does_not_pass(line):
    with pytest.raises(SyntaxError):
        find_unsafe(line)
