"""A thousand damaged tables: the labels that were meant, or an error that says what is wrong where.

What the tests cannot ask for: a digit that became another digit, or a line that was deleted, leaves
a good table of other labels, which only `SHA256SUMS` tells apart. So a mutated table counts as read
right where

- it gives the labels of the good table, in whatever form (line ends, quotes, a byte order mark), or
- its *words* changed, and the labels are exactly those that a second, independent reader of the
  mutated text finds: each picture what its own line says now, no row shifted, no id turned into a
  number, no label dropped.

A mutation of form alone (`FORM`) must give the same labels or an error, whatever the second reader
says. Everything else must be a `CollectionError` that names the table, and the line or id unless
the fault is one of the whole file. `SHA256SUMS` tells every table that is not the good one.
"""

import random
import re

import pytest

from imetlib.collection.csvfiles import CollectionError
from imetlib.collection.manifest import verify_manifest, write_manifest
from imetlib.collection.tables import read_collection

NUM_ROWS, NUM_CLASSES = 24, 12
TABLES = ("train.csv", "labels.csv", "sample_submission.csv")
WHOLE_FILE = re.compile(
    r"the file is empty|looks like a web page|Git LFS pointer|no rows below the header|"
    r"attribute ids must be 0\.\.\d+ without a gap|(train|test)/.+: no such picture"
)


def edit_bytes(data, rng):
    place = rng.randrange(len(data))
    return data[:place] + bytes([data[place] ^ (1 << rng.randrange(8))]) + data[place + 1 :]


def delete_characters(data, rng):
    place = rng.randrange(len(data))
    return data[:place] + data[place + rng.randint(1, 4) :]


def insert_characters(data, rng):
    place = rng.randrange(len(data) + 1)
    new = rng.choice([b'"', b",", b";", b"\t", b" ", b"\n", b"\r", b"0", b"-", b".", b"e", b"="])
    return data[:place] + new * rng.randint(1, 2) + data[place:]


def duplicate_characters(data, rng):
    place = rng.randrange(len(data))
    end = place + rng.randint(1, 30)
    return data[:end] + data[place:]


def delete_line(data, rng):
    lines = data.splitlines(keepends=True)
    del lines[rng.randrange(len(lines))]
    return b"".join(lines)


def duplicate_line(data, rng):
    lines = data.splitlines(keepends=True)
    lines.insert(rng.randrange(len(lines) + 1), rng.choice(lines))
    return b"".join(lines)


def swap_lines(data, rng):
    lines = data.splitlines(keepends=True)
    first, second = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[first], lines[second] = lines[second], lines[first]
    return b"".join(lines)


def swap_fields(data, rng):
    lines = data.splitlines(keepends=True)
    for row in [rng.randrange(len(lines))] if rng.random() < 0.7 else range(len(lines)):
        fields = lines[row].rstrip(b"\n").split(b",")
        lines[row] = b",".join(fields[::-1]) + b"\n"
    return b"".join(lines)


def cut(data, rng):
    return data[: rng.randrange(len(data))]


def encode(data, rng):
    text = data.decode(errors="replace")
    mark = "\ufeff" if rng.random() < 0.5 else ""
    return (mark + text).encode(rng.choice(["utf-8", "utf-16-le", "utf-16-be", "utf-32-le"]))


def end_lines(data, rng):
    end = rng.choice([b"\r\n", b"\r", b"\n\n", b"\r\r\n", b"\n\r"])
    if rng.random() < 0.5:
        return data.replace(b"\n", end)
    lines = data.split(b"\n")
    place = rng.randrange(len(lines)) + 1
    return b"\n".join(lines[:place]) + end + b"\n".join(lines[place:])


def quote(data, rng):
    lines = data.splitlines()
    for row in [rng.randrange(len(lines))] if rng.random() < 0.5 else range(len(lines)):
        fields = lines[row].split(b",")
        place = rng.randrange(len(fields))
        fields[place] = rng.choice([b'"%s"', b'"%s', b'%s"']) % fields[place]
        lines[row] = b",".join(fields)
    return b"\n".join(lines) + b"\n"


def put_nul(data, rng):
    place = rng.randrange(len(data) + 1)
    return data[:place] + b"\0" * rng.randint(1, 8) + data[place + rng.randint(0, 1) :]


def change_delimiter(data, rng):
    old, new = rng.choice([(b",", b";"), (b",", b"\t"), (b",", b", "), (b" ", b",")])
    return data.replace(old, new)


def double_blanks(data, rng):
    return data.replace(b" ", b"  ")


def put_apostrophes(data, rng):
    lines = data.splitlines()
    row = rng.randrange(len(lines))
    lines[row] = b",".join(b"'%s'" % field for field in lines[row].split(b","))
    return b"\n".join(lines) + b"\n"


# Damage of form: the words are what they were, or the table is none. Blanks and apostrophes are
# part of an attribute's name.
FORM = (swap_lines, swap_fields, encode, end_lines, quote, put_nul, change_delimiter)
MUTATIONS = (
    *FORM, edit_bytes, delete_characters, insert_characters, duplicate_characters, delete_line,
    duplicate_line, cut, double_blanks, put_apostrophes,
)  # fmt: skip


def make_collection(root):
    """Ids of every kind that a table program spoils: all digits, like floats, like nothing."""
    rng = random.Random(0)
    ids = ["0012345678901234", "100e483014918600", "NA", "null", "1.0", "TRUE", "Vase ähnlich"]
    ids += [f"{rng.getrandbits(64):016x}" for _ in range(2 * NUM_ROWS - len(ids))]
    rng.shuffle(ids)
    rows = [
        f"{i},{' '.join(map(str, rng.sample(range(NUM_CLASSES), rng.randint(1, 5))))}\n"
        for i in ids[:NUM_ROWS]
    ]
    names = [f"{number},{'culture' if number % 2 else 'tag'}::name {number}\n" for number in
             range(NUM_CLASSES)]  # fmt: skip
    tables = {
        "train.csv": "id,attribute_ids\n" + "".join(rows),
        "labels.csv": "attribute_id,attribute_name\n" + "".join(names),
        "sample_submission.csv": "id,attribute_ids\n" + "".join(f"{i},0\n" for i in ids[NUM_ROWS:]),
    }
    for split, own in (("train", ids[:NUM_ROWS]), ("test", ids[NUM_ROWS:])):
        (root / split).mkdir(parents=True)
        for sample_id in own:
            (root / split / f"{sample_id}.png").write_bytes(b"")
    for name, text in tables.items():
        (root / name).write_bytes(text.encode())
    return root


def as_said(collection):
    """What a collection says, by id and name; the order of the rows says nothing."""
    train, names = collection.train, collection.class_names
    labels = {i: frozenset(train.row(row).tolist()) for row, i in enumerate(train.ids)}
    return labels, dict(enumerate(names)), frozenset(collection.test_ids)


def read_again(root):
    """The same by another reader: RFC 4180, character by character."""
    tables = {name: parse_csv((root / name).read_bytes().decode("utf-8-sig")) for name in TABLES}
    labels = {i: frozenset(map(int, cell.split())) for i, cell in tables["train.csv"][1:]}
    names = {int(number): name for number, name in tables["labels.csv"][1:]}
    return labels, names, frozenset(row[0] for row in tables["sample_submission.csv"][1:])


def parse_csv(text):
    rows, row, field, quoted, was_quoted = [], [], "", False, False
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    for place, letter in enumerate(text):
        if quoted:
            if letter != '"':
                field += letter
            elif text[place + 1 : place + 2] == '"' and not was_quoted:
                field, was_quoted = field + '"', True
            elif was_quoted:
                was_quoted = False
            else:
                quoted = False
        elif letter == '"' and not field:
            quoted = True
        elif letter in ",\n":
            row, field = [*row, field], ""
            if letter == "\n":
                rows, row = [*rows, row], []
        else:
            field += letter
    return [*rows, [*row, field]] if field or row else rows


def test_the_second_reader_reads():
    """Otherwise it would agree with anything."""
    text = 'a,b\r\n"x, y",1 2\r"say ""so""",\n"two\nlines","3"'
    assert parse_csv(text) == [["a", "b"], ["x, y", "1 2"], ['say "so"', ""], ["two\nlines", "3"]]


@pytest.mark.parametrize(
    "count",
    [
        pytest.param(100, id="100"),
        pytest.param(1_000, id="1000", marks=[pytest.mark.slow, pytest.mark.faults]),
    ],
)
def test_the_same_labels_or_a_named_error(count, tmp_path):
    root = make_collection(tmp_path / "museum")
    write_manifest(root)
    good = {name: (root / name).read_bytes() for name in TABLES}
    wanted = as_said(read_collection(root))
    assert wanted == read_again(root)
    seen = {"same": 0, "as the table now says": 0, "refused": 0}
    rng = random.Random(1)
    for number in range(count):
        # Labels are what can be lost, so their table comes more often.
        name = rng.choice([*TABLES, "train.csv"])
        mutations = [MUTATIONS[number % len(MUTATIONS)]]
        mutations += rng.choices(MUTATIONS, k=rng.choice([0, 0, 1]))
        data = good[name]
        for mutate in mutations:
            data = mutate(data, rng) if data else data
        (root / name).write_bytes(data)
        about = f"{number}, {name}: {[mutate.__name__ for mutate in mutations]}: {data!r}"
        try:
            found = as_said(read_collection(root))
        except CollectionError as error:
            seen["refused"] += 1
            check_error(error, name, data, about)
        else:
            if found == wanted:
                seen["same"] += 1
            else:
                seen["as the table now says"] += 1
                assert not set(mutations) <= set(FORM), about
                assert found == read_again(root), about
        changed = [fault.split(":")[0] for fault in verify_manifest(root)]
        assert changed == ([name] if data != good[name] else []), about
        (root / name).write_bytes(good[name])
    print(f"{count} mutations: {seen}")
    assert min(seen.values()) > count / 50, "each of them must happen"


def check_error(error, name, data, about):
    """Every fault names a table or a picture, and a line or id that is there.

    Which table: one that lost its last label makes the others wrong that use it.
    """
    assert error.faults, about
    num_lines = {table: 1 + max(NUM_ROWS, NUM_CLASSES) for table in TABLES}
    num_lines[name] = len(re.split(rb"\r\n|\r|\n", data))
    for fault in error.faults:
        table = next((table for table in TABLES if table in fault), None)
        lines = [int(line) for line in re.findall(r"\blines? (\d+)", fault)]
        assert table or re.match(r"(train|test)/", fault), (fault, about)
        assert lines or "id " in fault or WHOLE_FILE.search(fault), (fault, about)
        assert all(1 <= line <= num_lines[table] for line in lines), (fault, about)
