#!/usr/bin/env python3
"""Writes the fixtures that crates/model is tested against, into tests/golden/model/.

For tiny random Llama, Qwen2 and Qwen3 models, a Llama of odd widths, and one with the rotation of
Llama 3.1: the model as a Hugging Face directory (bf16 values,
computed with in f32), an adapter as PEFT saves it, and golden.safetensors with

    tokens, lengths       two sequences laid end to end
    mask                  1 where a token is trained (predicted from the position before)
    base_logits, logits   without and with the adapter, one row per token
    log_probs             of each token given those before it; 0 for the first of a sequence
    loss                  masked negative log-likelihood / number of trained tokens
    grad.<tensor>         d loss / d adapter tensor, under PEFT's tensor names
    stepped.<tensor>      the tensor after one torch AdamW step on that gradient

and template.json and families.json: chat templates with the text transformers renders.

Run by hand, never in CI:  python make_model_golden.py [FAMILY…]
Made with torch 2.15.0, transformers 5.23.0, peft 0.21.2, tokenizers 0.23.3, safetensors 0.8.0, on CPU.
"""

import json
import shutil
import sys
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

OUT = Path(__file__).parent / "model"
ADAMW = dict(lr=1e-2, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)
SHAPE = dict(
    vocab_size=260,
    hidden_size=64,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=256,
    pad_token_id=None,
    bos_token_id=None,
    eos_token_id=257,
)

# Family: config, class, PEFT target_modules (every form a reader must accept), rsLoRA.
FAMILIES = {
    "llama": (
        LlamaConfig(**SHAPE, rope_theta=100000.0, tie_word_embeddings=True),
        LlamaForCausalLM,
        "all-linear",
        False,
    ),
    "qwen2": (
        Qwen2Config(**SHAPE, tie_word_embeddings=True),
        Qwen2ForCausalLM,
        ["q_proj", "v_proj", "o_proj", "up_proj", "down_proj"],
        True,
    ),
    # head_dim differs from hidden / heads, and the head is not tied.
    "qwen3": (
        Qwen3Config(**SHAPE, head_dim=24, tie_word_embeddings=False),
        Qwen3ForCausalLM,
        r".*\.(self_attn|mlp)\.(q|k|v|o|gate|up|down)_proj",
        False,
    ),
    # No width is a multiple of 8, and three query heads share one pair of keys and values.
    "odd": (
        LlamaConfig(**SHAPE | dict(vocab_size=263, hidden_size=42, intermediate_size=61,
                                   num_attention_heads=3, num_key_value_heads=1),
                    rope_theta=10000.0, tie_word_embeddings=False),
        LlamaForCausalLM,
        "all-linear",
        False,
    ),
    # Over 32 positions the eight pairs of a head turn 5.1, 1.6, 0.5, … times: one is fast, one lies
    # between, the others are slow.
    "llama3": (
        LlamaConfig(**SHAPE | dict(hidden_size=32, intermediate_size=32, num_hidden_layers=1,
                                   num_attention_heads=2, num_key_value_heads=1),
                    rope_parameters=dict(rope_type="llama3", rope_theta=10000.0, factor=8.0,
                                         low_freq_factor=1.0, high_freq_factor=4.0,
                                         original_max_position_embeddings=32),
                    tie_word_embeddings=True),
        LlamaForCausalLM,
        "all-linear",
        False,
    ),
}


def byte_tokenizer():
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [AddedToken(t, special=True, normalized=False) for t in ("<|im_start|>", "<|im_end|>")]
    )
    return tokenizer


def make_model(name):
    config, cls, targets, rslora = FAMILIES[name]
    torch.manual_seed(sum(map(ord, name)))
    model = cls(config).float().eval()
    with torch.no_grad():
        for key, tensor in model.named_parameters():
            if key.endswith("norm.weight"):
                tensor.uniform_(0.7, 1.3)
            elif key.endswith("bias"):
                tensor.uniform_(-0.3, 0.3)
            else:
                tensor.normal_(0.0, 1.5 / tensor.shape[-1] ** 0.5)
            tensor.copy_(tensor.bfloat16().float())  # exact in the bf16 file
    directory = OUT / name
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    model.config.save_pretrained(directory)
    keys = {k: v for k, v in model.state_dict().items() if k != "lm_head.weight"}
    if not config.tie_word_embeddings:
        keys["lm_head.weight"] = model.lm_head.weight
    save_file({k: v.detach().bfloat16().contiguous() for k, v in keys.items()},
              directory / "model.safetensors", metadata={"format": "pt"})
    byte_tokenizer().save(str(directory / "tokenizer.json"))
    (directory / "chat_template.jinja").write_text(TEMPLATES["chatml"])
    return model, directory, targets, rslora


def make_golden(name):
    model, directory, targets, rslora = make_model(name)
    sequences = [torch.randint(0, 260, (n,)) for n in (17, 9)]
    masks = [torch.arange(17) >= 6, torch.arange(9) >= 4]
    with torch.no_grad():
        base_logits = torch.cat([model(ids[None]).logits[0] for ids in sequences])

    config = LoraConfig(r=4, lora_alpha=8, target_modules=targets, lora_dropout=0.0,
                        use_rslora=rslora, task_type="CAUSAL_LM")
    model = get_peft_model(model, config)
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    with torch.no_grad():
        for tensor_name, tensor in trained.items():
            if "lora_B" in tensor_name:
                tensor.normal_(0.0, 0.2)
    model.save_pretrained(directory / "adapter")
    (directory / "adapter" / "README.md").unlink(missing_ok=True)

    logits = [model(ids[None]).logits[0] for ids in sequences]
    log_probs, total, count = [], 0.0, 0
    for ids, row_logits, mask in zip(sequences, logits, masks):
        lp = torch.log_softmax(row_logits, -1)[:-1].gather(1, ids[1:, None])[:, 0]
        lp = torch.cat([torch.zeros(1), lp])
        log_probs.append(lp)
        total, count = total - (lp * mask).sum(), count + mask.sum()
    loss = total / count
    loss.backward()
    short = {n: n.replace(".default.weight", ".weight") for n in trained}
    golden = {f"grad.{short[n]}": p.grad.clone() for n, p in trained.items()}
    torch.optim.AdamW(trained.values(), **ADAMW).step()
    golden |= {f"stepped.{short[n]}": p.detach().clone() for n, p in trained.items()}
    golden |= {
        "tokens": torch.cat(sequences).to(torch.int64),
        "lengths": torch.tensor([len(s) for s in sequences]),
        "mask": torch.cat(masks).float(),
        "base_logits": base_logits,
        "logits": torch.cat(logits).detach(),
        "log_probs": torch.cat(log_probs).detach(),
        "loss": loss.detach().reshape(1),
    }
    save_file({k: v.contiguous() for k, v in golden.items()}, directory / "golden.safetensors")


TEMPLATES = {
    "chatml": (
        "{% for message in messages %}"
        "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    "default-system": (
        "{% for message in messages %}\n"
        "    {%- if loop.first and messages[0]['role'] != 'system' %}\n"
        "        {{- '<|im_start|>system\nYou are kind.<|im_end|>\n' }}\n"
        "    {%- endif %}\n"
        "    {{- '<|im_start|>' ~ message.role ~ '\n' ~ (message.content | trim) ~ '<|im_end|>\n' }}\n"
        "{% endfor %}\n"
        "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' -}}{% endif %}\n"
    ),
    "tools": (
        "{%- if tools %}\n"
        "    {{- '<|im_start|>system\n# Tools\n' }}\n"
        "    {%- for tool in tools %}\n"
        "        {{- tool | tojson }}\n"
        "        {{- '\n' }}\n"
        "    {%- endfor %}\n"
        "    {{- '<|im_end|>\n' }}\n"
        "{%- endif %}\n"
        "{%- set ns = namespace(last=-1) %}\n"
        "{%- for message in messages[::-1] %}\n"
        "    {%- set index = (messages | length - 1) - loop.index0 %}\n"
        "    {%- if ns.last < 0 and message.role == 'user' and message.content is string"
        " and not message.content.startswith('<tool') %}\n"
        "        {%- set ns.last = index %}\n"
        "    {%- endif %}\n"
        "{%- endfor %}\n"
        "{%- for message in messages %}\n"
        "    {%- if message.role == 'tool' %}\n"
        "        {%- if loop.first or messages[loop.index0 - 1].role != 'tool' %}\n"
        "            {{- '<|im_start|>user' }}\n"
        "        {%- endif %}\n"
        "        {{- '\n<tool>' + message.content + '</tool>' }}\n"
        "        {%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}\n"
        "            {{- '<|im_end|>\n' }}\n"
        "        {%- endif %}\n"
        "        {%- continue %}\n"
        "    {%- endif %}\n"
        "    {{- '<|im_start|>' + message.role + '\n' }}\n"
        "    {%- set content = message.content if message.content is defined and message.content else '' %}\n"
        "    {%- if '</think>' in content and loop.index0 < ns.last %}\n"
        "        {%- set content = content.split('</think>')[-1].lstrip('\n') %}\n"
        "    {%- endif %}\n"
        "    {{- content }}\n"
        "    {%- for call in message.tool_calls | default([], true) %}\n"
        "        {{- '\n<call>' + call.function.name + ' ' }}\n"
        "        {{- call.function.arguments | tojson }}\n"
        "        {{- '</call>' }}\n"
        "    {%- endfor %}\n"
        "    {{- '<|im_end|>\n' }}\n"
        "{%- endfor %}\n"
        "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{% endif %}\n"
    ),
}

CONVERSATIONS = {
    "plain": ([{"role": "user", "content": "  Hi \u2013 caf\u00e9? "}], None),
    "turns": (
        [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "2+2?"},
            {"role": "assistant", "content": "<think>\nsum\n</think>\n\n4"},
            {"role": "user", "content": "And 3+3?"},
        ],
        None,
    ),
    "tools": (
        [
            {"role": "user", "content": "Where is order 7?"},
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [
                    {
                        "id": "c1",
                        "type": "function",
                        "function": {"name": "find", "arguments": {"z": 7, "a": [1.5, "\u00fc<&'\""]}},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "{\"at\": \"depot\"}"},
            {"role": "tool", "tool_call_id": "c1", "content": "[]"},
        ],
        [
            {
                "type": "function",
                "function": {
                    "name": "find",
                    "description": "Finds an order's <place> & \"state\"",
                    "parameters": {"type": "object", "properties": {"z": {"type": "integer"}}},
                },
            }
        ],
    ),
}


def make_templates():
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=byte_tokenizer())
    cases = []
    for template_name, template in TEMPLATES.items():
        for name, (messages, tools) in CONVERSATIONS.items():
            for prompt in (False, True):
                text = tokenizer.apply_chat_template(
                    messages, tools=tools, chat_template=template, tokenize=False,
                    add_generation_prompt=prompt)
                cases.append({
                    "name": f"{template_name}/{name}/{prompt}", "template": template,
                    "messages": messages, "tools": tools, "add_generation_prompt": prompt,
                    "text": text,
                })
    (OUT / "template.json").write_text(json.dumps(cases, ensure_ascii=False, indent=1) + "\n")


# Everything the templates of the families lean on, in templates of our own.
FAMILY_TEMPLATES = {
    # As Llama 3.1's: special tokens, a date, tools before the first question or beside the system's
    # words, one call per message, answers of tools as JSON, and complaints.
    "headers": (
        "{{- bos_token }}\n"
        "{%- macro turn(role) -%}\n"
        "    {{- '<|start_header_id|>' ~ role ~ '<|end_header_id|>\n\n' }}\n"
        "{%- endmacro -%}\n"
        "{%- if not date_string is defined %}{% set date_string = '1 Jan 2000' %}{% endif %}\n"
        "{%- if not tools is defined %}{% set tools = none %}{% endif %}\n"
        "{%- set rest = messages[1:] if messages[0]['role'] == 'system' else messages %}\n"
        "{{- turn('system') }}\n"
        "{{- 'Today: ' + date_string + '\n' }}\n"
        "{%- if messages[0]['role'] == 'system' %}{{- messages[0]['content'] | trim }}{% endif %}\n"
        "{%- if tools is not none and not tools_in_user_message %}\n"
        "    {%- for tool in tools %}{{- '\n\n' }}{{- tool | tojson(indent=4) }}{% endfor %}\n"
        "{%- endif %}\n"
        "{{- eos_token }}\n"
        "{%- for message in rest %}\n"
        "    {%- if 'tool_calls' in message and message.tool_calls %}\n"
        "        {%- if message.tool_calls | length != 1 %}\n"
        "            {{- raise_exception('one call at a time') }}\n"
        "        {%- endif %}\n"
        "        {%- set call = message.tool_calls[0].function %}\n"
        "        {{- turn('assistant') }}\n"
        "        {{- '{\"name\": \"' + call.name + '\", \"parameters\": ' }}\n"
        "        {{- call.arguments | tojson }}\n"
        "        {{- '}' }}\n"
        "        {{- '<|eom_id|>' if builtin_tools is defined else eos_token }}\n"
        "    {%- elif message.role in ['tool', 'ipython'] %}\n"
        "        {{- turn('ipython') }}\n"
        "        {%- if message.content is mapping or message.content is iterable %}\n"
        "            {{- message.content | tojson }}\n"
        "        {%- else %}\n"
        "            {{- message.content }}\n"
        "        {%- endif %}\n"
        "        {{- eos_token }}\n"
        "    {%- else %}\n"
        "        {{- turn(message['role']) }}\n"
        "        {%- if loop.first and tools is not none and tools_in_user_message %}\n"
        "            {%- for tool in tools %}{{- tool | tojson(indent=4) + '\n\n' }}{% endfor %}\n"
        "        {%- endif %}\n"
        "        {{- message['content'] | trim + eos_token }}\n"
        "    {%- endif %}\n"
        "{%- endfor %}\n"
        "{%- if add_generation_prompt %}{{- turn('assistant') }}{% endif %}\n"
    ),
    # As Qwen's: tools and calls in tags, the answers of tools as one turn of the user, thoughts kept
    # for what follows the last question, a switch for thinking, and marks around what is trained.
    "tags": (
        "{%- if tools %}\n"
        "    {{- '<|im_start|>system\n' }}\n"
        "    {%- if messages[0].role == 'system' %}{{- messages[0].content + '\n\n' }}{%- endif %}\n"
        "    {{- '# Tools\n<tools>' }}\n"
        "    {%- for tool in tools %}{{- '\n' }}{{- tool | tojson }}{% endfor %}\n"
        "    {{- '\n</tools><|im_end|>\n' }}\n"
        "{%- elif messages[0].role == 'system' %}\n"
        "    {{- '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}\n"
        "{%- endif %}\n"
        "{%- set ns = namespace(open=true, asked=messages | length - 1) %}\n"
        "{%- for message in messages[::-1] %}\n"
        "    {%- if ns.open and message.role == 'user' %}\n"
        "        {%- set ns.open = false %}{% set ns.asked = messages | length - loop.index %}\n"
        "    {%- endif %}\n"
        "{%- endfor %}\n"
        "{%- for message in messages %}\n"
        "    {%- set content = message.content if message.content is string else '' %}\n"
        "    {%- if message.role == 'user' or (message.role == 'system' and not loop.first) %}\n"
        "        {{- '<|im_start|>' + message.role + '\n' + content + '<|im_end|>' + '\n' }}\n"
        "    {%- elif message.role == 'assistant' %}\n"
        "        {{- '<|im_start|>assistant\n' }}\n"
        "        {% generation %}\n"
        "        {%- if '</think>' in content and loop.index0 <= ns.asked %}\n"
        "            {%- set content = content.split('</think>')[-1].lstrip('\n') %}\n"
        "        {%- endif %}\n"
        "        {{- content.rstrip() }}\n"
        "        {%- for call in message.tool_calls or [] %}\n"
        "            {%- if call.function %}{% set call = call.function %}{% endif %}\n"
        "            {%- if (loop.first and content) or not loop.first %}{{- '\n' }}{% endif %}\n"
        "            {{- '<tool_call>\n{\"name\": \"' ~ call.name ~ '\", \"arguments\": ' }}\n"
        "            {%- if call.arguments is string %}{{- call.arguments }}\n"
        "            {%- else %}{{- call.arguments | tojson }}{% endif %}\n"
        "            {{- '}\n</tool_call>' }}\n"
        "        {%- endfor %}\n"
        "        {{- '<|im_end|>\n' }}\n"
        "        {%- endgeneration %}\n"
        "    {%- elif message.role == 'tool' %}\n"
        "        {%- if loop.first or (messages[loop.index0 - 1].role != 'tool') %}\n"
        "            {{- '<|im_start|>user' }}\n"
        "        {%- endif %}\n"
        "        {{- '\n<tool_response>\n' + content + '\n</tool_response>' }}\n"
        "        {%- if loop.last or (messages[loop.index0 + 1].role != 'tool') %}\n"
        "            {{- '<|im_end|>\n' }}\n"
        "        {%- endif %}\n"
        "    {%- endif %}\n"
        "{%- endfor %}\n"
        "{%- if add_generation_prompt %}\n"
        "    {{- '<|im_start|>assistant\n' }}\n"
        "    {%- if enable_thinking is defined and enable_thinking is false %}\n"
        "        {{- '<think>\n\n</think>\n\n' }}\n"
        "    {%- endif %}\n"
        "{%- endif %}"
    ),
}

SPECIAL = {"bos_token": "<|begin|>", "eos_token": "<|eot|>"}

VARIABLES = {
    "headers": [{}, {"date_string": "26 Jul 2024", "tools_in_user_message": True}],
    "tags": [{}, {"enable_thinking": False}],
}


def make_family_templates():
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=byte_tokenizer(), **SPECIAL)
    cases = []
    for template, source in FAMILY_TEMPLATES.items():
        for name, (messages, tools) in CONVERSATIONS.items():
            for number, variables in enumerate(VARIABLES[template]):
                for ending in ("closed", "reply", "continued"):
                    if ending == "continued" and messages[-1]["role"] not in ("user", "assistant"):
                        continue
                    text = tokenizer.apply_chat_template(
                        messages, tools=tools, chat_template=source, tokenize=False,
                        add_generation_prompt=ending == "reply",
                        continue_final_message=ending == "continued", **variables)
                    cases.append({"name": f"{template}/{name}/{number}/{ending}",
                                  "template": template, "conversation": name,
                                  "variables": variables, "ending": ending, "text": text})
    written = {"special": SPECIAL, "templates": FAMILY_TEMPLATES,
               "conversations": {name: {"messages": messages, "tools": tools or []}
                                 for name, (messages, tools) in CONVERSATIONS.items()},
               "cases": cases}
    (OUT / "families.json").write_text(json.dumps(written, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    for family in sys.argv[1:] or FAMILIES:
        make_golden(family)
    make_templates()
    make_family_templates()
