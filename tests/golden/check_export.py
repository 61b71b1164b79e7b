"""Loads the two forms of an exported dataset version with Hugging Face `datasets` and compares them.

    understudy dataset export NAME@DIGEST trl --format trl
    understudy dataset export NAME@DIGEST parquet --format parquet
    python tests/golden/check_export.py trl parquet

Needs `datasets` 4.7 or newer. Rows must be equal value by value; a member that is missing in one
form may be null in the other, because columns know no missing members.
"""

import json
import sys
from pathlib import Path

import datasets


def present(value):
    """The value without members that are null."""
    if isinstance(value, dict):
        return {key: present(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [present(item) for item in value]
    return value


def load(directory, kind, builder, extension):
    files = {
        split: str(path)
        for split in ("train", "dev")
        if (path := Path(directory) / f"{kind}.{split}.{extension}").exists()
    }
    return datasets.load_dataset(builder, data_files=files) if files else {}


def main(lines, columns):
    compared = 0
    for kind in ("sft", "pairs", "labels", "groups"):
        told = load(columns, kind, "parquet", "parquet")
        for split, rows in load(lines, kind, "json", "jsonl").items():
            written = Path(lines) / f"{kind}.{split}.jsonl"
            written = [json.loads(line) for line in written.read_text().splitlines()]
            assert len(rows) == len(told[split]) == len(written), (kind, split)
            for nth, (row, other, line) in enumerate(zip(rows, told[split], written)):
                assert present(row) == present(other) == present(line), (kind, split, nth)
                compared += 1
        # The card's own configuration must find the same files.
        if told:
            by_card = datasets.load_dataset(str(Path(columns).resolve()), kind)
            assert sum(map(len, by_card.values())) == sum(map(len, told.values())), kind
            print(kind, {split: len(rows) for split, rows in told.items()}, told["train"].features)
    assert compared > 0, "there was nothing to compare"
    print(f"{compared} rows are equal")


if __name__ == "__main__":
    main(*sys.argv[1:])
