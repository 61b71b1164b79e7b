"""Verdicts of the Berkeley leaderboard's own checker on its own ground truths.

Usage: pip install --no-deps bfcl-eval==2026.3.23
       python make_bfcl_golden.py SAMPLE.jsonl [ALL.jsonl]

For every task of the Python categories with a ground truth, answers are derived from that truth: as
allowed, with each optional parameter left out, and broken in ways that a model breaks them. Each row
is a task with its tools (names, types and required parameters only), its truth, and the answers
with the checker's verdict. SAMPLE keeps one row of each of the shapes that occur; ALL keeps
all. Answers on which the checker raises are counted on stderr and left out. Deterministic.
"""

import copy
import json
import pathlib
import sys
import types

# The checker looks up one flag of the model's configuration, which would import every client.
config = types.ModuleType("bfcl_eval.constants.model_config")
config.MODEL_CONFIG_MAPPING = {"golden": types.SimpleNamespace(underscore_to_dot=False)}
sys.modules["bfcl_eval.constants.model_config"] = config

import bfcl_eval
from bfcl_eval.constants.enums import Language
from bfcl_eval.eval_checker.ast_eval.ast_checker import ast_checker

DATA = pathlib.Path(bfcl_eval.__file__).parent / "data"
CATEGORIES = [
    "simple_python", "multiple", "parallel", "parallel_multiple",
    "live_simple", "live_multiple", "live_parallel", "live_parallel_multiple",
]
PER_SHAPE = 2


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]


def bare(schema):
    """Only what the checker reads."""
    kept = {}
    for key in ("type", "required"):
        if key in schema:
            kept[key] = schema[key]
    if "items" in schema and isinstance(schema["items"], dict):
        kept["items"] = bare(schema["items"])
    if "properties" in schema:
        kept["properties"] = {name: bare(inner) for name, inner in schema["properties"].items()}
    return kept


def value(allowed, last):
    """One of the allowed values, objects filled likewise."""
    options = [option for option in allowed if option != ""] or allowed
    option = options[-1 if last else 0]
    return filled(option, last)


def filled(option, last):
    if isinstance(option, dict):
        return {
            key: value(inner, last) if isinstance(inner, list) else inner
            for key, inner in option.items()
        }
    if isinstance(option, list):
        return [filled(item, last) for item in option]
    return option


def calls(truth, last=False, leave_out=False):
    made = []
    for entry in truth:
        (name, parameters), = entry.items()
        chosen = {
            parameter: value(allowed, last)
            for parameter, allowed in parameters.items()
            if not (leave_out and "" in allowed) and any(option != "" for option in allowed)
        }
        made.append({name: chosen})
    return made


def broken(made):
    """Answers that differ from a good one in one thing."""
    def changed(change):
        answer = copy.deepcopy(made)
        return answer if change(answer) else None

    def each(change):
        def apply(answer):
            parameters = next(iter(answer[-1].values()))
            done = False
            for key in parameters:
                new = change(parameters[key])
                if new is not None:
                    parameters[key], done = new, True
                    break
            return done
        return apply

    def rename(answer):
        (name, parameters), = answer[0].items()
        answer[0] = {name + "_": parameters}
        return True

    def extra(answer):
        next(iter(answer[0].values()))["unasked"] = 1
        return True

    def drop(answer):
        parameters = next(iter(answer[0].values()))
        return bool(parameters) and parameters.pop(next(iter(parameters))) is not None

    yield changed(rename)
    yield changed(extra)
    yield changed(drop)
    yield changed(lambda answer: bool(answer) and answer.append(copy.deepcopy(answer[0])) is None)
    yield changed(lambda answer: len(answer) > 1 and answer.reverse() is None)
    yield changed(lambda answer: len(answer) > 1 and bool(answer.pop()))
    text = lambda make: each(lambda v: make(v) if type(v) is str else None)
    yield changed(text(str.upper))
    yield changed(text(lambda v: v + "."))
    yield changed(text(lambda v: v + "x"))
    yield changed(text(lambda v: [v]))
    whole = lambda make: each(lambda v: make(v) if type(v) is int else None)
    yield changed(whole(float))
    yield changed(whole(str))
    yield changed(whole(lambda v: v + 1))
    yield changed(each(lambda v: int(v) if type(v) is bool else None))
    yield changed(each(lambda v: not v if type(v) is bool else None))
    yield changed(each(lambda v: int(v) if type(v) is float and v == int(v) else None))
    yield changed(each(lambda v: v[::-1] if type(v) is list and v != v[::-1] else None))
    yield changed(each(lambda v: [] if type(v) is list and v else None))
    yield changed(each(lambda v: v + v[:1] if type(v) is list and v else None))
    yield changed(each(lambda v: [str(i) for i in v] if type(v) is list and v else None))
    yield changed(each(lambda v: dict(list(v.items())[1:]) if type(v) is dict and v else None))
    yield changed(each(lambda v: v | {"unasked": 1} if type(v) is dict else None))
    yield changed(each(lambda v: None if type(v) is list else {"value": v}))


def shape(truth, tools):
    """What a task exercises: the types and values of its parameters."""
    kinds = set()
    by_name = {tool["name"]: tool for tool in tools}
    for entry in truth:
        (name, parameters), = entry.items()
        declared = by_name.get(name, tools[0])["parameters"]["properties"]
        for parameter, allowed in parameters.items():
            schema = declared.get(parameter, {})
            inner = schema.get("items", {}).get("type")
            values = sorted({type(option).__name__ for option in allowed if option != ""})
            kinds.add((schema.get("type"), inner, tuple(values), "" in allowed))
    return kinds | {("calls", min(len(truth), 3))}


def main(sample, everything=None):
    seen, kept, complete, answers, raised = {}, [], [], 0, {}
    for category in CATEGORIES:
        truths = {r["id"]: r["ground_truth"] for r in rows(DATA / "possible_answer" / f"BFCL_v4_{category}.json")}
        for task in rows(DATA / f"BFCL_v4_{category}.json"):
            truth = truths[task["id"]]
            named = {name for entry in truth for name in entry}
            tools = [
                {"name": tool["name"], "parameters": bare(tool["parameters"])}
                for tool in task["function"]
                if tool["name"] in named or len(task["function"]) == 1
            ]
            candidates = [calls(truth), calls(truth, last=True), calls(truth, leave_out=True), []]
            candidates += [answer for answer in broken(calls(truth)) if answer is not None]
            judged = []
            for answer in candidates:
                try:
                    verdict = ast_checker(
                        task["function"], copy.deepcopy(answer), truth, Language.PYTHON, category, "golden"
                    )["valid"]
                except Exception as error:
                    raised[type(error).__name__] = raised.get(type(error).__name__, 0) + 1
                    continue
                if [answer, verdict] not in judged:
                    judged.append([answer, verdict])
            row = {"id": task["id"], "tools": tools, "truth": truth, "answers": judged}
            complete.append(row)
            answers += len(judged)
            kinds = shape(truth, tools)
            if any(seen.get(kind, 0) < PER_SHAPE for kind in kinds):
                kept.append(row)
                for kind in kinds:
                    seen[kind] = seen.get(kind, 0) + 1
    for path, some in ((sample, kept), (everything, complete)):
        if path:
            lines = (json.dumps(row, separators=(",", ":"), ensure_ascii=False) for row in some)
            pathlib.Path(path).write_text("\n".join(lines) + "\n")
    print(f"{len(complete)} tasks, {answers} answers; {len(kept)} kept; raised: {raised}", file=sys.stderr)


main(*sys.argv[1:])
