"""Every notebook has the same form, runs from its defaults and stores comparable outputs."""

import ast
import re
from pathlib import Path

import nbformat
import pytest
from nbval.plugin import get_sanitize_patterns

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
TAGS = {"parameters", "nbval-ignore-output"}
TYPES = {"str", "int", "float", "bool"}
COMMON_PARAMETERS = ("profile", "collection", "seed", "out")
# Notebooks on other data than a collection.
WITHOUT_COLLECTION = {"06_ten_crop_cifar"}
MAX_CELL_LINES = 30
MAX_BYTES = 500_000

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path):
    return nbformat.read(path, as_version=4)


def code_cells(path):
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def headings(path):
    text = "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")
    return re.findall(r"(?m)^(#+ .+)$", text)


def tags(cell):
    return set(cell.metadata.get("tags", []))


def parameters_cell(path):
    cells = [cell for cell in code_cells(path) if "parameters" in tags(cell)]
    assert len(cells) == 1, "exactly one cell is tagged `parameters`"
    return cells[0]


def parsed(cell):
    return ast.parse(cell.source)


def texts_of(outputs):
    """Every text that a reader or nbval sees in stored outputs."""
    for output in outputs:
        yield output.get("text", "")
        for kind, content in output.get("data", {}).items():
            if kind.startswith("text/"):
                yield content


def test_there_are_notebooks():
    assert (FOLDER / "00_template.ipynb") in NOTEBOOKS


@each_notebook
def test_title_carries_the_number(path):
    assert re.fullmatch(r"\d\d_[a-z0-9_]+", path.stem)
    first = read(path).cells[0]
    assert first.cell_type == "markdown"
    assert re.match(rf"# {path.stem[:2]} · \S", first.source)
    assert len([heading for heading in headings(path) if heading.startswith("# ")]) == 1


@each_notebook
def test_opening_asks_one_question_and_has_the_table(path):
    opening = read(path).cells[0].source
    assert re.search(r"\*\*Question[.:]?\*\*[^\n]*\?", opening)
    for row in ("reads", "writes", "fast", "full", "last full result"):
        assert re.search(rf"(?im)^\| *{row}\b[^|]*\|", opening), f"the table lacks {row!r}"


@each_notebook
def test_sections_stand_in_order(path):
    found = [heading.removeprefix("## ") for heading in headings(path) if heading[:3] == "## "]
    wanted = ["Setup", "Data", "Results", "Checks", "Conclusion"]
    places = [found.index(section) for section in wanted if section in found]
    assert [section for section in wanted if section in found] == wanted
    assert places == sorted(places)
    assert found[-1] == "Conclusion"


@each_notebook
def test_parameters_are_typed_literals_with_help(path):
    cell = parameters_cell(path)
    lines = cell.source.splitlines()
    statements = parsed(cell).body
    for statement in statements:
        assert isinstance(statement, ast.AnnAssign), "only `name: type = literal  # help`"
        assert isinstance(statement.annotation, ast.Name) and statement.annotation.id in TYPES
        value = ast.literal_eval(statement.value)
        assert type(value).__name__ == statement.annotation.id
        assert re.search(r"  # \S", lines[statement.end_lineno - 1]), "help is missing"
    assert len(lines) == len(statements), "nothing but parameters stands in this cell"
    names = [statement.target.id for statement in statements]
    common = list(COMMON_PARAMETERS)
    if path.stem in WITHOUT_COLLECTION:
        common.remove("collection")
        assert "collection" not in names
    assert names[: len(common)] == common
    defaults = {statement.target.id: ast.literal_eval(statement.value) for statement in statements}
    assert defaults["profile"] == "fast"
    assert {defaults[name] for name in ("collection", "out") if name in common} == {""}


@each_notebook
def test_parameters_come_before_any_other_code(path):
    assert "parameters" in tags(code_cells(path)[0])


@each_notebook
def test_cells_hold_calls_only(path):
    forbidden = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.While, ast.Lambda)
    for number, cell in enumerate(code_cells(path), start=1):
        for node in ast.walk(parsed(cell)):
            assert not isinstance(node, forbidden), f"cell {number}: belongs to imetlib"


@each_notebook
def test_no_training_loop(path):
    for number, cell in enumerate(code_cells(path), start=1):
        for loop in ast.walk(parsed(cell)):
            if isinstance(loop, ast.For | ast.ListComp | ast.DictComp | ast.GeneratorExp):
                called = {
                    call.func.attr if isinstance(call.func, ast.Attribute) else call.func.id
                    for call in ast.walk(loop)
                    if isinstance(call, ast.Call)
                    and isinstance(call.func, ast.Attribute | ast.Name)
                }
                trains = {name for name in called if name == "fit" or name.startswith("train")}
                assert not trains, f"cell {number}: a loop that calls {trains}"


@each_notebook
def test_cells_are_short(path):
    for number, cell in enumerate(code_cells(path), start=1):
        assert len(cell.source.splitlines()) <= MAX_CELL_LINES, f"cell {number}"
        assert cell.source.strip(), f"cell {number} is empty"


@each_notebook
def test_checks_assert_with_a_reason(path):
    found = [
        node
        for cell in code_cells(path)
        for node in ast.walk(parsed(cell))
        if isinstance(node, ast.Assert)
    ]
    assert found, "no check"
    assert all(check.msg is not None for check in found), "an assert says what must hold"


@each_notebook
def test_plots_end_with_show(path):
    for number, cell in enumerate(code_cells(path), start=1):
        if re.search(r"\bplot_\w+\(", cell.source.replace("import plot_", "")):
            assert cell.source.rstrip().endswith("plt.show()"), f"cell {number}"
        assert not cell.source.rstrip().endswith(";"), f"cell {number}: nbval ignores it"


@each_notebook
def test_counts_run_from_one(path):
    """Without counts nbval compares nothing, and a wrong stored output passes."""
    counts = [cell.execution_count for cell in code_cells(path)]
    assert counts == list(range(1, len(counts) + 1)), "run `make notebooks`"


@each_notebook
def test_tags_are_known(path):
    cells = code_cells(path)
    assert set().union(*(tags(cell) for cell in read(path).cells)) <= TAGS
    ignored = [cell for cell in cells if "nbval-ignore-output" in tags(cell)]
    assert len(ignored) <= len(cells) / 5, "at most a fifth of the cells is left unchecked"
    assert not any(re.search(r"#\s*(NBVAL|PYTEST_VALIDATE)", cell.source) for cell in cells)


@each_notebook
def test_outputs_are_clean(path):
    for number, cell in enumerate(code_cells(path), start=1):
        for output in cell.outputs:
            assert output.output_type != "error", f"cell {number} failed"
            assert output.get("name") != "stderr", f"cell {number} wrote to stderr"
            assert output.get("execution_count") in (None, cell.execution_count)


@each_notebook
def test_outputs_hold_no_place_of_one_machine(path):
    place = re.compile(r"(?<![\w.])/(?:home|root|Users|work|tmp|var|opt|mnt)/|[A-Z]:\\\\|\bfile://")
    for number, cell in enumerate(code_cells(path), start=1):
        for text in texts_of(cell.outputs):
            assert not place.search(text), f"cell {number}: {place.search(text).group(0)}"


@each_notebook
def test_outputs_hold_no_address(path):
    for number, cell in enumerate(code_cells(path), start=1):
        for text in texts_of(cell.outputs):
            assert not re.search(r"\bat 0x[0-9a-f]{6,}", text), f"cell {number}: print a value"


@each_notebook
def test_file_is_small_and_made_by_the_runner(path):
    assert path.stat().st_size <= MAX_BYTES
    notebook = read(path)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    assert "papermill" not in notebook.metadata
    for cell in notebook.cells:
        assert not {"papermill", "execution"} & set(cell.metadata), "run `make notebooks`"


# nbval's settings -------------------------------------------------------------------------------


def sanitised(text):
    patterns = get_sanitize_patterns((FOLDER / "nbval.cfg").read_text(encoding="utf-8"))
    for pattern, replacement in patterns:
        text = re.sub(pattern, replacement, text)
    return text


def test_every_section_of_the_settings_is_read():
    text = (FOLDER / "nbval.cfg").read_text(encoding="utf-8")
    assert len(get_sanitize_patterns(text)) == len(re.findall(r"(?m)^\[", text)) > 0


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("12s 45ms/step - loss", "9s 7ms/step - loss"),
        ("drawn in 3.2 s", "drawn in 14 s"),
        ("<Axes object at 0x7f3a12b4c5d6>", "<Axes object at 0x55e0a1b2c3d4>"),
        (
            "100%|##########| 8/8 [00:03<00:00, 2.51it/s]",
            "100%|##########| 8/8 [01:13<00:00, 10.2it/s]",
        ),
        ("\x1b[1m\x1b[32mdone\x1b[0m", "done"),
        ("\x1b[31mred\x1b[0m\nnext", "red\nnext"),
    ],
)
def test_times_addresses_and_colours_count_as_equal(first, second):
    assert sanitised(first) == sanitised(second)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("1,103 attributes", "1,104 attributes"),
        ("F2 0.208", "F2 0.209"),
        ("shape (900, 128)", "shape (900, 129)"),
        ("12 scrolls", "13 scrolls"),
        ("3 short, 5 high", "4 short, 5 high"),
    ],
)
def test_facts_stay_different(first, second):
    assert sanitised(first) != sanitised(second)
