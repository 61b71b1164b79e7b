#!/usr/bin/env python3
"""Checks that an adapter of ours says the same in PEFT and in llama.cpp, and that vLLM would load it.

    check_adapter_elsewhere.py ADAPTER_DIR BASE_GGUF --binary target/release/understudy
                               [--llama LLAMA_CPP_SOURCE] [--vllm UNPACKED_WHEEL]
                               [--system TEXT] [--prompt TEXT ...]

Every prompt is answered greedily by `understudy serve` in f32, by transformers + PEFT, and by
llama.cpp's `llama-completion` from what its own `convert_hf_to_gguf.py` and `convert_lora_to_gguf.py`
make of base and adapter. The answers must be equal, character by character, and one of them at least
must differ from the base's, or the comparison would be empty. Greedy answers in f32 may part where
two tokens are equally likely to six digits; that has not been seen.

--llama needs `llama-completion` built (`scripts/build-llama-bench.sh`, then
`cmake --build …/build --target llama-completion`). --vllm is a folder with vllm/lora/peft_helper.py and
vllm/lora/utils.py of a vLLM release; those two run as they are, with what they import from the rest of
vLLM replaced by names, because vLLM itself need not run here.

Needs torch, transformers, peft, gguf and regex. Exits with 1 when something differs.
"""

import argparse
import ast
import json
import shutil
import subprocess
import sys
import tempfile
import types
import urllib.error
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
PEER = HERE.parent.parent / "crates/understudy/src/commands/bench/peer.py"
PROMPTS = [
    "add the album to my Classical Relaxations playlist",
    "book a table for four at a diner in Paris tonight",
    "what will the weather be in Lisbon on friday",
    "rate this book four out of six",
    "play some jazz from the eighties on Spotify",
]
SYSTEM = "Read the request and reply with JSON: the intent and its slots."
NEW_TOKENS = 48


def main():
    args = arguments()
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        base = scratch / "base"
        subprocess.run([sys.executable, PEER, "convert", args.base, base], check=True)
        prompts = [rendered(base, args.system, prompt) for prompt in args.prompt or PROMPTS]
        plain, ours = by_understudy(args, scratch, prompts)
        answers = {"PEFT": by_peft(args.adapter, base, prompts)}
        if args.llama:
            answers["llama.cpp"] = by_llama(args, scratch, base, prompts)
    failures = [] if ours != plain else ["the adapter changes no answer"]
    for who, theirs in answers.items():
        equal = sum(a == b for a, b in zip(ours, theirs))
        print(f"{who}: {equal} of {len(prompts)} answers are ours")
        failures += [f"{who} says {b!r} for our {a!r}" for a, b in zip(ours, theirs) if a != b]
    if args.vllm:
        print(f"vLLM: takes its configuration and all {vllm_checks(args.vllm, args.adapter)} tensors")
    for failure in failures:
        print(failure)
    return bool(failures)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("adapter", type=Path)
    parser.add_argument("base", type=Path)
    parser.add_argument("--binary", type=Path, required=True)
    parser.add_argument("--llama", type=Path, help="the root of llama.cpp's source, built in build/")
    parser.add_argument("--vllm", type=Path, help="a folder that holds vllm/lora")
    parser.add_argument("--system", default=SYSTEM)
    parser.add_argument("--prompt", action="append")
    return parser.parse_args()


def rendered(base, system, prompt):
    from transformers import AutoTokenizer

    said = [{"role": "system", "content": system}, {"role": "user", "content": prompt}]
    tokenizer = AutoTokenizer.from_pretrained(base)
    return tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True)


def by_understudy(args, scratch, prompts):
    """Without and with the adapter, which a server loads from its own directory alone."""
    held = scratch / "state/adapters/checked"
    shutil.copytree(args.adapter, held)
    command = [args.binary, "--data-dir", scratch / "state", "serve", "--listen", "127.0.0.1:0",
               "--grpc", "off", "--base", args.base, "--precision", "f32",
               "--allow-adapter-updates", "--json"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        said = json.loads(server.stdout.readline())
        url = said["url"]
        post(f"{url}/v1/load_lora_adapter",
             {"lora_name": "checked", "lora_path": str(held)})
        models = json.load(urllib.request.urlopen(f"{url}/v1/models"))["data"]
        base = next(model["id"] for model in models if model["id"] != "checked")
        return [[completion(url, model, prompt) for prompt in prompts]
                for model in (base, "checked")]
    finally:
        server.terminate()
        server.wait()


def completion(url, model, prompt):
    body = {"model": model, "prompt": prompt, "temperature": 0, "max_tokens": NEW_TOKENS}
    return json.loads(post(f"{url}/v1/completions", body))["choices"][0]["text"]


def post(url, body):
    request = urllib.request.Request(url, json.dumps(body).encode(),
                                     {"content-type": "application/json"})
    try:
        return urllib.request.urlopen(request, timeout=600).read()
    except urllib.error.HTTPError as refused:
        raise SystemExit(f"{url}: {refused.read().decode()}") from None


def by_peft(adapter, base, prompts):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model = PeftModel.from_pretrained(model, adapter).eval()
    answers = []
    for prompt in prompts:
        ids = tokenizer(prompt, return_tensors="pt", add_special_tokens=False)
        out = model.generate(**ids, max_new_tokens=NEW_TOKENS, do_sample=False,
                             pad_token_id=tokenizer.eos_token_id)
        new = out[0, ids["input_ids"].shape[1]:]
        answers.append(tokenizer.decode(new, skip_special_tokens=True))
    return answers


def by_llama(args, scratch, base, prompts):
    model, lora = scratch / "base.gguf", scratch / "adapter.gguf"
    convert = [sys.executable, args.llama / "convert_hf_to_gguf.py", base, "--outtype", "f32",
               "--outfile", model]
    subprocess.run(convert, check=True, capture_output=True)
    convert = [sys.executable, args.llama / "convert_lora_to_gguf.py", args.adapter, "--base", base,
               "--outtype", "f32", "--outfile", lora]
    subprocess.run(convert, check=True, capture_output=True)
    answers = []
    for prompt in prompts:
        command = [args.llama / "build/bin/llama-completion", "-m", model, "--lora", lora, "-p",
                   prompt, "-n", str(NEW_TOKENS), "--temp", "0", "-no-cnv", "--no-display-prompt"]
        done = subprocess.run(command, check=True, capture_output=True, text=True,
                              stdin=subprocess.DEVNULL)
        said, ended, _ = done.stdout.rpartition(" [end of text]")
        answers.append(said if ended else done.stdout.rstrip("\n"))
    return answers


def vllm_checks(folder, adapter):
    """Runs vLLM's reading of a configuration, and of the name of every tensor; says how many."""
    from safetensors import safe_open

    logger = types.SimpleNamespace(info_once=print, warning_once=print)
    stub("vllm.config.lora", LoRAConfig=object)
    stub("vllm.logger", init_logger=lambda _: logger)
    helper = types.ModuleType("peft_helper")
    sys.modules["peft_helper"] = helper
    exec((folder / "vllm/lora/peft_helper.py").read_text(), helper.__dict__)
    config = helper.PEFTHelper.from_local_dir(str(adapter), None)
    config.validate_legal(types.SimpleNamespace(max_lora_rank=16, bias_enabled=False))
    tree = ast.parse((folder / "vllm/lora/utils.py").read_text())
    names = ("parse_fine_tuned_lora_name",)
    tree.body = [node for node in tree.body if getattr(node, "name", "") in names]
    reading = {}
    exec(compile(tree, "utils.py", "exec"), reading)
    maps = set(config.target_modules)
    with safe_open(adapter / "adapter_model.safetensors", "pt") as file:
        keys = list(file.keys())
    for key in keys:
        module, _ = reading["parse_fine_tuned_lora_name"](key)
        if module.rsplit(".", 1)[-1] not in maps:
            raise SystemExit(f"vLLM would not find a place for {key}")
    return len(keys)


def stub(name, **members):
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        sys.modules.setdefault(".".join(parts[:end]), types.ModuleType(".".join(parts[:end])))
    vars(sys.modules[name]).update(members)


if __name__ == "__main__":
    sys.exit(main())
