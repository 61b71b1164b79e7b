#!/usr/bin/env python3
"""Writes what one optimiser step of every algorithm variant does to a LoRA adapter, into
tests/golden/trainer/variants/.

Starts from the tiny models of tests/golden/model/ (run make_model_golden.py first) and their PEFT
adapters. Every case runs PEFT's model over a few rows (each by itself: no padding, nothing
shared), hands the log-probabilities to a loss, lets torch autograd carry it back to the adapter,
and takes one step of torch's AdamW behind torch's clipping. All of it is f32. The loss is by

    transformers   the model's own loss with labels, as TRL's SFT trainer calls it
    trl            TRL's own loss code, driven without a trainer (as make_objective_golden.py does)
    autograd       the formula written out below: losses that TRL does not have, and weights of
                   single replies

The reference is the model with its adapter off. Every variant runs on Llama, one of each method
on the other families too.

Per method, <method>.json holds the rows as token ids, what is known of them per family (reference,
old and sampler log-probabilities), and the cases: settings as in a recipe, loss, gradient norm,
and for every tensor of the adapter the norm and three dot products of its gradient and of how far
the step moved it. The vectors are v_k[i] = sin(0.37 (i + 1) (k + 1) + k) over the flattened tensor,
so that both sides make them alike. policy.safetensors holds one case's tensors in full.

The clip is so small that Adam's epsilon counts: a usual first step is each gradient's sign, which
hides its size, and rounding turns the signs of elements that are nearly zero.

Run by hand, never in CI:  python make_variants_golden.py
Made with torch 2.15.0, transformers 5.23.0, peft 0.21.2, trl 1.16.0, safetensors 0.8.0, on CPU.
"""

import json
from pathlib import Path
from types import SimpleNamespace

import torch
from peft import PeftModel
from safetensors.torch import save_file
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM
from trl import DPOTrainer, GRPOTrainer, KTOTrainer
from trl.experimental.cpo import CPOTrainer
from trl.experimental.orpo import ORPOTrainer

from make_objective_golden import COMMON, Leaves, bare, metrics
from make_trainer_golden import STOP, tokenizer

HERE = Path(__file__).parent
OUT = HERE / "trainer" / "variants"
FAMILIES = ["llama", "qwen2", "qwen3"]
# For its stand-ins, make_objective_golden.py is imported; it works in f64.
torch.set_default_dtype(torch.float32)

STEP = dict(learning_rate=1e-2, weight_decay=0.01, clip=1e-6)
TEMPERATURE = 0.7


# --- Rows -----------------------------------------------------------------------------------

SYSTEM = {"role": "system", "content": "Answer in JSON."}


def user(text):
    return {"role": "user", "content": text}


def said(text):
    return {"role": "assistant", "content": text}


def heard(text):
    return {"role": "tool", "content": text}


TOKENS = tokenizer()


class Row:
    """A prompt and turns after it, the first by the model, the next heard, and so on."""

    def __init__(self, prompt, completion):
        ids = lambda text: TOKENS(text, add_special_tokens=False)["input_ids"]
        render = lambda messages, more: TOKENS.apply_chat_template(
            messages, add_generation_prompt=more, tokenize=False)
        read = render(prompt, True)
        self.prompt, self.turns, before = ids(read), [], list(prompt)
        for message in completion:
            before.append(message)
            if message["role"] != "assistant":
                continue
            asked = render(before[:-1], True)
            if self.turns:
                self.turns.append(ids(asked[len(read):]))
            whole = render(before, False)
            read = whole[: whole.rindex(STOP) + len(STOP)]
            assert asked.startswith(render(prompt, False)) and read.startswith(asked)
            self.turns.append(ids(read[len(asked):]))
        assert self.ids() == ids(read)

    def after(self):
        return [token for turn in self.turns for token in turn]

    def ids(self):
        return self.prompt + self.after()

    def own(self):
        """For every token after the prompt, whether the model said it."""
        own = [[nth % 2 == 0] * len(turn) for nth, turn in enumerate(self.turns)]
        return torch.tensor([flag for turn in own for flag in turn])

    def write(self, **more):
        return dict(prompt=self.prompt, turns=self.turns, **more)


def rounded(values):
    return values.mul(1e4).round().div(1e4)


def on(rows):
    """Masks over the tokens after the prompts: those the model said, those that are no padding."""
    own = pad_sequence([row.own() for row in rows], batch_first=True)
    there = pad_sequence([torch.ones(len(row.after())) for row in rows], batch_first=True).bool()
    return own, there


def unpadded(values, rows):
    """What the model said of each row's trained tokens, as numbers."""
    own, _ = on(rows)
    return [[float(f"{v:.8g}") for v in value[mask]] for value, mask in zip(values, own)]


# --- Model ----------------------------------------------------------------------------------

class Family:
    def __init__(self, name):
        folder = HERE / "model" / name
        base = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager").eval()
        self.name = name
        self.model = PeftModel.from_pretrained(base, folder / "adapter", is_trainable=True).eval()
        short = lambda n: n.removeprefix("base_model.model.model.").removesuffix(".default.weight")
        self.trained = {short(n): p for n, p in self.model.named_parameters() if p.requires_grad}
        self.start = {n: p.detach().clone() for n, p in self.trained.items()}

    def log_probs(self, rows, temperature=1.0):
        """Of every token after the prompt, zero where padded."""
        each = []
        for row in rows:
            ids = torch.tensor(row.ids())
            scores = self.model(ids[None]).logits[0] / temperature
            scores = torch.log_softmax(scores, -1)[len(row.prompt) - 1 : -1]
            each.append(scores.gather(1, ids[len(row.prompt):, None])[:, 0])
        return pad_sequence(each, batch_first=True)

    @torch.no_grad()
    def now(self, rows, temperature=1.0):
        return self.log_probs(rows, temperature)

    @torch.no_grad()
    def reference(self, rows, temperature=1.0):
        with self.model.disable_adapter():
            return self.log_probs(rows, temperature)

    def step(self, loss_of, settings):
        """Loss, gradient norm before clipping, gradients, and the adapter after one step."""
        trained = list(self.trained.values())
        optimizer = torch.optim.AdamW(
            trained, lr=settings["learning_rate"], betas=(0.9, 0.999), eps=1e-8,
            weight_decay=settings["weight_decay"])
        optimizer.zero_grad()
        loss = loss_of()
        loss.backward()
        gradient = {n: p.grad.clone() for n, p in self.trained.items()}
        norm = torch.nn.utils.clip_grad_norm_(trained, settings["clip"])
        optimizer.step()
        stepped = {n: p.detach().clone() for n, p in self.trained.items()}
        with torch.no_grad():
            for name, parameter in self.trained.items():
                parameter.copy_(self.start[name])
        return loss.item(), norm.item(), gradient, stepped


def digest(tensor):
    flat = tensor.double().flatten()
    place = torch.arange(1, len(flat) + 1, dtype=torch.float64)
    dots = [torch.sin(0.37 * place * (k + 1) + k) @ flat for k in range(3)]
    return [float(f"{v:.8g}") for v in (flat.norm(), *dots)]


def case(family, name, source, settings, loss_of, **more):
    settings = STEP | settings
    loss, norm, gradient, stepped = family.step(loss_of, settings)
    movement = {n: stepped[n] - start for n, start in family.start.items()}
    # What hardly moves proves nothing.
    assert abs(loss) > 0.02 and norm > 1e-3, (name, loss, norm)
    print(f"{family.name:6} {name:34} {source:12} loss {loss:9.4f}  norm {norm:9.4f}")
    tensors = {n: {"gradient": digest(gradient[n]), "movement": digest(movement[n])}
               for n in gradient}
    made = dict(name=name, family=family.name, source=source, settings=settings, **more,
                loss=loss, grad_norm=norm, tensors=tensors)
    return made, gradient, stepped


# --- Imitation ------------------------------------------------------------------------------

CONVERSATIONS = [
    ([SYSTEM, user("weather in Oslo?")],
     [said('{"call": "weather"}'), heard("4 degrees"), said("It is cold."), user("and?"),
      said("Wet.")]),
    ([user("hi")], [said('{"intent": "greeting"}')]),
    ([user("book a table")], [said('{"call": "book"}'), heard("error"), said("Sorry.")]),
]


def imitation(families):
    rows = [Row(*conversation) for conversation in CONVERSATIONS]
    count = sum(row.own().sum() for row in rows)

    def loss(family):
        total = 0.0
        for row in rows:
            ids = torch.tensor(row.ids())[None]
            labels = ids.clone()
            labels[0, : len(row.prompt)] = -100
            labels[0, len(row.prompt):][~row.own()] = -100
            total = total + family.model(ids, labels=labels, num_items_in_batch=count).loss
        return total

    cases = [case(family, "sft", "transformers", dict(method="sft"), lambda: loss(family))[0]
             for family in families]
    examples = [dict(messages=dict(prompt=prompt, completion=completion), rows=[row.write()])
                for (prompt, completion), row in zip(CONVERSATIONS, rows)]
    write("imitation", dict(examples=examples, known={}, cases=cases))


# --- Pairs ----------------------------------------------------------------------------------

PAIRS = [
    ([SYSTEM, user("book a table")], '{"intent": "book"}', '{"intent": "bake", "x": 1}'),
    ([user("play")], '{"intent": "play"}', ""),
    ([user("what is the time?")], "Noon.", "I am afraid that I do not know."),
]


def chosen_nll(lp, mask):
    pairs = len(lp) // 2
    return -lp[:pairs][mask[:pairs]].mean()


def dpo(losses, weights=None, **args):
    """TRL's DPOTrainer on [chosen; rejected]."""
    def loss(lp, ref, mask):
        trainer = bare(
            DPOTrainer, **COMMON, _metrics=metrics(), model=Leaves(lp * mask),
            ref_model=Leaves(ref * mask), precompute_ref_logps=False, beta=args["beta"],
            loss_types=losses, loss_weights=weights or [1.0] * len(losses), use_weighting=False,
            label_smoothing=args.get("label_smoothing", 0.0), ld_alpha=args.get("ld_alpha"),
            f_divergence_type="reverse_kl",
            args=SimpleNamespace(discopop_tau=args.get("discopop_tau", 0.05),
                                 gradient_checkpointing=False,
                                 gradient_checkpointing_kwargs=None))
        # One prompt token in front of every completion.
        shifted = torch.cat([torch.zeros(len(lp), 1, dtype=torch.long), mask.long()], 1)
        inputs = dict(input_ids=shifted, attention_mask=torch.ones_like(shifted),
                      completion_mask=shifted)
        return trainer._compute_loss(trainer.model, inputs, False)
    return loss


def cpo(loss_type, beta, mean=False, label_smoothing=0.0, gamma=0.0, sft=0.0, reference=False):
    """TRL's CPOTrainer; of log-ratios, its smoothed sigmoid is cDPO."""
    def loss(lp, ref, mask):
        trainer = bare(CPOTrainer, **COMMON, loss_type=loss_type, beta=beta, alpha=0.0,
                       label_smoothing=label_smoothing, simpo_gamma=gamma)
        total = ((lp - ref if reference else lp) * mask).sum(1)
        values = trainer.cpo_loss(*(total / mask.sum(1) if mean else total).chunk(2))[0]
        return values.mean() + sft * chosen_nll(lp, mask)
    return loss


def orpo(beta, sft):
    def loss(lp, _, mask):
        trainer = bare(ORPOTrainer, **COMMON, beta=beta)
        values = trainer.odds_ratio_loss(*((lp * mask).sum(1) / mask.sum(1)).chunk(2))[0]
        return sft * chosen_nll(lp, mask) - values.mean()
    return loss


def pair_variants():
    """(settings, loss) of every variant."""
    simple = ["sigmoid", "hinge", "ipo", "sigmoid_norm", "apo_zero", "apo_down", "bco_pair",
              "nca_pair", "sppo_hard", "discopop"]
    for name in simple:
        numbers = dict(beta=0.4) | (dict(discopop_tau=0.5) if name == "discopop" else {})
        yield name, dict(loss=name, **numbers), dpo([name], **numbers)
    for name in ("robust", "exo_pair"):
        numbers = dict(beta=0.4, label_smoothing=0.2)
        yield name, dict(loss=name, **numbers), dpo([name], **numbers)
    numbers = dict(beta=0.4, label_smoothing=0.2)
    yield "cdpo", dict(loss="cdpo", **numbers), cpo("sigmoid", **numbers, reference=True)
    yield "cpo", dict(loss="cpo", beta=0.02, sft_weight=1.0), cpo("sigmoid", 0.02, sft=1.0)
    numbers = dict(beta=2.0, gamma=0.5)
    yield "simpo", dict(loss="simpo", **numbers), cpo("simpo", mean=True, **numbers)
    yield "orpo", dict(loss="orpo", beta=0.5, sft_weight=1.0), orpo(0.5, 1.0)
    yield ("ld_dpo", dict(loss="sigmoid", beta=0.4, ld_alpha=0.5),
           dpo(["sigmoid"], beta=0.4, ld_alpha=0.5))
    yield ("sigmoid with imitation", dict(loss="sigmoid", beta=0.4, sft_weight=0.5),
           dpo(["sigmoid", "sft"], weights=[1.0, 0.5], beta=0.4))


def preference(families):
    pairs = [(Row(p, [said(c)]), Row(p, [said(r)])) for p, c, r in PAIRS]
    rows = [pair[0] for pair in pairs] + [pair[1] for pair in pairs]
    mask, _ = on(rows)
    known, cases = {}, []
    for family in families:
        ref = family.reference(rows)
        ratios = ((family.now(rows) - ref) * mask).sum(1)
        print(family.name, "log-ratios", ratios.tolist())
        # Written pair by pair.
        by_row = unpadded(ref, rows)
        known[family.name] = dict(reference=[by_row[side * len(pairs) + nth]
                                             for nth in range(len(pairs)) for side in (0, 1)])
        for name, settings, loss in pair_variants():
            if family.name == "llama" or name == "sigmoid":
                cases.append(case(family, name, "trl", dict(method="dpo", **settings),
                                  lambda: loss(family.log_probs(rows), ref, mask))[0])
    examples = [dict(rows=[row.write() for row in pair]) for pair in pairs]
    write("preference", dict(examples=examples, known=known, cases=cases))


# --- Labels ---------------------------------------------------------------------------------

# In an order whose mismatched replies give a baseline above zero.
LABELS = [
    ([user("play")], '{"intent": "play"}', True, 1.0),
    ([user("hi")], "What?", False, 2.0),
    ([user("what is the time?")], "Noon.", True, 0.25),
    ([SYSTEM, user("book a table")], "Sure!", False, 0.5),
    ([SYSTEM, user("weather")], '{"intent": "weather"}', True, 1.5),
]


def label_loss(settings, lp, ref, mask, wanted, mismatched):
    """TRL's KTOTrainer; the baseline's log-ratios are given to it."""
    trainer = bare(
        KTOTrainer, **COMMON, _metrics=metrics(), model=Leaves(lp * mask), beta=settings["beta"],
        loss_type=settings["loss"], desirable_weight=settings["desirable_weight"],
        undesirable_weight=settings["undesirable_weight"], precompute_ref_logps=True,
        calculate_KL=settings["loss"] == "kto")
    object.__setattr__(trainer, "_compute_kl_logps", lambda *_: mismatched)
    shifted = torch.cat([torch.zeros(len(lp), 1, dtype=torch.long), mask.long()], 1)
    inputs = dict(input_ids=shifted, attention_mask=torch.ones_like(shifted),
                  completion_mask=shifted, label=wanted, ref_logps=(ref * mask).sum(1),
                  ref_KL_logps=torch.zeros(len(lp)))
    return trainer._compute_loss(trainer.model, inputs, False)


def weighted_label_loss(settings, lp, ref, mask, wanted, mismatched, weights):
    """The mean over replies of weight · w_D (1 − σ(β(x − z))), or weight · w_U (1 − σ(β(z − x)))."""
    x, z = ((lp - ref) * mask).sum(1), mismatched.mean().clamp(min=0)
    if settings["loss"] == "apo_zero_unpaired":
        z = 0.0
    sign = torch.where(wanted, 1.0, -1.0)
    side = torch.where(wanted, settings["desirable_weight"], settings["undesirable_weight"])
    return (weights * side * (1 - torch.sigmoid(settings["beta"] * sign * (x - z)))).mean()


def label(family):
    rows = [Row(prompt, [said(reply)]) for prompt, reply, _, _ in LABELS]
    wanted = torch.tensor([wanted for _, _, wanted, _ in LABELS])
    weights = torch.tensor([weight for *_, weight in LABELS])
    mask, _ = on(rows)
    # Every prompt with the reply of the one behind it.
    crossed = [Row(LABELS[nth][0], [said(LABELS[(nth + 1) % len(LABELS)][1])])
               for nth in range(len(LABELS))]
    apart, _ = on(crossed)
    ref = family.reference(rows)
    mismatched = ((family.now(crossed) - family.reference(crossed)) * apart).sum(1)
    print("baseline", mismatched.mean().item(), ((family.now(rows) - ref) * mask).sum(1).tolist())
    assert mismatched.mean() > 0.1, "a baseline of zero tests little"
    cases = []
    for name in ("kto", "apo_zero_unpaired"):
        settings = dict(loss=name, beta=0.2, desirable_weight=1.3, undesirable_weight=0.8)
        written = dict(method="kto", **settings)
        cases.append(case(
            family, name, "trl", written, lambda: label_loss(
                settings, family.log_probs(rows), ref, mask, wanted, mismatched))[0])
        cases.append(case(
            family, f"{name} of weighted replies", "autograd", written,
            lambda: weighted_label_loss(settings, family.log_probs(rows), ref, mask, wanted,
                                        mismatched, weights), given=["weights"])[0])
    examples = [dict(rows=[row.write()], wanted=wanted, weight=weight)
                for row, (_, _, wanted, weight) in zip(rows, LABELS)]
    known = {family.name: dict(reference=unpadded(ref, rows))}
    write("label", dict(examples=examples, known=known, cases=cases))


# --- Policies -------------------------------------------------------------------------------

GROUPS = [
    ([SYSTEM, user("weather?")],
     [[said('{"intent": "weather"}')], [said("{}")],
      [said('{"call": 1}'), heard("4 degrees"), said("Cold.")]]),
    ([user("play")], [[said("No.")], [said('{"intent": "play"}')], [said('{"intent": 2}')]]),
]
ADVANTAGES = torch.tensor([1.2, 0.7, -0.5, 0.9, -1.1, 0.4])
L_MAX = 10


class Rollouts:
    """The recorded attempts, and what one family's policies say of them."""

    def __init__(self, family, rows, token_advantages):
        self.rows, self.token_advantages = rows, token_advantages
        self.mask, self.there = on(self.rows)
        self.now = family.now(self.rows, TEMPERATURE)
        near = lambda values, spread: torch.minimum(
            values + (2 * torch.rand(values.shape) - 1) * spread, torch.tensor(-1e-3))
        self.old = rounded(near(self.now, 0.4))
        self.sampler = rounded(near(self.old, 0.15))
        self.ref = family.reference(self.rows, TEMPERATURE)

    def known(self):
        return dict(reference=unpadded(self.ref, self.rows), old=unpadded(self.old, self.rows),
                    sampler=unpadded(self.sampler, self.rows))

    def advantages(self, given):
        return self.token_advantages if "token_advantages" in given else ADVANTAGES[:, None]

    def correction(self, settings, trainer):
        """TRL's importance ratio, which it computes while generating. None when off."""
        mode, low, high = (settings["correction"][key] for key in ("mode", "min", "max"))
        if mode == "off":
            return None
        difference = (trainer - self.sampler) * self.mask
        if mode.startswith("sequence"):
            difference = difference.sum(1, keepdim=True)
        ratio = difference.exp()
        assert ((ratio < low) | (ratio > high)).any() and ((ratio > low) & (ratio < high)).any()
        if mode.endswith("truncate"):
            return ratio.clamp(low, high)
        return ratio.masked_fill((ratio < low) | (ratio > high), 0.0)

    def by_trl(self, lp, settings, given, micro_batches):
        """TRL's GRPOTrainer, summed over micro-batches."""
        kl = settings["kl"]
        named_by_loss = settings["loss"] in ("cispo", "sapo", "vespo")
        loss_type = settings["loss"] if named_by_loss else settings["aggregation"]
        ratio = self.correction(settings, self.old)
        args = SimpleNamespace(
            delta=settings.get("delta") or None,
            use_bias_correction_kl=kl.get("bias_corrected", False),
            steps_per_generation=micro_batches, sapo_temperature_pos=1.0,
            sapo_temperature_neg=1.05, vespo_k_pos=2.0, vespo_lambda_pos=3.0, vespo_k_neg=3.0,
            vespo_lambda_neg=2.0)
        total, each = 0.0, len(lp) // micro_batches
        for at in (slice(nth * each, (nth + 1) * each) for nth in range(micro_batches)):
            trainer = bare(
                GRPOTrainer, **COMMON, _metrics=metrics(), model=SimpleNamespace(training=True),
                loss_type=loss_type, beta=kl["beta"], epsilon_low=settings.get("epsilon_low", 0.2),
                importance_sampling_level="sequence" if settings["loss"] in ("gspo", "luspo")
                else "token",
                epsilon_high=settings["ratio_cap"] if loss_type == "cispo"
                else settings.get("epsilon_high", 0.28),
                top_entropy_quantile=1.0,
                off_policy_mask_threshold=settings.get("opsm_delta") or None,
                use_vllm=ratio is not None, vllm_importance_sampling_correction=True, args=args,
                current_gradient_accumulation_steps=micro_batches, max_completion_length=L_MAX,
                _entropy_bonus_enabled=False)
            object.__setattr__(trainer, "_get_per_token_logps_and_entropies",
                               lambda *_, at=at, **__: (lp[at], torch.zeros_like(lp[at]), None))
            ids = torch.zeros(lp[at].shape, dtype=torch.long)
            inputs = dict(prompt_ids=ids[:, :1], prompt_mask=ids[:, :1] + 1, completion_ids=ids,
                          completion_mask=self.there[at].long(), tool_mask=self.mask[at].long(),
                          advantages=self.advantages(given)[at].squeeze(1),
                          num_items_in_batch=self.mask.sum(),
                          sampling_per_token_logps=self.sampler[at],
                          ref_per_token_logps=self.ref[at])
            if "old" in given:
                inputs["old_per_token_logps"] = self.old[at]
            if ratio is not None:
                inputs["importance_sampling_ratio"] = ratio[at]
            total = total + trainer._compute_loss(None, inputs)
        return total

    def by_autograd(self, lp, settings, given, _):
        """Losses that TRL does not have, all summed over tokens and divided by their count."""
        fixed, kl = lp.detach(), settings["kl"]
        adv, x = self.advantages(given), lp - self.sampler
        ratio = (lp - self.old).exp() if settings["loss"] == "ppo" else x.exp()
        corrected = self.old
        if settings["loss"] == "ppo":
            low, high = 1 - settings["epsilon_low"], 1 + settings["epsilon_high"]
            value = -torch.min(ratio * adv, ratio.clamp(low, high) * adv)
            if settings["dual_clip"]:
                most = -settings["dual_clip"] * adv
                assert ((adv < 0) & (value > most) & self.mask).any(), "nothing is clipped twice"
                value = torch.where(adv < 0, torch.min(value, most), value)
        elif settings["loss"] == "dppo":
            moved, band = fixed.exp() - self.sampler.exp(), settings["band"]
            out = ((adv > 0) & (moved > band)) | ((adv < 0) & (moved < -band))
            assert (out & self.mask).any() and (~out & self.mask).any()
            value = -torch.where(out, 0.0, adv * ratio) + settings["anchor"] * x ** 2
        elif settings["loss"] == "reinforce":
            value, corrected = -adv * lp, fixed
        elif settings["loss"] == "dro":
            value = -(adv * lp - settings["anchor"] / 2 * x ** 2)
        weight = self.correction(settings, corrected)
        if weight is not None:
            value = value * weight
        if kl["beta"]:
            y = lp - self.ref
            estimates = {"k1": y, "k2": y ** 2 / 2, "k3": (-y).exp() + y - 1}
            shown, pushed = estimates[kl["estimator"]], estimates[kl["gradient"]]
            if kl["bias_corrected"]:
                shown, pushed = shown * ratio, pushed * ratio
            value = value + kl["beta"] * (pushed + (shown - pushed).detach())
        assert settings["aggregation"] == "dapo"
        return (value * self.mask).sum() / self.mask.sum()


def policy_variants():
    """(name, source, what differs from the plainest settings)"""
    yield "ppo dapo", "trl", dict()
    yield "ppo dapo, the old policy is the one of the moment", "trl", dict(given=[])
    yield "ppo dapo, an advantage for every token", "trl", dict(given=["old", "token_advantages"])
    yield "ppo grpo", "trl", dict(aggregation="grpo")
    yield "ppo bnpo in one micro-batch", "trl", dict(aggregation="bnpo", micro_batches=1)
    yield "ppo bnpo in two micro-batches", "trl", dict(aggregation="bnpo", micro_batches=2)
    yield "ppo dr_grpo", "trl", dict(aggregation="dr_grpo")
    yield "ppo luspo", "trl", dict(aggregation="luspo")
    yield "ppo with two-sided delta", "trl", dict(delta=1.3)
    yield "ppo with dual clip", "autograd", dict(dual_clip=1.35)
    yield "gspo", "trl", dict(loss="gspo", aggregation="grpo", epsilon_low=0.03, epsilon_high=0.03)
    yield "luspo", "trl", dict(loss="luspo", aggregation="luspo", epsilon_low=0.03,
                               epsilon_high=0.03)
    yield "cispo", "trl", dict(loss="cispo", ratio_cap=1.2)
    yield "sapo", "trl", dict(loss="sapo", aggregation="grpo")
    yield "vespo", "trl", dict(loss="vespo")
    yield "vespo, corrected", "trl", dict(
        loss="vespo", correction=("token_truncate", 0.9, 1.1))
    yield "dppo", "autograd", dict(loss="dppo", band=1e-3, anchor=0.05)
    yield "reinforce", "autograd", dict(loss="reinforce")
    yield "reinforce, token truncate", "autograd", dict(
        loss="reinforce", correction=("token_truncate", 0.8, 1.2))
    yield "reinforce, sequence truncate", "autograd", dict(
        loss="reinforce", correction=("sequence_truncate", 0.5, 2.0))
    yield "dro", "autograd", dict(loss="dro", anchor=0.5)
    yield "ppo with kl k3", "trl", dict(kl=dict(beta=0.2))
    yield "ppo with kl k3, bias corrected", "trl", dict(kl=dict(beta=0.2, bias_corrected=True))
    for estimator in ("k1", "k2", "k3"):
        yield f"ppo with kl {estimator}, gradient of k2", "autograd", dict(
            kl=dict(beta=0.2, estimator=estimator, gradient="k2"))
    yield "ppo with kl k3, gradient of k2, bias corrected", "autograd", dict(
        kl=dict(beta=0.2, gradient="k2", bias_corrected=True))
    for bounds in ("truncate", "mask"):
        token, sequence = (f"token_{bounds}", 0.9, 1.1), (f"sequence_{bounds}", 0.8, 1.25)
        yield f"ppo, token {bounds}", "trl", dict(correction=token)
        yield f"ppo, sequence {bounds}", "trl", dict(correction=sequence)
    yield "ppo with off-policy sequence mask", "trl", dict(opsm_delta=0.08)


def policy_case(family, recorded, name, source, loss="ppo", given=("old",), micro_batches=None,
                kl=None, correction=("off", 0.0, 2.0), **more):
    kl = dict(beta=0.0, estimator="k3", gradient="k3", bias_corrected=False) | (kl or {})
    mode, low, high = correction
    settings = dict(
        loss=loss, aggregation="dapo", kl=kl, correction=dict(mode=mode, min=low, max=high),
        max_new_tokens=L_MAX, temperature=TEMPERATURE, dual_clip=0.0) | more
    if loss == "ppo":
        settings = dict(epsilon_low=0.2, epsilon_high=0.28) | settings
    compute = recorded.by_trl if source == "trl" else recorded.by_autograd
    loss_of = lambda: compute(family.log_probs(recorded.rows, TEMPERATURE), settings, given,
                              micro_batches or 2)
    written = dict(method="grpo", rewards=["exact"], **settings)
    return case(family, name, source, written, loss_of, given=list(given),
                micro_batches=micro_batches)


def policy(families):
    # With this seed every bound of every case has something on either side.
    torch.manual_seed(17)
    rows = [Row(prompt, reply) for prompt, replies in GROUPS for reply in replies]
    widest = max(len(row.after()) for row in rows)
    by_token = rounded(ADVANTAGES[:, None] + torch.rand(len(rows), widest) - 0.5)
    known, cases = {}, []
    for family in families:
        recorded = Rollouts(family, rows, by_token)
        known[family.name] = recorded.known()
        for name, source, more in policy_variants():
            if family.name != "llama" and name != "ppo dapo":
                continue
            made, gradient, stepped = policy_case(family, recorded, name, source, **more)
            cases.append(made)
            if len(cases) == 1:
                tensors = {f"gradient.{n}": t for n, t in gradient.items()}
                tensors |= {f"stepped.{n}": t for n, t in stepped.items()}
                save_file(tensors, OUT / "policy.safetensors", metadata={"case": name})
    advantages = unpadded(by_token, rows)
    writes = [row.write(advantage=advantage, token_advantages=tokens)
              for row, advantage, tokens in zip(rows, ADVANTAGES.tolist(), advantages)]
    size = len(GROUPS[0][1])
    examples = [dict(rows=writes[at : at + size]) for at in range(0, len(writes), size)]
    write("policy", dict(examples=examples, known=known, cases=cases))


def write(name, made):
    path = OUT / f"{name}.json"
    text = json.dumps(made, separators=(",", ":"))
    path.write_text(text.replace('{"name"', '\n{"name"').replace('{"prompt"', '\n{"prompt"') + "\n")
    print(path.name, path.stat().st_size, "bytes", len(made["cases"]), "cases")


def main():
    torch.set_num_threads(1)
    OUT.mkdir(parents=True, exist_ok=True)
    families = [Family(name) for name in FAMILIES]
    imitation(families)
    preference(families)
    label(families[0])
    policy(families)


if __name__ == "__main__":
    main()
