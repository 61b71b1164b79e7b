"""Takes the training steps that `understudy bench train` names, in other programs, and times them.

    PYTHON peer.py probe             which of torch, transformers, peft and trl are here, as JSON
    PYTHON peer.py convert GGUF DIR  the base as a directory that every peer can train from
    PYTHON peer.py measure JOB       one configuration; one JSON line on the last line of output

A job is {"base": DIRECTORY, "work": FILE, "what": sft | dpo | grpo, "peer": torch | trl,
"dtype": float32 | bfloat16, "threads": N, "steps": N}. `work` holds the token ids both sides read:
{"sft": [[id]], "dpo": [{"prompt": [id], "chosen": [id], "rejected": [id]}], "grpo": [[id]],
"completions": N, "new_tokens": N, "rank": N, "alpha": X, "learning_rate": X}.

The first step warms up and is not reported. Adapters are f32 whatever the base is, as PEFT makes
them. Needs torch, transformers, peft and, for a GGUF base, gguf; for the trl peer trl and datasets.
"""

import importlib.metadata
import importlib.util
import json
import os
import sys
import tempfile
import time
from pathlib import Path


def probe():
    found = {}
    for name in ("torch", "transformers", "peft", "trl", "datasets", "gguf"):
        here = importlib.util.find_spec(name) is not None
        found[name] = importlib.metadata.version(name) if here else None
    return found


def peak_bytes():
    """The largest resident set of this process; a parent's does not count, as in getrusage."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def convert(gguf, folder):
    """Trainers refuse a model that was read from a GGUF file, although its weights are plain."""
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where = dict(pretrained_model_name_or_path=Path(gguf).parent, gguf_file=Path(gguf).name)
    model = AutoModelForCausalLM.from_pretrained(dtype=torch.float32, **where)
    tied = model.config.tie_word_embeddings
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()
               if not (tied and name == "lm_head.weight")}
    Path(folder).mkdir(parents=True, exist_ok=True)
    save_file(weights, Path(folder, "model.safetensors"), metadata={"format": "pt"})
    config = model.config.to_dict()
    config.pop("quantization_config", None)
    config["architectures"] = [type(model).__name__]
    Path(folder, "config.json").write_text(json.dumps(config, default=str))
    AutoTokenizer.from_pretrained(**where).save_pretrained(folder)


def load(base, dtype):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(base, dtype=dtype)


def load_tokenizer(base):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    # Rows are all of one length: what pads is never read, but trainers insist that something does.
    tokenizer.eos_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    return tokenizer


def lora_config(work):
    from peft import LoraConfig

    return LoraConfig(r=work["rank"], lora_alpha=work["alpha"], lora_dropout=0.0,
                      target_modules="all-linear", task_type="CAUSAL_LM")


class Steps:
    """Wall and processor seconds of steps."""

    def __init__(self):
        self.seconds, self.cpu_seconds = [], []

    def begin(self):
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def end(self):
        self.seconds.append(time.perf_counter() - self.wall)
        self.cpu_seconds.append(time.process_time() - self.cpu)


# --- torch + PEFT -----------------------------------------------------------------------------


def torch_peer(job, work, dtype):
    import torch
    from peft import get_peft_model

    torch.manual_seed(17)
    model = get_peft_model(load(job["base"], dtype), lora_config(work)).train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=work["learning_rate"], weight_decay=0.0)
    loss_of, tokens = {"sft": sft, "dpo": dpo, "grpo": grpo}[job["what"]](model, work)
    steps = Steps()
    for _ in range(job["steps"] + 1):
        steps.begin()
        loss = loss_of()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        steps.end()
    return steps, tokens


def completion_log_probs(model, ids, length):
    """Log-probabilities of the last `length` tokens of every row; only their logits are made."""
    import torch

    logits = model(input_ids=ids, logits_to_keep=length + 1).logits[:, :-1].float()
    targets = ids[:, -length:]
    losses = torch.nn.functional.cross_entropy(
        logits.reshape(-1, logits.shape[-1]), targets.reshape(-1), reduction="none")
    return -losses.reshape(targets.shape)


def sft(model, work):
    import torch

    ids = torch.tensor(work["sft"])
    return lambda: model(input_ids=ids, labels=ids).loss, ids.numel()


def dpo(model, work, beta=0.1):
    import torch

    rows = [pair["prompt"] + pair[side] for side in ("chosen", "rejected") for pair in work["dpo"]]
    ids, pairs = torch.tensor(rows), len(work["dpo"])
    length = len(work["dpo"][0]["chosen"])
    with torch.no_grad(), model.disable_adapter():
        reference = completion_log_probs(model, ids, length).sum(1)

    def loss():
        margin = completion_log_probs(model, ids, length).sum(1) - reference
        return -torch.nn.functional.logsigmoid(beta * (margin[:pairs] - margin[pairs:])).mean()

    return loss, ids.numel()


def grpo(model, work):
    import torch

    new, completions = work["new_tokens"], work["completions"]
    prompts = torch.tensor(work["grpo"]).repeat_interleave(completions, 0)
    # Every other attempt is rewarded: what a verifier would cost is not measured on either side.
    advantages = torch.tensor([1.0, -1.0]).repeat(prompts.shape[0] // 2)[:, None]

    def loss():
        model.eval()
        with torch.no_grad():
            ids = model.generate(
                input_ids=prompts, attention_mask=torch.ones_like(prompts), do_sample=True,
                temperature=1.0, top_k=0, top_p=1.0, min_new_tokens=new, max_new_tokens=new,
                pad_token_id=0)
        model.train()
        log_probs = completion_log_probs(model, ids, new)
        ratio = torch.exp(log_probs - log_probs.detach())
        return -(torch.min(ratio, ratio.clamp(0.8, 1.2)) * advantages).mean()

    return loss, prompts.shape[0] * new


# --- TRL, with its own defaults apart from adapter, batch and length ----------------------------


def trl_peer(job, work, dtype):
    import torch
    from transformers import TrainerCallback

    steps = Steps()

    class Watch(TrainerCallback):
        def on_step_begin(self, *_, **__):
            steps.begin()

        def on_step_end(self, *_, **__):
            steps.end()

    with tempfile.TemporaryDirectory() as folder:
        common = dict(
            output_dir=folder, max_steps=job["steps"] + 1, use_cpu=True, report_to=[],
            bf16=dtype == torch.bfloat16, save_strategy="no", disable_tqdm=True,
            learning_rate=work["learning_rate"], seed=17)
        build = {"sft": trl_sft, "dpo": trl_dpo, "grpo": trl_grpo}[job["what"]]
        trainer, tokens = build(load(job["base"], dtype), work, common, load_tokenizer(job["base"]))
        trainer.add_callback(Watch())
        trainer.train()
    return steps, tokens


def trl_sft(model, work, common, tokenizer):
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    rows = work["sft"]
    args = SFTConfig(per_device_train_batch_size=len(rows), max_length=len(rows[0]), **common)
    trainer = SFTTrainer(model, args=args, train_dataset=Dataset.from_dict({"input_ids": rows}),
                         processing_class=tokenizer, peft_config=lora_config(work))
    return trainer, sum(map(len, rows))


def trl_dpo(model, work, common, tokenizer):
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    class Exact(DPOTrainer):
        """The dataset already has the columns that preparing it would make."""

        def _prepare_dataset(self, dataset, *_, **__):
            return dataset

    pairs = work["dpo"]
    columns = {f"{side}_ids": [pair[side] for pair in pairs]
               for side in ("prompt", "chosen", "rejected")}
    length = len(pairs[0]["prompt"]) + len(pairs[0]["chosen"])
    # The reference is asked beforehand, as on every other side of this comparison.
    args = DPOConfig(per_device_train_batch_size=len(pairs), max_length=length,
                     precompute_ref_log_probs=True, **common)
    trainer = Exact(model, args=args, train_dataset=Dataset.from_dict(columns),
                    processing_class=tokenizer, peft_config=lora_config(work))
    return trainer, 2 * length * len(pairs)


def trl_grpo(model, work, common, tokenizer):
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    new, completions = work["new_tokens"], work["completions"]
    rows = len(work["grpo"]) * completions
    prompts = [tokenizer.decode(ids) for ids in work["grpo"]]

    def every_other(completions, **_):
        return [float(index % 2) for index in range(len(completions))]

    args = GRPOConfig(per_device_train_batch_size=rows, num_generations=completions,
                      max_completion_length=new, generation_kwargs={"min_new_tokens": new},
                      **common)
    # Prompts are repeated, so that there are enough for every step.
    data = Dataset.from_dict({"prompt": prompts * (common["max_steps"] + 1)})
    trainer = GRPOTrainer(model, reward_funcs=every_other, args=args, train_dataset=data,
                          processing_class=tokenizer, peft_config=lora_config(work))
    return trainer, rows * new


def measure(path):
    job = json.loads(Path(path).read_text())
    work = json.loads(Path(job["work"]).read_text())
    # Before torch is imported, whose own pool reads it.
    os.environ["OMP_NUM_THREADS"] = str(job["threads"])
    import torch

    torch.set_num_threads(job["threads"])
    dtype = getattr(torch, job["dtype"])
    peer = {"torch": torch_peer, "trl": trl_peer}[job["peer"]]
    steps, tokens = peer(job, work, dtype)
    print(json.dumps({
        "what": job["what"], "dtype": job["dtype"], "seconds": steps.seconds[1:],
        "cpu_seconds": steps.cpu_seconds[1:], "tokens": tokens, "peak_rss_bytes": peak_bytes()}))


def main():
    match sys.argv[1:]:
        case ["probe"]:
            print(json.dumps(probe()))
        case ["convert", gguf, folder]:
            convert(gguf, folder)
        case ["measure", path]:
            measure(path)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
