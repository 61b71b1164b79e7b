#!/usr/bin/env python3
"""What lessons are worth to a model: the same cases answered with and without, case by case.

    scripts/memory-ablation.py --rows train.jsonl --cases test.jsonl --out DIR \\
        [--adapter DIR …] [--memory-slot 0.3 --recipe recipes/snips.toml] [--count 256] [--mock-engine]
    scripts/memory-ablation.py --demo .understudy/demo --out DIR

Both files hold rows like {"text": "…", "intent": "…", "slots": {…}}. With --demo they are made of what
`understudy demo` left in its data directory: what its first dataset says users accepted, the cases of
its suite, and its adapters as subjects; a reply there also has a priority, by a convention of the
house that lessons can tell. From the training rows alone it
writes down, for every kind of request, which slots its replies have; these sentences go the way of
all lessons (propose, review, release), and `understudy eval --memory` holds each subject with them
against the same subject without. `memory learn` is tried on the same rows first, and what it says is
kept: rows that call no tool hold nothing for it to learn.

Subjects are the base model, every --adapter, and, with --memory-slot, an adapter that is trained here
by the recipe on a share of prompts with lessons. Everything lands in DIR; what is there is not done
again. --mock-engine tries the comparisons out without any model: its figures mean nothing, and it
trains nothing.
"""

import argparse
import json
import random
import re
import shutil
import subprocess
from collections import Counter, defaultdict
from pathlib import Path

HERE = Path(__file__).resolve().parent
SNIPS = {
    "system": "Read the request and reply with JSON: the intent and its slots.",
    "outputs": ["intent", "slots"],
}
DEMO = {
    "system": "Triage the customer message. Reply with one JSON object: intent, priority, fields.",
    "outputs": ["intent", "priority", "fields"],
}
SCORERS = ["field_f1", "field:intent", "json_equal", "json_valid"]
OWNER = ["--owner", "ablation"]


def main():
    args = arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    args.shape = DEMO if args.demo else SNIPS
    if args.demo:
        rows_of_demo(args)
    elif not (args.rows and args.cases):
        raise SystemExit("name --rows and --cases, or --demo")
    if args.mock_engine and args.memory_slot:
        raise SystemExit("--memory-slot trains a model, which --mock-engine has none of: leave one out")
    rows = training_rows(args)
    remember(args, rows)
    subjects = ["base", *args.adapter]
    if args.memory_slot:
        subjects.append(train(args))
    reports = {str(subject): compare(args, subject) for subject in subjects}
    text = table(reports)
    (args.out / "table.md").write_text(text + "\n")
    print(text)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=Path)
    parser.add_argument("--cases", type=Path)
    parser.add_argument("--demo", type=Path, metavar="DIR", help="where `understudy demo` worked")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--task", default="snips")
    parser.add_argument("--adapter", type=Path, nargs="*", default=[])
    parser.add_argument("--count", type=int, default=256, help="rows to write lessons from")
    parser.add_argument("--seed", type=int, default=17)
    parser.add_argument("--memory-slot", type=float, help="train an adapter with this share")
    parser.add_argument("--recipe", type=Path, default=HERE.parent / "recipes/snips.toml")
    parser.add_argument("--binary", type=Path, default=HERE.parent / "target/release/understudy")
    parser.add_argument("--mock-engine", action="store_true")
    return parser.parse_args()


def rows_of_demo(args):
    """Rows and cases in the shape the commands read, from a demo's data directory."""
    args.task = "support-triage"
    args.rows, args.cases = args.out / "demo-rows.jsonl", args.out / "demo-cases.jsonl"
    made = sorted((args.demo / "datasets/support-triage").glob("*/sft.train.jsonl"),
                  key=lambda path: path.stat().st_mtime)
    answers = [json.loads(line) for line in made[0].read_text().splitlines()]
    rows = [row(one["prompt"], one["completion"][0]["content"]) for one in answers]
    suite = (args.demo / "suites/support-triage.jsonl").read_text().splitlines()[1:]
    cases = [row(one["prompt"], one["expected"]) for one in map(json.loads, suite)]
    for path, lines in ((args.rows, rows), (args.cases, cases)):
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    adapters = (args.demo / "adapters/support-triage").iterdir()
    args.adapter += sorted((path for path in adapters if path.name.isdigit()),
                           key=lambda path: int(path.name))


def row(prompt, answer):
    return {"text": prompt[-1]["content"], **json.loads(answer)}


def fields(args):
    """Which of a row's values are the request and the reply."""
    outputs = [word for name in args.shape["outputs"] for word in ("--output", name)]
    return ["--input", "text", *outputs, "--system", args.shape["system"]]


def training_rows(args):
    """The rows that lessons are written from, drawn as scripts/learn-snips.py draws them."""
    lines = args.rows.read_text().splitlines()
    chosen = random.Random(args.seed).sample(lines, min(args.count, len(lines)))
    (args.out / "rows.jsonl").write_text("\n".join(chosen) + "\n")
    return [json.loads(line) for line in chosen]


def remember(args, rows):
    """Writes lessons down and releases them, once; what was interrupted begins anew."""
    released = args.out / "released.json"
    if released.exists():
        return
    shutil.rmtree(args.out / "state", ignore_errors=True)
    kinds = defaultdict(list)
    for row in rows:
        kinds[row["intent"]].append(row)
    where = args.shape["outputs"][-1]
    slots = {kind: usual_slots(of_kind, where) for kind, of_kind in sorted(kinds.items())}
    (args.out / "memory.toml").write_text(catalogue(args.task, kinds, slots))
    understudy(args, "import", args.out / "rows.jsonl", "--task", args.task, "--format", "rows",
               *fields(args))
    scorers = [word for scorer in SCORERS for word in ("--scorer", scorer)]
    understudy(args, "suite", "import", args.cases, "--name", args.task,
               "--tier", "gate", *fields(args), *scorers)
    learnt = understudy(args, "memory", "learn", *OWNER, "--reason", "ablation", "--json")
    (args.out / "learnt.json").write_text(learnt)
    for kind, names in slots.items():
        says = [usual_priority(kinds[kind])] if usual_priority(kinds[kind]) else []
        if names:
            says.append(f"what is named of {', '.join(f'`{name}`' for name in names)}")
        usual = f" with {' and '.join(says)}" if says else ""
        proposed = understudy(
            args, "memory", "propose", *OWNER, "--agent", args.task, "--intent", name_of(kind),
            "--situation", f"When the request is of the kind `{kind}`",
            "--text", f"prefer the `intent` `{kind}`{usual}.",
            "--reason", "the usual slots of the training rows", "--json")
        lesson = json.loads(proposed)["lesson"]
        understudy(args, "memory", "review", lesson, "--approve", *OWNER, "--reason", "as it is",
                   "--json")
    said = understudy(args, "memory", "release", *OWNER, "--reason", "for the ablation", "--json")
    released.with_suffix(".part").write_text(said)
    released.with_suffix(".part").rename(released)


def usual_slots(rows, where, share=0.2):
    """Slots that at least this share of the replies have, the most usual first."""
    counts = Counter(slot for row in rows for slot in row[where])
    return [slot for slot, count in counts.most_common() if count >= share * len(rows)]


def usual_priority(rows):
    """How the replies of a kind agree on a priority, where they have one."""
    counts = Counter(row["priority"] for row in rows if "priority" in row)
    return f"the `priority` `{max(counts, key=counts.get)}`" if counts else ""


def name_of(kind):
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", kind).lower()


def catalogue(task, kinds, slots):
    names = sorted({slot for of_kind in slots.values() for slot in of_kind})
    arguments = [f'{{ name = "intent", values = {json.dumps(sorted(kinds))} }}']
    priorities = sorted({row["priority"] for rows in kinds.values() for row in rows
                         if "priority" in row})
    if priorities:
        arguments.append(f'{{ name = "priority", values = {json.dumps(priorities)} }}')
    arguments += [f"{{ name = {json.dumps(name)} }}" for name in names]
    lines = [
        'tenant = "ablation"', "", "[settings.counters]", "control_share = 0.0",
        "probation_share = 0.0", "", "[settings.retrieval]", "k = 1", "small_model = false",
        "max_line_tokens = 160", "max_tokens = 200", "context_share = 0.2", "", "[settings.caps]",
        "per_release = 50", "", "[catalogue]", f"agents = [{json.dumps(task)}]", "",
        "[[catalogue.tools]]", 'name = "reply"', 'access = "read"',
        f"arguments = [{', '.join(arguments)}]",
    ]
    for kind, rows in sorted(kinds.items()):
        words = name_of(kind).replace("-", " ")
        examples = [row["text"] for row in rows[:5]]
        lines += ["", "[[catalogue.intents]]", f"name = {json.dumps(name_of(kind))}",
                  f"description = {json.dumps(words)}", f"examples = {json.dumps(examples)}"]
    return "\n".join(lines) + "\n"


def train(args):
    """An adapter that has seen lessons in a share of its prompts."""
    recipe, trained = args.out / "recipe.toml", args.out / "trained.json"
    if not trained.exists():
        text = args.recipe.read_text()
        recipe.write_text(f"seed = {args.seed}\n" + text.replace(
            "[data]\n", f"[data]\nmemory_slot = {args.memory_slot}\n", 1))
        trained.write_text(understudy(args, "train", recipe, "--out", args.out / "stages", "--json"))
    return Path(json.loads(trained.read_text())["stages"][-1]["directory"])


def compare(args, subject):
    """The subject with lessons against itself without."""
    place = Path(subject).resolve()
    name = subject if subject == "base" else f"{place.parent.name}-{place.name}"
    file = args.out / f"report-{name}.json"
    if not file.exists():
        mock = ["--mock-engine"] if args.mock_engine else []
        understudy(args, "eval", subject, "--memory", "serves", "--baseline", subject, "--agent",
                   args.task, "--suite", args.task, "--max-new-tokens", "192", "--out", file, "--answers",
                   args.out / f"answers-{name}", *mock, "--json")
    return json.loads(file.read_text())


def understudy(args, *words):
    command = [args.binary.resolve(), "--data-dir", (args.out / "state").resolve(), *words]
    command = [str(word.resolve() if isinstance(word, Path) else word) for word in command]
    print("$", *command, flush=True)
    # memory.toml is found in the working directory.
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=args.out)
    # An evaluation whose gate fails exits with 1 or 3, and is a result all the same.
    if done.returncode not in ((0, 1, 3) if words[0] == "eval" else (0,)):
        raise SystemExit(f"{words[0]} exited with {done.returncode}")
    return done.stdout


def table(reports):
    rows = [f"| subject | lessons | {' | '.join(SCORERS)} |",
            "|---" * (len(SCORERS) + 2) + "|"]
    for name, report in reports.items():
        baseline, candidate = report["subjects"][:2]
        for label, subject in (("without", baseline), ("with", candidate)):
            cells = [interval(subject["scores"][scorer], "mean", "") for scorer in SCORERS]
            rows.append(f"| {Path(name).name} | {label} | {' | '.join(cells)} |")
        told = {comparison["scorer"]: comparison for comparison in report["comparisons"]}
        cells = [interval(told[scorer], "difference", "+") for scorer in SCORERS]
        rows.append(f"| {Path(name).name} | difference | {' | '.join(cells)} |")
    return "\n".join(rows)


def interval(found, key, sign):
    return f"{found[key]:{sign}.3f} [{found['low']:{sign}.3f}, {found['high']:{sign}.3f}]"


if __name__ == "__main__":
    main()
