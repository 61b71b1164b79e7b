"""Verdicts of the Berkeley leaderboard's own checker on its Java and JavaScript ground truths.

Usage: pip install --no-deps bfcl-eval==2026.3.23
       python make_bfcl_source_golden.py SAMPLE.jsonl [ALL.jsonl]

For every task of the two categories, answers in source text are derived from the truth: as allowed,
with each optional parameter left out, written in other ways that the language allows, and broken.
Each row is a task with its language and types, its truth, and the answers with the checker's
verdict. SAMPLE keeps every fifth task, ALL all. Answers on which the checker raises are counted on
stderr and left out. Deterministic.
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
LANGUAGES = {"java": Language.JAVA, "javascript": Language.JAVASCRIPT}


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]


def options(allowed):
    return [option for option in allowed if option != ""] or allowed


def plain(value):
    """A literal without a declared type, the same in both languages."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + value + '"'
    return str(value)


def java(value, schema, style):
    kind = schema["type"]
    if isinstance(value, str) and kind not in ("char", "String", "any"):
        return value
    if kind == "boolean":
        return "true" if value else "false"
    if kind == "long":
        return f"{value}L"
    if kind == "float":
        return f"{value}f"
    if kind in ("Array", "ArrayList") and isinstance(value, list):
        inner = schema["items"]["type"]
        items = [java(item, {"type": inner}, style) for item in value]
        if kind == "Array":
            quoted = [f'"{item}"' for item in items] if inner == "String" and style else items
            return "new Thing[]{" + ", ".join(quoted) + "}"
        if inner in ("char", "String"):
            items = [f'"{item}"' for item in items]
        if style and items:
            return "new ArrayList<>() {{ " + " ".join(f"add({item});" for item in items) + " }}"
        return "new ArrayList<>(Arrays.asList(" + ", ".join(items) + "))" if items else "new ArrayList<>()"
    if kind == "HashMap" and isinstance(value, dict):
        puts = "".join(
            f'put("{key}", {plain(options(inner)[0] if isinstance(inner, list) else inner)}); '
            for key, inner in value.items()
        )
        return "new HashMap<String, Object>() {{ " + puts + "}}"
    return str(value)


def javascript(value, schema, style):
    kind = schema["type"]
    quote = "'" if style else '"'
    if isinstance(value, str):
        return quote + value + quote if kind == "String" else value
    if kind == "Boolean":
        return "true" if value else "false"
    if kind == "Bigint":
        return f"{value}n"
    if isinstance(value, list):
        items = [javascript(item, schema.get("items", {"type": "any"}), style) for item in value]
        return "new Array(" + ", ".join(items) + ")" if style else "[" + ", ".join(items) + "]"
    if isinstance(value, dict):
        def entry(inner):
            first = options(inner)[0] if isinstance(inner, list) else inner
            if isinstance(first, list):
                return "[" + ", ".join(plain(item) for item in first) + "]"
            if isinstance(first, dict):
                return "{" + ", ".join(f"{k}: {entry(v)}" for k, v in first.items()) + "}"
            return plain(first)
        return "{" + ", ".join(f"{quote}{key}{quote}: {entry(inner)}" for key, inner in value.items()) + "}"
    return str(value)


def answer(truth, function, language, last=False, leave_out=False, style=False):
    (_, parameters), = truth[0].items()
    declared = function["parameters"]["properties"]
    written = {}
    for name, allowed in parameters.items():
        if name not in declared or (leave_out and "" in allowed) or all(o == "" for o in allowed):
            continue
        option = options(allowed)[-1 if last else 0]
        write = java if language == "java" else javascript
        written[name] = write(option, declared[name], style)
    return [{function["name"]: written}]


CHANGES = [
    lambda text: text + "x",
    lambda text: text + " ",
    lambda text: text[1:-1],
    lambda text: text.upper(),
    lambda text: text.replace('"', "'"),
    lambda text: text.replace(", ", ","),
    lambda text: text.replace("<>", "<String>"),
    lambda text: text.replace("{{", "{\n{"),
    lambda text: text + "L",
    lambda text: text.rstrip("Lfn"),
    lambda text: "-" + text,
    lambda text: text + ".0",
    lambda text: '"' + text + '"',
    lambda text: "[" + text + "]",
    lambda text: "[[" + text + ", 1], [2]]",
    lambda text: text.replace(":", ""),
    lambda text: text.replace("(", "", 1),
    lambda text: text.replace("}", "", 1),
    lambda text: "",
]


def broken(made):
    (name, parameters), = made[0].items()
    yield []
    yield made + made
    yield [{name + "_": parameters}]
    yield [{name: parameters | {"unasked": "1"}}]
    for key in parameters:
        yield [{name: {k: v for k, v in parameters.items() if k != key}}]
        yield [{name: parameters | {key: 1}}]
        for change in CHANGES:
            new = change(parameters[key])
            if new != parameters[key]:
                yield [{name: parameters | {key: new}}]


def bare(schema):
    kept = {"type": "string", "x-type": schema["type"]}
    if "items" in schema:
        kept["x-items"] = schema["items"]["type"]
    return kept


def main(sample, everything=None):
    complete, answers, valid, raised = [], 0, 0, {}
    for language, code in LANGUAGES.items():
        category = f"simple_{language}"
        truths = {r["id"]: r["ground_truth"] for r in rows(DATA / "possible_answer" / f"BFCL_v4_{category}.json")}
        for task in rows(DATA / f"BFCL_v4_{category}.json"):
            truth, function = truths[task["id"]], task["function"][0]
            made = lambda **how: answer(truth, function, language, **how)
            candidates = [made(), made(last=True), made(leave_out=True), made(style=True), *broken(made())]
            judged = []
            for candidate in candidates:
                try:
                    verdict = ast_checker(
                        task["function"], copy.deepcopy(candidate), truth, code, category, "golden"
                    )["valid"]
                except Exception as error:
                    raised[type(error).__name__] = raised.get(type(error).__name__, 0) + 1
                    continue
                if [candidate, verdict] not in judged:
                    judged.append([candidate, verdict])
                    valid += verdict
            properties = {k: bare(v) for k, v in function["parameters"]["properties"].items()}
            parameters = {"type": "object", "properties": properties, "required": function["parameters"]["required"]}
            tool = {"name": function["name"], "x-language": language, "parameters": parameters}
            complete.append({"id": task["id"], "tools": [tool], "truth": truth, "answers": judged})
            answers += len(judged)
    for path, some in ((sample, complete[::5]), (everything, complete)):
        if path:
            lines = (json.dumps(row, separators=(",", ":"), ensure_ascii=False) for row in some)
            pathlib.Path(path).write_text("\n".join(lines) + "\n")
    print(f"{len(complete)} tasks, {answers} answers, {valid} valid; raised: {raised}", file=sys.stderr)


main(*sys.argv[1:])
