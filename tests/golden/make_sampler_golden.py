#!/usr/bin/env python3
"""Writes the fixture that the engine's sampler is tested against, into
crates/engine/tests/golden/sampler.json: what is left of a distribution after each way of editing
and cutting it, and after several at once in the order the engine promises.

Everything transformers has is done by its own processors; presence and frequency penalties, which it
does not have, by vLLM's formula, written out in `counted`.

Run by hand, never in CI:  python make_sampler_golden.py
Made with torch 2.15.0, transformers 5.23.0, on CPU.
"""

import json
from pathlib import Path

import torch
from transformers.generation import logits_process as hf

OUT = Path(__file__).parents[2] / "crates/engine/tests/golden/sampler.json"
VOCAB, END = 258, 257
torch.manual_seed(11)


def word(text):
    """Ids of the byte-level test vocabulary, whose first letters are the printable ones."""
    return [ord(letter) - ord("!") for letter in text]


def counted(scores, completion, presence, frequency):
    counts = torch.bincount(torch.tensor(completion, dtype=torch.long), minlength=VOCAB)
    return scores - frequency * counts - presence * (counts > 0)


def processed(logits, prompt, completion, s):
    ids = torch.tensor([prompt + completion])
    scores = torch.tensor([logits], dtype=torch.float64)
    if bias := s.get("logit_bias"):
        scores = hf.SequenceBiasLogitsProcessor([[[int(k)], v] for k, v in bias.items()])(ids, scores)
    if allowed := s.get("allowed_token_ids"):
        scores = hf.PrefixConstrainedLogitsProcessor(lambda *_: allowed, 1)(ids, scores)
    if words := s.get("bad_words"):
        # Only the completion counts, so the prompt is not shown.
        banned = hf.NoBadWordsLogitsProcessor([word(text) for text in words], eos_token_id=END)
        scores = banned(torch.tensor([completion or [0]]), scores)
    if least := s.get("min_tokens"):
        scores = hf.MinNewTokensLengthLogitsProcessor(len(prompt), least, [END])(ids, scores)
    if (penalty := s.get("repetition_penalty", 1.0)) != 1.0:
        scores = hf.RepetitionPenaltyLogitsProcessor(penalty)(ids, scores)
    scores = counted(scores, completion, s.get("presence_penalty", 0.0), s.get("frequency_penalty", 0.0))
    scores = hf.TemperatureLogitsWarper(s["temperature"])(ids, scores)
    if s.get("min_p"):
        scores = hf.MinPLogitsWarper(s["min_p"])(ids, scores)
    if s.get("top_k"):
        scores = hf.TopKLogitsWarper(s["top_k"])(ids, scores)
    if s.get("top_p", 1.0) < 1.0:
        scores = hf.TopPLogitsWarper(s["top_p"])(ids, scores)
    return torch.log_softmax(scores[0], dim=-1)


CASES = {
    "plain": {},
    "temperature": {"temperature": 0.5},
    "hot": {"temperature": 1.9},
    "bias": {"logit_bias": {"3": 5.0, "70": -100.0, "257": 2.5}},
    "allowed": {"allowed_token_ids": [5, 64, 65, 257]},
    "bad word of one": {"bad_words": ["a"]},
    "bad word begun": {"bad_words": ["abc", "zz"]},
    "too short": {"min_tokens": 9},
    "long enough": {"min_tokens": 6},
    "repetition": {"repetition_penalty": 1.4},
    "repetition rewarded": {"repetition_penalty": 0.7},
    "presence": {"presence_penalty": 1.5},
    "frequency": {"frequency_penalty": 0.8},
    "frequency rewarded": {"frequency_penalty": -2.0},
    "min-p": {"min_p": 0.1},
    "min-p, hot": {"min_p": 0.3, "temperature": 1.7},
    "top-k": {"top_k": 7},
    "top-p": {"top_p": 0.6},
    "top-k and top-p": {"top_k": 12, "top_p": 0.7, "temperature": 1.3},
    "all cuts": {"min_p": 0.02, "top_k": 20, "top_p": 0.9, "temperature": 1.5},
    "all penalties": {
        "repetition_penalty": 1.2, "presence_penalty": 0.4, "frequency_penalty": 0.3,
        "temperature": 0.8,
    },
    "everything": {
        "logit_bias": {"64": 3.0, "65": -2.0}, "bad_words": ["abc"], "min_tokens": 20,
        "repetition_penalty": 1.3, "presence_penalty": 0.2, "frequency_penalty": 0.1,
        "temperature": 1.4, "min_p": 0.01, "top_k": 30, "top_p": 0.95,
    },
    "everything within the allowed": {
        "allowed_token_ids": list(range(60, 90)), "logit_bias": {"64": 1.0, "3": 9.0},
        "bad_words": ["abd", "e"], "frequency_penalty": 0.5, "temperature": 0.7, "min_p": 0.05,
        "top_k": 15, "top_p": 0.8,
    },
}


def main():
    cases = []
    for name, sampling in CASES.items():
        sampling = {"temperature": 1.0} | sampling
        logits = [round(v, 3) for v in (2.5 * torch.randn(VOCAB)).tolist()]
        prompt = torch.randint(0, 256, (12,)).tolist()
        completion = torch.randint(0, 256, (3,)).tolist() + [64] + word("ab")
        log_probs = processed(logits, prompt, completion, sampling)
        kept = int(torch.isfinite(log_probs).sum())
        best = torch.topk(log_probs, min(kept, 12))
        top = [[i, round(v, 7)] for i, v in zip(best.indices.tolist(), best.values.tolist())]
        cases.append({
            "name": name, "sampling": sampling, "logits": logits, "prompt": prompt,
            "completion": completion, "kept": kept, "top": top,
        })
    OUT.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(case) for case in cases)
    OUT.write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
