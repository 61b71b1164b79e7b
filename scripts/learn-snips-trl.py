#!/usr/bin/env python3
"""The peer of scripts/learn-snips.py: TRL's SFTTrainer on rows that Understudy froze.

    learn-snips-trl.py BASE ROWS.jsonl OUT SEED

Two epochs of steps of four rows at a learning rate of 2e-3 with a cosine schedule, LoRA of rank 16
and alpha 32 on every linear map, loss on the completion alone: what recipes/snips.toml says.
"""

import json
import sys

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer


def main():
    base, rows, out, seed = sys.argv[1:]
    with open(rows) as lines:
        rows = [json.loads(line) for line in lines]
    rows = [{key: row[key] for key in ("prompt", "completion")} for row in rows]
    torch.set_num_threads(2)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    settings = SFTConfig(
        output_dir=f"{out}.work", seed=int(seed), data_seed=int(seed), use_cpu=True, bf16=True,
        num_train_epochs=2, per_device_train_batch_size=4, learning_rate=2e-3,
        lr_scheduler_type="cosine_with_min_lr", lr_scheduler_kwargs={"min_lr_rate": 0.1},
        warmup_steps=0.03, weight_decay=0.0, max_grad_norm=1.0, completion_only_loss=True,
        max_length=1024, gradient_checkpointing=False, save_strategy="no", report_to=[],
        logging_steps=10,
    )
    lora = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    trainer = SFTTrainer(
        model=model, args=settings, train_dataset=Dataset.from_list(rows), peft_config=lora,
        processing_class=AutoTokenizer.from_pretrained(base),
    )
    trainer.train()
    trainer.model.save_pretrained(out)


if __name__ == "__main__":
    main()
