#!/usr/bin/env python3
"""Writes the fixture that crates/objective is tested against: losses and d loss / d lp for random
replies of uneven length, into crates/objective/tests/golden/objective.json.

Every case names its source:

    trl        TRL's own loss code, driven without a trainer: the object is made without
               __init__, given the attributes the code reads, and a stand-in for the model that
               returns leaf tensors of log-probabilities. Gradients by torch autograd.
    autograd   the formula written out below, for losses that TRL does not have (dual clip, DPPO,
               REINFORCE, DRO, straight-through KL) and for the correction weights, which TRL
               computes while it generates.

Everything is computed in f64, but for ORPO's odds, which TRL casts to f32.

Run by hand, never in CI:  python make_objective_golden.py
Made with torch 2.15.0, transformers 5.23.0, trl 1.16.0, on CPU.
"""

import json
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import torch
from trl import DPOTrainer, GRPOTrainer, KTOTrainer
from trl.experimental.cpo import CPOTrainer
from trl.experimental.orpo import ORPOTrainer

OUT = Path(__file__).parents[2] / "crates/objective/tests/golden/objective.json"
torch.set_default_dtype(torch.float64)
torch.manual_seed(20)


# --- What a trainer's loss code asks of its surroundings -------------------------------------

class Accelerator:
    """One process: gathering and reducing change nothing."""
    device = torch.device("cpu")
    num_processes = 1
    sync_gradients = True

    def gather(self, x):
        return x

    gather_for_metrics = gather

    def reduce(self, x, reduction="sum"):
        return x


class Leaves(torch.nn.Module):
    """Stands in for the model: its output is the log-probabilities, zero where masked."""
    is_gradient_checkpointing = False

    def __init__(self, log_probs):
        super().__init__()
        self.log_probs = log_probs

    def forward(self, **_):
        zeros = torch.zeros_like(self.log_probs)
        return SimpleNamespace(log_probs=self.log_probs, entropy=zeros, mean_logits=zeros,
                               is_top1=zeros.bool())


def bare(cls, **attributes):
    made = object.__new__(cls)
    for name, value in attributes.items():
        object.__setattr__(made, name, value)
    return made


COMMON = dict(accelerator=Accelerator(), aux_loss_enabled=False, _tp_size=1, _total_train_tokens=0)


def metrics():
    return {"train": defaultdict(list), "eval": defaultdict(list)}


# --- Data -----------------------------------------------------------------------------------

def draw(shape, low, high):
    return (low + (high - low) * torch.rand(shape)).mul(1e4).round().div(1e4)


def near(values, spread):
    return torch.minimum((values + draw(values.shape, -spread, spread)), torch.tensor(-1e-3))


def rows(values, lengths):
    return [value[:n].tolist() for value, n in zip(values, lengths)]


def digits(values):
    return [float(f"{value:.13g}") for value in values]


# --- Pairs ----------------------------------------------------------------------------------

CHOSEN, REJECTED = [5, 1, 8], [3, 6, 7]
WIDTH = 8
pair_lp = draw((6, WIDTH), -3.0, -0.05)
pair_ref = near(pair_lp, 0.8)
pair_lengths = torch.tensor(CHOSEN + REJECTED)
pair_mask = torch.arange(WIDTH)[None] < pair_lengths[:, None]


def dpo(losses, beta, weights=None, **args):
    """The loss by TRL's DPOTrainer on [chosen; rejected]."""
    def loss(lp):
        trainer = bare(
            DPOTrainer, **COMMON, _metrics=metrics(), model=Leaves(lp * pair_mask),
            ref_model=Leaves(pair_ref * pair_mask), precompute_ref_logps=False, beta=beta,
            loss_types=losses, loss_weights=weights or [1.0] * len(losses), use_weighting=False,
            label_smoothing=args.get("label_smoothing", 0.0), ld_alpha=args.get("ld_alpha"),
            f_divergence_type="reverse_kl",
            args=SimpleNamespace(discopop_tau=args.get("discopop_tau", 0.05),
                                 gradient_checkpointing=False,
                                 gradient_checkpointing_kwargs=None))
        # One prompt token in front of every completion.
        shifted = torch.cat([torch.zeros(6, 1, dtype=torch.long), pair_mask.long()], 1)
        inputs = dict(input_ids=shifted, attention_mask=torch.ones_like(shifted),
                      completion_mask=shifted)
        value = trainer._compute_loss(trainer.model, inputs, False)
        return value, trainer._metrics["train"]
    return loss


def sums(lp, mean):
    total = (lp * pair_mask).sum(1)
    return (total / pair_lengths if mean else total).chunk(2)


def nll(lp):
    return -lp[:3][pair_mask[:3]].mean()


def cpo(loss_type, beta, mean, sft, smoothing=0.0, gamma=0.0, reference=False):
    """The pair loss by TRL's CPOTrainer, plus the imitation of chosen replies."""
    trainer = bare(CPOTrainer, **COMMON, loss_type=loss_type, beta=beta, alpha=0.0,
                   label_smoothing=smoothing, simpo_gamma=gamma)

    def loss(lp):
        chosen, rejected = sums(lp - pair_ref if reference else lp, mean)
        values, up, down = trainer.cpo_loss(chosen, rejected)
        seen = {"rewards/chosen": [up.mean().item()], "rewards/rejected": [down.mean().item()],
                "nll_loss": [nll(lp).item()]}
        return values.mean() + sft * nll(lp), seen
    return loss


def orpo(beta, sft):
    trainer = bare(ORPOTrainer, **COMMON, beta=beta)

    def loss(lp):
        chosen, rejected = sums(lp, mean=True)
        values, up, down, ratio, odds = trainer.odds_ratio_loss(chosen, rejected)
        seen = {"rewards/chosen": [up.mean().item()], "rewards/rejected": [down.mean().item()],
                "log_odds_ratio": [ratio.item()], "log_odds_chosen": [odds.item()],
                "nll_loss": [nll(lp).item()]}
        return sft * nll(lp) - values.mean(), seen
    return loss


REPORTED = {"rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins",
            "logps/chosen", "logps/rejected", "nll_loss", "log_odds_ratio", "log_odds_chosen"}


def pair_case(settings, loss, source="trl"):
    lp = pair_lp.clone().requires_grad_()
    value, seen = loss(lp)
    value.backward()
    grads = [digits(row) for row in rows(lp.grad, pair_lengths)]
    return dict(settings=settings, source=source, loss=value.item(), chosen=grads[:3],
                rejected=grads[3:],
                metrics={name: seen[name][-1] for name in sorted(REPORTED & set(seen))})


def pair_cases():
    cases = []
    simple = ["sigmoid", "hinge", "ipo", "sigmoid_norm", "apo_zero", "apo_down", "bco_pair",
              "nca_pair", "sppo_hard", "discopop"]
    for name in simple:
        for beta in (0.1, 0.7):
            cases.append(pair_case(dict(loss=name, beta=beta), dpo([name], beta)))
    for name, smoothing in (("robust", 0.2), ("exo_pair", 1e-3), ("exo_pair", 0.3)):
        settings = dict(loss=name, beta=0.4, label_smoothing=smoothing)
        cases.append(pair_case(settings, dpo([name], 0.4, label_smoothing=smoothing)))
    cases.append(pair_case(dict(loss="discopop", beta=0.3, discopop_tau=0.9),
                           dpo(["discopop"], 0.3, discopop_tau=0.9)))
    cases.append(pair_case(dict(loss="sigmoid", beta=0.3, sft_weight=0.5),
                           dpo(["sigmoid", "sft"], 0.3, weights=[1.0, 0.5])))
    for name in ("sigmoid", "ipo", "apo_zero"):
        cases.append(pair_case(dict(loss=name, beta=0.3, ld_alpha=0.4),
                               dpo([name], 0.3, ld_alpha=0.4)))
    # Of log-ratios in place of log-probabilities, CPO's smoothed sigmoid is cDPO.
    cases.append(pair_case(dict(loss="cdpo", beta=0.4, label_smoothing=0.15),
                           cpo("sigmoid", 0.4, False, 0.0, smoothing=0.15, reference=True)))
    cases.append(pair_case(dict(loss="cpo", beta=0.2, sft_weight=1.0),
                           cpo("sigmoid", 0.2, False, 1.0)))
    cases.append(pair_case(dict(loss="simpo", beta=2.0, gamma=0.5),
                           cpo("simpo", 2.0, True, 0.0, gamma=0.5)))
    cases.append(pair_case(
        dict(loss="simpo", beta=2.5, gamma=1.2, label_smoothing=0.1, sft_weight=0.3),
        cpo("simpo", 2.5, True, 0.3, smoothing=0.1, gamma=1.2)))
    cases.append(pair_case(dict(loss="orpo", beta=0.1, sft_weight=1.0), orpo(0.1, 1.0)))
    cases.append(pair_case(dict(loss="orpo", beta=0.5, sft_weight=0.2), orpo(0.5, 0.2)))
    return dict(
        chosen=rows(pair_lp[:3], CHOSEN), rejected=rows(pair_lp[3:], REJECTED),
        chosen_reference=rows(pair_ref[:3], CHOSEN),
        rejected_reference=rows(pair_ref[3:], REJECTED), cases=cases)


# --- Labels ---------------------------------------------------------------------------------

LABELS = [True, False, True, False, True, True]
MISMATCHED = {"raised": [0.9, -0.4, 1.2, 0.1, -0.3, 0.6],
              "at zero": [-0.5, 0.1, -0.2, 0.0, 0.1, -0.3]}


def label_case(name, beta, mismatched, desirable, undesirable):
    lp = pair_lp.clone().requires_grad_()
    trainer = bare(
        KTOTrainer, **COMMON, _metrics=metrics(), model=Leaves(lp * pair_mask), beta=beta,
        loss_type=name, desirable_weight=desirable, undesirable_weight=undesirable,
        precompute_ref_logps=True, calculate_KL=name == "kto")
    log_ratios = torch.tensor(MISMATCHED[mismatched])
    object.__setattr__(trainer, "_compute_kl_logps", lambda *_: log_ratios)
    shifted = torch.cat([torch.zeros(6, 1, dtype=torch.long), pair_mask.long()], 1)
    inputs = dict(input_ids=shifted, attention_mask=torch.ones_like(shifted),
                  completion_mask=shifted, label=torch.tensor(LABELS),
                  ref_logps=(pair_ref * pair_mask).sum(1), ref_KL_logps=torch.zeros(6))
    value = trainer._compute_loss(trainer.model, inputs, False)
    value.backward()
    seen = trainer._metrics["train"]
    names = ["kl", "rewards/chosen", "rewards/rejected", "logps/chosen", "logps/rejected",
             "rewards/margins"]
    settings = dict(loss=name, beta=beta, desirable_weight=desirable,
                    undesirable_weight=undesirable)
    return dict(settings=settings, source="trl", mismatched=MISMATCHED[mismatched],
                loss=value.item(),
                gradients=[digits(row) for row in rows(lp.grad, pair_lengths)],
                metrics={name: seen[name][-1] for name in names})


def label_cases():
    cases = [label_case("kto", 0.1, "raised", 1.0, 1.0),
             label_case("kto", 0.6, "raised", 1.3, 0.8),
             label_case("kto", 0.6, "at zero", 1.0, 1.2),
             label_case("apo_zero_unpaired", 0.1, "raised", 1.0, 1.0),
             label_case("apo_zero_unpaired", 0.6, "raised", 0.7, 1.1)]
    return dict(log_probs=rows(pair_lp, pair_lengths), reference=rows(pair_ref, pair_lengths),
                desirable=LABELS, cases=cases)


# --- Policies -------------------------------------------------------------------------------

LENGTHS = [5, 2, 8, 6]
L_MAX = 10
pad = torch.arange(8)[None] < torch.tensor(LENGTHS)[:, None]
tool = torch.tensor([[1, 1, 0, 1, 1, 1, 1, 1], [1] * 8, [1, 1, 1, 0, 0, 1, 1, 1],
                     [1, 0, 1, 1, 1, 1, 1, 1]]).bool()
mask = pad & tool
lp0 = draw((4, 8), -2.5, -0.05)
old0 = near(lp0, 0.5)
sampler0 = near(old0, 0.4)
ref0 = near(lp0, 0.6)
advantages = torch.tensor([1.2, -0.7, -1.1, 0.4])
token_advantages = draw((4, 8), -1.5, 1.5)
MODES = ["token_truncate", "token_mask", "sequence_truncate", "sequence_mask"]


def correction(mode, low, high, source):
    """TRL's importance ratio, which it computes while generating. None when off."""
    if mode == "off":
        return None
    difference = (source - sampler0) * mask
    if mode.startswith("sequence"):
        difference = difference.sum(1, keepdim=True)
    ratio = difference.exp()
    if mode.endswith("truncate"):
        return ratio.clamp(low, high)
    return ratio.masked_fill((ratio < low) | (ratio > high), 0.0)


def grpo(settings, given, level="token"):
    """The step's loss by TRL's GRPOTrainer, over two micro-batches of two replies."""
    kl, corr = settings["kl"], settings["correction"]
    named_by_loss = settings["loss"] in ("cispo", "sapo", "vespo")
    loss_type = settings["loss"] if named_by_loss else settings["aggregation"]
    adv = token_advantages if "token_advantages" in given else advantages
    opsm_delta = settings.get("opsm_delta")
    ratio = correction(corr["mode"], corr["min"], corr["max"], old0 if "old" in given else lp0)
    args = SimpleNamespace(
        delta=settings.get("delta") or None, use_bias_correction_kl=kl.get("bias_corrected", False),
        steps_per_generation=2, sapo_temperature_pos=1.0, sapo_temperature_neg=1.05,
        vespo_k_pos=2.0, vespo_lambda_pos=3.0, vespo_k_neg=3.0, vespo_lambda_neg=2.0)

    def loss(lp):
        total, seen = 0.0, []
        for at in (slice(0, 2), slice(2, 4)):
            trainer = bare(
                GRPOTrainer, **COMMON, _metrics=metrics(), model=SimpleNamespace(training=True),
                loss_type=loss_type, importance_sampling_level=level, beta=kl["beta"],
                epsilon_low=settings.get("epsilon_low", 0.2),
                epsilon_high=settings["ratio_cap"] if loss_type == "cispo"
                else settings.get("epsilon_high", 0.28),
                top_entropy_quantile=1.0, off_policy_mask_threshold=opsm_delta,
                use_vllm=ratio is not None, vllm_importance_sampling_correction=True, args=args,
                current_gradient_accumulation_steps=2, max_completion_length=L_MAX,
                _entropy_bonus_enabled=False)
            object.__setattr__(trainer, "_get_per_token_logps_and_entropies",
                               lambda *_, at=at, **__: (lp[at], torch.zeros_like(lp[at]), None))
            ids = torch.zeros(2, 8, dtype=torch.long)
            inputs = dict(prompt_ids=ids[:, :1], prompt_mask=ids[:, :1] + 1, completion_ids=ids,
                          completion_mask=pad[at].long(), tool_mask=tool[at].long(),
                          advantages=adv[at], num_items_in_batch=mask.sum())
            if "old" in given:
                inputs["old_per_token_logps"] = old0[at]
            if "sampler" in given:
                inputs["sampling_per_token_logps"] = sampler0[at]
            if "reference" in given:
                inputs["ref_per_token_logps"] = ref0[at]
            if ratio is not None:
                inputs["importance_sampling_ratio"] = ratio[at]
            total = total + trainer._compute_loss(None, inputs)
            seen.append(trainer._metrics["train"])
        return total, seen
    return loss


def aggregated(settings, per_token):
    total = (per_token * mask)
    name = settings["aggregation"]
    if name == "grpo":
        return (total.sum(1) / mask.sum(1)).mean()
    if name == "dr_grpo":
        return total.sum() / (4 * L_MAX)
    if name == "luspo":
        return total.sum(1).mean()
    assert name == "dapo", name
    return total.sum() / mask.sum()


def written_out(settings, given):
    """Losses that TRL does not have."""
    adv = token_advantages if "token_advantages" in given else advantages[:, None]
    kl, corr = settings["kl"], settings["correction"]

    def loss(lp):
        fixed = lp.detach()
        x = lp - sampler0
        weight = 1.0
        if settings["loss"] == "ppo":
            ratio = (lp - old0).exp()
            low, high = 1 - settings["epsilon_low"], 1 + settings["epsilon_high"]
            value = -torch.min(ratio * adv, ratio.clamp(low, high) * adv)
            if settings["dual_clip"]:
                value = torch.where(adv < 0, torch.min(value, -settings["dual_clip"] * adv), value)
            weight = correction(corr["mode"], corr["min"], corr["max"], old0)
        elif settings["loss"] == "dppo":
            ratio, moved = x.exp(), fixed.exp() - sampler0.exp()
            band = settings["band"]
            out = ((adv > 0) & (moved > band)) | ((adv < 0) & (moved < -band))
            value = -torch.where(out, 0.0, adv * ratio) + settings["anchor"] * x ** 2
        elif settings["loss"] == "reinforce":
            ratio = x.exp()
            value = -adv * lp
            weight = correction(corr["mode"], corr["min"], corr["max"], fixed)
        elif settings["loss"] == "dro":
            ratio = x.exp()
            value = -(adv * lp - settings["anchor"] / 2 * x ** 2)
        if weight is not None:
            value = value * weight
        y = lp - ref0
        estimates = {"k1": y, "k2": y ** 2 / 2, "k3": (-y).exp() + y - 1}
        if kl["beta"]:
            shown, pushed = estimates[kl["estimator"]], estimates[kl["gradient"]]
            if kl["bias_corrected"]:
                shown, pushed = shown * ratio, pushed * ratio
            value = value + kl["beta"] * (pushed + (shown - pushed).detach())
        return aggregated(settings, value), None
    return loss


GIVEN = ["old", "sampler", "reference"]


def policy_case(loss, given=GIVEN, source="trl", level="token", kl=None, correction=None, **more):
    kl = dict(beta=0.0, estimator="k3", gradient="k3", bias_corrected=False) | (kl or {})
    correction = dict(mode="off", min=0.0, max=2.0) | (correction or {})
    aggregation = {"sapo": "grpo"}.get(loss, "dapo")
    settings = dict(loss=loss, aggregation=aggregation, kl=kl, correction=correction,
                    max_completion_tokens=L_MAX) | more
    if loss in ("ppo", "gspo", "luspo"):
        settings = dict(epsilon_low=0.2, epsilon_high=0.28, dual_clip=0.0) | settings
    lp = lp0.clone().requires_grad_()
    compute = grpo(settings, given, level) if source == "trl" else written_out(settings, given)
    value, seen = compute(lp)
    value.backward()
    made = dict(settings=settings, source=source, given=given, loss=value.item(),
                gradients=[digits(row) for row in rows(lp.grad, LENGTHS)])
    if seen:
        # Each micro-batch reports a mean; both again weigh by tokens, or by replies.
        counts = [2, 2] if level == "sequence" else [mask[:2].sum().item(), mask[2:].sum().item()]
        tokens = [mask[:2].sum().item(), mask[2:].sum().item()]
        means = {}
        for name in ("clip_ratio/low_mean", "clip_ratio/high_mean", "clip_ratio/region_mean", "kl"):
            if name in seen[0]:
                by = tokens if name == "kl" else counts
                means[name] = sum(s[name][-1] * n for s, n in zip(seen, by)) / sum(by)
        made["metrics"] = means
    return made


def policy_cases():
    cases = []
    for aggregation in ("grpo", "bnpo", "dr_grpo", "dapo", "luspo"):
        cases.append(policy_case("ppo", aggregation=aggregation))
    cases.append(policy_case("ppo", given=["reference"], kl=dict(beta=0.1)))
    cases.append(policy_case("ppo", given=GIVEN + ["token_advantages"]))
    cases.append(policy_case("ppo", epsilon_low=0.05, epsilon_high=0.07, aggregation="grpo"))
    cases.append(policy_case("ppo", delta=1.3, kl=dict(beta=0.05)))
    for bias_corrected in (False, True):
        kl = dict(beta=0.1, bias_corrected=bias_corrected)
        cases.append(policy_case("ppo", kl=kl, aggregation="dr_grpo"))
        cases.append(policy_case("sapo", kl=kl))
        cases.append(policy_case("cispo", kl=kl, ratio_cap=1.2))
    for epsilon in (0.02, 0.3):
        sequence = dict(level="sequence", epsilon_low=epsilon, epsilon_high=epsilon)
        cases.append(policy_case("gspo", aggregation="grpo", **sequence))
        cases.append(policy_case("luspo", aggregation="luspo", kl=dict(beta=0.1), **sequence))
    cases.append(policy_case("gspo", aggregation="dapo", level="sequence", epsilon_low=0.3,
                             epsilon_high=0.3, kl=dict(beta=0.1, bias_corrected=True)))
    cases.append(policy_case("vespo"))
    for mode in MODES:
        bounds = dict(mode=mode, min=0.8, max=1.25)
        cases.append(policy_case("ppo", correction=bounds, kl=dict(beta=0.1)))
        cases.append(policy_case("gspo", aggregation="grpo", level="sequence", correction=bounds,
                                 epsilon_low=0.1, epsilon_high=0.1))
        cases.append(policy_case("vespo", correction=bounds))
        cases.append(policy_case("reinforce", correction=bounds, source="autograd"))
    for threshold in (0.01, 0.1):
        cases.append(policy_case("ppo", opsm_delta=threshold, kl=dict(beta=0.1)))
    written = dict(source="autograd")
    cases.append(policy_case("ppo", dual_clip=1.3, correction=dict(mode="token_truncate"),
                             **written))
    cases.append(policy_case("dppo", band=0.2, anchor=1e-3, **written))
    cases.append(policy_case("dppo", band=0.05, anchor=0.1, aggregation="grpo", kl=dict(beta=0.1),
                             **written))
    cases.append(policy_case("reinforce", **written))
    cases.append(policy_case("dro", anchor=0.1, **written))
    cases.append(policy_case("dro", anchor=0.6, aggregation="luspo", **written))
    for estimator in ("k1", "k2", "k3"):
        for gradient in ("k2", "k3"):
            for bias_corrected in (False, True):
                kl = dict(beta=0.2, estimator=estimator, gradient=gradient,
                          bias_corrected=bias_corrected)
                cases.append(policy_case("ppo", kl=kl, **written))
    return dict(
        log_probs=rows(lp0, LENGTHS), old=rows(old0, LENGTHS), sampler=rows(sampler0, LENGTHS),
        reference=rows(ref0, LENGTHS), mask=rows(mask, LENGTHS), advantages=advantages.tolist(),
        token_advantages=rows(token_advantages, LENGTHS), micro_batches=[[0, 1], [2, 3]],
        cases=cases)


def main():
    made = dict(preference=pair_cases(), label=label_cases(), policy=policy_cases())
    OUT.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(made, separators=(",", ":"))
    OUT.write_text(text.replace('{"settings"', '\n{"settings"') + "\n")
    count = {name: len(part["cases"]) for name, part in made.items()}
    print(OUT, OUT.stat().st_size, "bytes", count)


if __name__ == "__main__":
    main()
