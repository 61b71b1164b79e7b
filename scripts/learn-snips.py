#!/usr/bin/env python3
"""Learns SNIPS from 256 rows in three stages, once per seed, and says what each stage was worth.

    scripts/learn-snips.py --rows train.jsonl --cases test.jsonl --out DIR [--seeds 17 18 19]
                           [--recipe recipes/snips-grpo.toml] [--trl PYTHON]

Both files hold rows like {"text": "…", "intent": "…", "slots": {…}}. Every seed draws its own 256
rows and trains with that seed; every stage answers all cases greedily. With --trl, a Python that has
trl, peft, transformers and gguf trains the same rows with the settings of the first stage, and our
program holds its adapter against the same cases.

Each figure is the mean over the seeds, and its interval the mean of the seeds' intervals: all seeds
share the cases, so three of them do not make an interval over cases narrower.
Everything lands in DIR; what is already there is not done again.
"""

import argparse
import json
import random
import subprocess
from pathlib import Path
from statistics import mean

HERE = Path(__file__).resolve().parent
PEER = HERE.parent / "crates/understudy/src/commands/bench/peer.py"
SYSTEM = "Read the request and reply with JSON: the intent and its slots."
FIELDS = ["--input", "text", "--output", "intent", "--output", "slots", "--system", SYSTEM]
SCORERS = ["field_f1", "field:intent", "json_equal", "json_valid"]


def main():
    args = arguments()
    lines = [learn(args, seed) for seed in args.seeds]
    text = "\n".join(scores_table(lines) + [""] + differences_table(lines))
    (args.out / "table.md").write_text(text + "\n")
    print(text)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--cases", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[17, 18, 19])
    parser.add_argument("--count", type=int, default=256, help="rows to learn from")
    parser.add_argument("--recipe", type=Path, default=HERE.parent / "recipes/snips-grpo.toml")
    parser.add_argument("--binary", type=Path, default=HERE.parent / "target/release/understudy")
    parser.add_argument("--trl", help="a Python with trl, peft, transformers and gguf")
    return parser.parse_args()


def learn(args, seed):
    """The reports of one seed by (baseline, candidate); stages in order, TRL's last."""
    home = args.out / f"seed-{seed}"
    prepare(args, home, seed)
    trained = home / "trained.json"
    if not trained.exists():
        said = understudy(args, home, "train", home / "recipe.toml", "--out", home / "stages",
                          "--json")
        trained.write_text(said)
    stages = [Path(stage["directory"]) for stage in json.loads(trained.read_text())["stages"]]
    reports = {}
    for before, stage in zip([None, *stages], stages):
        compare(args, home, before, stage, reports)
    if args.trl:
        train_with_trl(args, home, seed)
        compare(args, home, home / "trl-sft", stages[0], reports)
    return reports


def prepare(args, home, seed):
    recipe = home / "recipe.toml"
    if recipe.exists():
        return
    home.mkdir(parents=True, exist_ok=True)
    chosen = random.Random(seed).sample(args.rows.read_text().splitlines(), args.count)
    (home / "rows.jsonl").write_text("\n".join(chosen) + "\n")
    understudy(args, home, "import", home / "rows.jsonl", "--task", "snips", "--format", "rows",
               *FIELDS)
    scorers = [word for scorer in SCORERS for word in ("--scorer", scorer)]
    understudy(args, home, "suite", "import", args.cases, "--name", "snips",
               "--tier", "gate", *FIELDS, *scorers)
    recipe.write_text(f"seed = {seed}\n{args.recipe.read_text()}")


def compare(args, home, before, after, reports):
    """One report of two subjects; a subject that has answered all cases before is not asked again."""
    names = [path.name if path else "base" for path in (before, after)]
    kept = [home / "answers" / f"{name}.jsonl" for name in names]
    baseline, candidate = (file if file.exists() else path or "base"
                           for file, path in zip(kept, (before, after)))
    fresh = home / "answers" / "fresh"
    said = understudy(args, home, "eval", candidate, "--baseline", baseline, "--suite", "snips",
                      "--max-new-tokens", "192", "--answers", fresh, "--json")
    for role, file in zip(("baseline", "candidate"), kept):
        (fresh / f"{role}.jsonl").replace(file)
    reports[tuple(names)] = json.loads(said)


def train_with_trl(args, home, seed):
    if (home / "trl-sft").exists():
        return
    base = args.out / "base-for-trl"
    if not base.exists():
        said = json.loads(understudy(args, home, "model", "pull", "smollm2-135m-instruct", "--json"))
        subprocess.run([args.trl, PEER, "convert", said["path"], base], check=True)
    [rows] = (home / "state").glob("**/sft.train.jsonl")
    script = HERE / "learn-snips-trl.py"
    subprocess.run([args.trl, script, base, rows, home / "trl-sft", str(seed)], check=True)


def understudy(args, home, *words):
    command = [args.binary, "--data-dir", home / "state", *words]
    print("$", *command, flush=True)
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    # An evaluation whose gate fails exits with 1 or 3, and is a result all the same.
    if done.returncode not in (0, 1, 3):
        raise SystemExit(f"{words[0]} exited with {done.returncode}")
    return done.stdout


def scores_table(lines):
    subjects = list(dict.fromkeys(name for reports in lines for pair in reports for name in pair))
    rows = [f"| subject | {' | '.join(SCORERS)} |", "|---" * (len(SCORERS) + 1) + "|"]
    for name in subjects:
        cells = []
        for scorer in SCORERS:
            found = [score_of(reports, name)[scorer] for reports in lines]
            cells.append(interval(found, "mean", ""))
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return rows


def score_of(reports, name):
    subjects = [subject for report in reports.values() for subject in report["subjects"]]
    return next(s["scores"] for s in subjects if Path(s["name"]).stem == name)


def differences_table(lines):
    rows = [f"| difference | {' | '.join(SCORERS)} |", "|---" * (len(SCORERS) + 1) + "|"]
    for pair in lines[0]:
        cells = []
        for scorer in SCORERS:
            told = [next(c for c in reports[pair]["comparisons"] if c["scorer"] == scorer)
                    for reports in lines if pair in reports]
            cells.append(interval(told, "difference", "+"))
        rows.append(f"| {pair[1]} − {pair[0]} | {' | '.join(cells)} |")
    return rows


def interval(found, key, sign):
    middle, low, high = (mean(one[name] for one in found) for name in (key, "low", "high"))
    return f"{middle:{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]"


if __name__ == "__main__":
    main()
