#!/usr/bin/env python3
"""Writes the fixtures that crates/trainer is tested against, into tests/golden/trainer/.

Starts from the tiny Llama of tests/golden/model/ (run make_model_golden.py first) and its PEFT
adapter, and trains for twenty steps, each over all examples, with torch autograd and torch AdamW:

    sft           imitation of two replies of uneven length
    sft_plus      the same with LoRA+: B learns four times as fast as A
    dpo           two pairs, the reference being the adapter as it was
    dpo_off_sft   the same pairs, reference with the adapter off, plus 0.5 x imitation of chosen

Per case, <case>.json holds examples, settings, and of every step its learning rate, loss and
gradient norm before clipping; <case>.safetensors holds, of sft and of dpo, the first step's
gradient before clipping (gradient.<tensor>) and the adapter after that step (stepped.<tensor>).

Run by hand, never in CI:  python make_trainer_golden.py
Made with torch 2.15.0, transformers 5.23.0, peft 0.21.2, safetensors 0.8.0, on CPU.
"""

import json
import math
from pathlib import Path

import torch
from peft import PeftModel
from peft.optimizers import create_loraplus_optimizer
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

HERE = Path(__file__).parent
MODEL = HERE / "model" / "llama"
OUT = HERE / "trainer"
STOP = "<|im_end|>"
STEPS = 20

SYSTEM = {"role": "system", "content": "Answer in JSON."}
SFT = [
    ([SYSTEM, {"role": "user", "content": "weather in Oslo?"}], '{"intent": "weather"}'),
    ([{"role": "user", "content": "hi"}], '{"intent": "greeting", "name": "caf\u00e9 42"}'),
]
PAIRS = [
    ([SYSTEM, {"role": "user", "content": "book a table"}], '{"intent": "book"}', "Sure!"),
    ([{"role": "user", "content": "play"}], '{"intent": "play"}', '{"intent": "weather", "x": 1}'),
]
SETTINGS = {
    "sft": dict(learning_rate=4e-3, warmup=0.4, weight_decay=0.01, clip=1.0),
    "sft_plus": dict(learning_rate=2e-3, warmup=0.1, weight_decay=0.01, clip=1.0,
                     loraplus_lr_ratio=4.0),
    "dpo": dict(learning_rate=5e-3, warmup=0.2, weight_decay=0.0, clip=0.5, beta=0.1,
                sft_weight=0.0, reference="start"),
    "dpo_off_sft": dict(learning_rate=5e-3, warmup=0.2, weight_decay=0.0, clip=1.0, beta=0.3,
                        sft_weight=0.5, reference="adapter_off"),
}


def tokenizer():
    made = PreTrainedTokenizerFast(tokenizer_file=str(MODEL / "tokenizer.json"))
    made.chat_template = (MODEL / "chat_template.jinja").read_text()
    return made


def row(tokens, prompt, reply):
    """ids and how many of them are prompt; what the template writes after the stop is cut off."""
    before = tokens.apply_chat_template(prompt, add_generation_prompt=True, tokenize=False)
    after = tokens.apply_chat_template(
        prompt + [{"role": "assistant", "content": reply}], tokenize=False)
    assert after.startswith(before)
    after = after[: after.rindex(STOP) + len(STOP)]
    ids = tokens(after, add_special_tokens=False)["input_ids"]
    count = len(tokens(before, add_special_tokens=False)["input_ids"])
    return torch.tensor(ids), count


def log_probs(model, ids, prompt):
    """log-probability of every completion token."""
    scores = torch.log_softmax(model(ids[None]).logits[0].float(), -1)
    return scores[prompt - 1 : -1].gather(1, ids[prompt:, None])[:, 0]


def sft_loss(model, rows):
    each = [log_probs(model, *r) for r in rows]
    return -sum(lp.sum() for lp in each) / sum(len(lp) for lp in each)


def dpo_loss(model, pairs, reference, beta, sft_weight):
    losses = []
    for (chosen, rejected), (ref_chosen, ref_rejected) in zip(pairs, reference):
        margin = (log_probs(model, *chosen).sum() - ref_chosen) - (
            log_probs(model, *rejected).sum() - ref_rejected)
        losses.append(-torch.nn.functional.logsigmoid(beta * margin))
    loss = torch.stack(losses).mean()
    return loss + sft_weight * sft_loss(model, [chosen for chosen, _ in pairs])


def learning_rate(step, settings):
    """Rises linearly, the first step being no zero, then half a cosine down to a tenth."""
    peak, warmup = settings["learning_rate"], math.ceil(settings["warmup"] * STEPS)
    if step < warmup:
        return peak * (step + 1) / warmup
    share = (step - warmup) / max(1, STEPS - warmup)
    return peak * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * share)))


def case(name):
    settings = SETTINGS[name]
    base = AutoModelForCausalLM.from_pretrained(
        MODEL, dtype=torch.float32, attn_implementation="eager").eval()
    model = PeftModel.from_pretrained(base, MODEL / "adapter", is_trainable=True).eval()
    tokens = tokenizer()
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    if name.startswith("sft"):
        rows = [row(tokens, prompt, reply) for prompt, reply in SFT]
        loss_of = lambda: sft_loss(model, rows)
        examples = [{"prompt": p, "completion": c} for p, c in SFT]
    else:
        pairs = [(row(tokens, p, c), row(tokens, p, r)) for p, c, r in PAIRS]
        ask = lambda: [[log_probs(model, *side).sum() for side in pair] for pair in pairs]
        with torch.no_grad():
            if settings["reference"] == "start":
                reference = ask()
            else:
                with model.disable_adapter():
                    reference = ask()
        loss_of = lambda: dpo_loss(
            model, pairs, reference, settings["beta"], settings["sft_weight"])
        examples = [{"prompt": p, "chosen": c, "rejected": r} for p, c, r in PAIRS]

    ratio = settings.get("loraplus_lr_ratio", 1.0)
    optimizer = create_loraplus_optimizer(
        model, torch.optim.AdamW, lr=1.0, loraplus_lr_ratio=ratio, betas=(0.9, 0.999), eps=1e-8,
        loraplus_weight_decay=settings["weight_decay"])
    scales = [group["lr"] for group in optimizer.param_groups]
    short = {n: n.removeprefix("base_model.model.model.").removesuffix(".default.weight")
             for n in trained}
    steps, tensors = [], {}
    for step in range(STEPS):
        rate = learning_rate(step, settings)
        for group, scale in zip(optimizer.param_groups, scales):
            group["lr"] = rate * scale
        optimizer.zero_grad()
        loss = loss_of()
        loss.backward()
        if step == 0:
            tensors |= {f"gradient.{short[n]}": p.grad.clone() for n, p in trained.items()}
        norm = torch.nn.utils.clip_grad_norm_(trained.values(), settings["clip"])
        optimizer.step()
        if step == 0:
            tensors |= {f"stepped.{short[n]}": p.detach().clone() for n, p in trained.items()}
        steps.append({"learning_rate": rate, "loss": loss.item(), "grad_norm": norm.item()})
    golden = {"examples": examples, "settings": settings, "steps": steps}
    (OUT / f"{name}.json").write_text(json.dumps(golden, indent=1) + "\n")
    if name in ("sft", "dpo"):
        save_file(tensors, OUT / f"{name}.safetensors", metadata={"format": "pt"})
    print(name, [round(s["loss"], 5) for s in steps], [round(s["grad_norm"], 3) for s in steps])


if __name__ == "__main__":
    torch.set_num_threads(1)
    OUT.mkdir(exist_ok=True)
    for name in SETTINGS:
        case(name)
