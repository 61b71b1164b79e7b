#!/usr/bin/env python3
"""Checks that PEFT and transformers see in an adapter of ours what we see in it.

    check_peft_roundtrip.py ADAPTER_DIR BASE_GGUF LOGITS_JSON [--tolerance 1e-3]

ADAPTER_DIR   a directory as `understudy` writes it (adapter_config.json and
              adapter_model.safetensors).
BASE_GGUF     the base model, which transformers dequantises to f32 here.
LOGITS_JSON   what our side computed:
              {"sequences": [[id, ...], ...],          token ids, each sequence by itself
               "logits":    [[[f32, ...], ...], ...]}  one row over the vocabulary per token,
              and optionally "base_logits", the same without the adapter.

Prints the largest difference of logits and of next-token log-probabilities, and exits 1 when the
logits differ by more than the tolerance, or when the adapter changes nothing, which would make the
comparison empty. Needs torch, transformers, peft and gguf; run by hand, never in CI.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM


def logits_of(model, sequences):
    with torch.no_grad():
        return [model(torch.tensor([ids])).logits[0].float() for ids in sequences]


def worst(ours, theirs):
    return max((torch.tensor(a) - b).abs().max().item() for a, b in zip(ours, theirs))


def worst_log_prob(ours, theirs, sequences):
    most = 0.0
    for a, b, ids in zip(ours, theirs, sequences):
        if len(ids) > 1:
            next_ids = torch.tensor(ids)[1:, None]
            read = lambda rows: torch.log_softmax(rows, -1)[:-1].gather(1, next_ids)
            most = max(most, (read(torch.tensor(a)) - read(b)).abs().max().item())
    return most


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("adapter", type=Path)
    parser.add_argument("base", type=Path)
    parser.add_argument("logits", type=Path)
    parser.add_argument("--tolerance", type=float, default=1e-3)
    args = parser.parse_args()

    ours = json.loads(args.logits.read_text())
    sequences = ours["sequences"]
    model = AutoModelForCausalLM.from_pretrained(
        args.base.parent, gguf_file=args.base.name, dtype=torch.float32)
    model.eval()
    base = logits_of(model, sequences)
    adapted = logits_of(PeftModel.from_pretrained(model, args.adapter).eval(), sequences)

    if "base_logits" in ours:
        print(f"base: largest logit difference {worst(ours['base_logits'], base):.3e}")
    difference = worst(ours["logits"], adapted)
    print(f"adapter: largest logit difference {difference:.3e}")
    log_prob = worst_log_prob(ours["logits"], adapted, sequences)
    print(f"adapter: largest log-probability difference {log_prob:.3e}")
    moved = max((a - b).abs().max().item() for a, b in zip(adapted, base))
    print(f"the adapter moves logits by up to {moved:.3e}")
    if moved <= 10 * args.tolerance:
        sys.exit("the adapter changes next to nothing; this comparison proves nothing")
    if difference > args.tolerance:
        sys.exit(f"logits differ by more than {args.tolerance}")


if __name__ == "__main__":
    main()
