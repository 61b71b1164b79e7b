#!/usr/bin/env python3
"""Compares our sentence vectors with those of sentence-transformers, on the real weights.

    understudy model pull all-minilm-l6-v2
    python3 -m venv .venv && .venv/bin/pip install sentence-transformers
    .venv/bin/python tests/golden/check_minilm.py ~/.cache/understudy/models/all-minilm-l6-v2

Builds and asks `cargo run --release -p understudy-embedding --example embed`, or the program given
as the second argument. Prints the largest difference of any element and the smallest cosine, and
fails above 1e-5.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from shutil import copy

import numpy
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Normalize, Pooling, Transformer

TEXTS = [
    "Where is my order?",
    "my parcel has not arrived",
    "I was charged twice for the same subscription!",
    "ok",
    "Réfund the naïve café — ORDER 订单 🙂",
    "the quick brown fox jumps over the lazy dog, " * 4,
    "How do I reset my password if I no longer have access to my e-mail account?",
    "lessons learnt from traces " * 120,
    "",
]


def main():
    directory = Path(sys.argv[1]).expanduser()
    program = sys.argv[2:3] or ["cargo", "run", "--release", "-q", "-p", "understudy-embedding",
                                "--example", "embed", "--"]
    lines = "".join(text + "\n" for text in TEXTS)
    asked = subprocess.run([*program, str(directory)], input=lines, text=True, check=True,
                           stdout=subprocess.PIPE)
    ours = numpy.array([json.loads(line) for line in asked.stdout.splitlines()])
    # Only the files that are pinned, so that nothing else in the folder decides.
    with tempfile.TemporaryDirectory() as scratch:
        for name in ["config.json", "tokenizer.json", "model.safetensors"]:
            copy(directory / name, scratch)
        words = Transformer(scratch, max_seq_length=256)
        model = SentenceTransformer(
            modules=[words, Pooling(words.get_embedding_dimension(), "mean"), Normalize()],
            device="cpu",
        )
        theirs = model.encode(TEXTS, convert_to_numpy=True)
    difference = float(numpy.abs(ours - theirs).max())
    cosine = float((ours * theirs).sum(axis=1).min())
    print(f"{len(TEXTS)} texts: largest difference {difference:.1e}, smallest cosine {cosine:.8f}")
    sys.exit(difference > 1e-5)


if __name__ == "__main__":
    main()
