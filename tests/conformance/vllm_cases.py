"""vLLM's endpoints and its adapter lifecycle, as trainers and routers call them."""

import json
import random
import struct
import time

from harness import CHAT, case, until

# Width and depth of the bases for which adapters can be made up.
SHAPES = {"smollm2-135m-instruct": (576, 30), "smollm2-360m-instruct": (960, 32)}


def adapter(context, name, seed):
    """A PEFT directory for the base; the mock takes any bytes for weights."""
    path = context.loras / name
    path.mkdir(exist_ok=True)
    config = {"r": 2, "lora_alpha": 4, "peft_type": "LORA", "task_type": "CAUSAL_LM",
              "target_modules": ["q_proj"]}
    (path / "adapter_config.json").write_text(json.dumps(config))
    weights = seed.encode() if context.is_mock else lora(*SHAPES[context.model], seed)
    (path / "adapter_model.safetensors").write_bytes(weights)
    return str(path)


def lora(width, depth, seed):
    """Small random weights for every query projection, in the safetensors format."""
    dice, header, data = random.Random(seed), {}, bytearray()
    for layer in range(depth):
        name = f"base_model.model.model.layers.{layer}.self_attn.q_proj"
        for part, shape in (("lora_A", [2, width]), ("lora_B", [width, 2])):
            begin = len(data)
            data += struct.pack(f"<{2 * width}f", *(dice.gauss(0, 0.02) for _ in range(2 * width)))
            header[f"{name}.{part}.weight"] = {
                "dtype": "F32", "shape": shape, "data_offsets": [begin, len(data)]}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def load(context, name, path, **more):
    """Loads an adapter and returns its generation."""
    body = {"lora_name": name, "lora_path": path, **more}
    status, _, said = context.post("/v1/load_lora_adapter?format=json", body)
    assert status == 200, said
    return said["generation"]


def unload(context, name):
    assert context.post("/v1/unload_lora_adapter", {"lora_name": name})[0] == 200


@case
def tokens_there_and_back(context):
    status, _, said = context.post("/tokenize", {"model": context.model, "prompt": "hello wörld"})
    assert status == 200 and said["count"] == len(said["tokens"]) and said["max_model_len"] > 0
    _, _, back = context.post("/detokenize", {"model": context.model, "tokens": said["tokens"]})
    assert back["prompt"] == "hello wörld"


@case
def conversations_are_counted_as_they_are_generated_from(context):
    messages = [{"role": "user", "content": "hi"}]
    _, _, said = context.post("/tokenize", {"messages": messages, "return_token_strs": True})
    assert len(said["token_strs"]) == said["count"]
    _, _, reply = context.post("/v1/chat/completions",
                               {"model": context.model, "messages": messages, "max_tokens": 2})
    assert reply["usage"]["prompt_tokens"] == said["count"]


@case
def ids_in_and_out(context):
    _, _, said = context.post("/tokenize", {"prompt": "Once upon a time"})
    body = {"request_id": "r-1", "token_ids": said["tokens"],
            "sampling_params": {"max_tokens": 5, "temperature": 1.0, "seed": 3, "logprobs": 1, "n": 2,
                                "ignore_eos": True}}
    status, _, reply = context.post("/inference/v1/generate", body)
    assert status == 200 and reply["request_id"] == "r-1" and len(reply["choices"]) == 2
    for choice in reply["choices"]:
        assert len(choice["token_ids"]) == len(choice["logprobs"]["content"]) == 5
        assert choice["weight_versions"][0]["end"] == 5


@case
def probes(context):
    for path in ("/health", "/ready", "/v1/health", "/ping", "/version", "/load", "/is_paused",
                 "/weight_info", "/v1/lora_adapters"):
        assert context.get(path)[0] == 200, path


@case
def metrics_dashboards_read(context):
    _, headers, page = context.get("/metrics")
    assert headers["content-type"].startswith("text/plain")
    for name in ("vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc",
                 "vllm:prompt_tokens_total", "vllm:generation_tokens_total",
                 "vllm:request_success_total", "vllm:time_to_first_token_seconds_bucket",
                 "vllm:inter_token_latency_seconds_sum", "vllm:e2e_request_latency_seconds_count",
                 "vllm:request_time_per_output_token_seconds_bucket", "vllm:lora_requests_info",
                 "vllm:request_queue_time_seconds_sum", "vllm:request_inference_time_seconds_sum",
                 "vllm:request_prefill_time_seconds_sum", "vllm:request_decode_time_seconds_sum",
                 "vllm:request_prompt_tokens_bucket", "vllm:request_generation_tokens_bucket",
                 "vllm:request_max_num_generation_tokens_sum", "vllm:request_params_n_count",
                 "vllm:request_params_max_tokens_sum", "vllm:num_requests_waiting_by_reason",
                 "vllm:prefix_cache_queries_total", "vllm:prefix_cache_hits_total",
                 "vllm:num_preemptions_total", "vllm:admission_rejections_total",
                 "vllm:engine_sleep_state", "vllm:cache_config_info"):
        assert f"\n{name}{{" in page, name


def bounds(page, name):
    lines = [line for line in page.splitlines() if line.startswith(f"{name}_bucket")]
    return [line.split('le="')[1].split('"')[0] for line in lines]


@case
def buckets_are_vllms(context):
    page = context.get("/metrics")[2]
    first = bounds(page, "vllm:time_to_first_token_seconds")
    assert first == ("0.001 0.005 0.01 0.02 0.04 0.06 0.08 0.1 0.25 0.5 0.75 1.0 2.5 5.0 7.5 10.0 "
                     "20.0 40.0 80.0 160.0 640.0 2560.0 +Inf").split()
    assert bounds(page, "vllm:e2e_request_latency_seconds")[:4] == "0.3 0.5 0.8 1.0".split()
    assert bounds(page, "vllm:inter_token_latency_seconds")[:6] == "0.01 0.025 0.05 0.075 0.1 0.15".split()
    assert bounds(page, "vllm:request_params_n") == "1.0 2.0 5.0 10.0 20.0 +Inf".split()
    for line in page.splitlines():
        assert line.startswith("# TYPE ") or float(line.rsplit(" ", 1)[1]) >= 0, line


@case
def what_is_counted_adds_up(context):
    names = ("vllm:prompt_tokens_total", "vllm:generation_tokens_total",
             "vllm:e2e_request_latency_seconds_count", "vllm:request_generation_tokens_sum")
    before = [context.metric(name) for name in names]
    usage = context.post(CHAT, context.chat("count this", max_tokens=5, ignore_eos=True))[2]["usage"]
    after = [context.metric(name) for name in names]
    assert [b - a for a, b in zip(before, after)] == [usage["prompt_tokens"], 5, 1, 5]


@case
def prompts_are_scored(context):
    body = {"model": context.model, "prompt": "Once upon a time", "max_tokens": 1, "prompt_logprobs": 2}
    choice = context.post("/v1/completions", body)[2]["choices"][0]
    nothing, *scores = choice["prompt_logprobs"]
    assert nothing is None and len(scores) > 1
    for score in scores:
        assert len(score) >= 2
        for entry in score.values():
            assert entry["logprob"] <= 0 and entry["rank"] >= 1 and "decoded_token" in entry


@case
def tokens_can_be_spelt_as_ids(context):
    asked = context.chat(logprobs=True, top_logprobs=1, return_tokens_as_token_ids=True,
                         return_token_ids=True, return_prompt_text=True)
    reply = context.post(CHAT, asked)[2]
    choice = reply["choices"][0]
    spelt = [token["token"] for token in choice["logprobs"]["content"]]
    assert spelt == [f"token_id:{id}" for id in choice["token_ids"]]
    assert "hi" in reply["prompt_text"]


@case
def an_adapter_comes_is_replaced_and_goes(context):
    body = {"lora_name": "policy", "lora_path": adapter(context, "v1", "one")}
    status, _, text = context.post("/v1/load_lora_adapter", body)
    assert (status, text) == (200, "Success: LoRA adapter 'policy' added successfully.")
    status, _, again = context.post("/v1/load_lora_adapter", body)
    assert status == 400 and "already been loaded" in again["error"]["message"]
    body = {"lora_name": "policy", "lora_path": adapter(context, "v2", "two"), "load_inplace": True}
    assert context.post("/v1/load_lora_adapter", body)[0] == 200
    chat = {**context.chat(), "model": "policy"}
    _, headers, reply = context.post("/v1/chat/completions", chat)
    _, _, info = context.get("/weight_info")
    assert reply["adapter_generation"] == info["weight_versions"]["policy"]
    assert reply["adapter_generation"] in headers["x-understudy-adapter"]
    _, _, models = context.get("/v1/models")
    card = next(card for card in models["data"] if card["id"] == "policy")
    assert card["parent"] == context.model and card["root"]
    status, _, back = context.post("/v1/rollback_lora_adapter", {"lora_name": "policy"})
    assert status == 200 and back["generation"] != reply["adapter_generation"]
    status, _, text = context.post("/v1/unload_lora_adapter", {"lora_name": "policy"})
    assert (status, text) == (200, "Success: LoRA adapter 'policy' removed successfully.")
    assert context.post("/v1/unload_lora_adapter", {"lora_name": "policy"})[0] == 404
    assert context.post("/v1/chat/completions", chat)[0] == 404


@case
def a_swap_is_compared(context):
    path = adapter(context, "cas", "one")
    accept = {"accept": "application/json"}
    _, _, loaded = context.post("/v1/load_lora_adapter", {"lora_name": "cas", "lora_path": path}, accept)
    newer = {"lora_name": "cas", "lora_path": adapter(context, "cas2", "two")}
    status, headers, error = context.post("/v1/load_lora_adapter", {**newer, "expected_generation": "0"})
    assert status == 409 and headers["x-should-retry"] == "false"
    assert error["error"]["reason"] == "lora_generation_mismatch"
    expected = {**newer, "expected_generation": loaded["generation"]}
    status, _, swapped = context.post("/v1/load_lora_adapter", expected, accept)
    assert status == 200 and swapped["replaced"] == loaded["generation"]
    context.post("/v1/unload_lora_adapter", {"lora_name": "cas"})


@case
def adapters_come_from_allowed_places(context):
    status, _, error = context.post("/v1/load_lora_adapter", {"lora_name": "x", "lora_path": "/etc"})
    assert status == 403 and error["error"]["type"] == "PermissionDeniedError"
    missing = {"lora_name": "x", "lora_path": str(context.loras / "missing")}
    assert context.post("/v1/load_lora_adapter", missing)[0] == 404


@case
def generations_are_told_apart_and_can_be_had_again(context):
    one, two = adapter(context, "told-1", "one"), adapter(context, "told-2", "two")
    first = load(context, "told", one, generation=None, keep_previous=2)
    second = load(context, "told", two, load_inplace=True, keep_previous=2)
    ask = lambda **more: context.post(CHAT, context.chat(return_weight_versions=True, **more))  # noqa: E731
    _, headers, by_alias = ask(adapter="told")
    assert headers["x-understudy-adapter"] == f"told {second}" and by_alias["adapter_generation"] == second
    _, _, exact = ask(adapter={"generation": first})
    spans = exact["choices"][0]["weight_versions"]
    assert [span["version"] for span in spans] == [first]
    assert spans[-1]["end"] == exact["usage"]["completion_tokens"]
    base = ask()[2]
    prints = {reply["system_fingerprint"] for reply in (base, by_alias, exact)}
    assert len(prints) == 3 and "adapter_generation" not in base
    status, _, rolled = context.post("/v1/rollback_lora_adapter",
                                     {"lora_name": "told", "to_generation": first})
    assert status == 200 and rolled["generation"] == first
    assert ask(adapter="told")[2]["adapter_generation"] == first
    assert context.post("/v1/rollback_lora_adapter", {"lora_name": "nobody"})[0] == 404
    _, _, listed = context.get("/v1/lora_adapters")
    row = next(row for row in listed["data"] if row["alias"] == "told")
    assert row["generation"] == first and row["rank"] == 2 or context.is_mock
    unload(context, "told")


@case
def content_is_what_was_promised_or_is_not_loaded(context):
    path = adapter(context, "promised", "one")
    body = {"lora_name": "promised", "lora_path": path, "generation": "0" * 64}
    status, _, error = context.post("/v1/load_lora_adapter", body)
    assert 400 <= status < 500, error
    assert context.post("/v1/unload_lora_adapter", {"lora_name": "promised"})[0] == 404
    for field, value in {"ttl_s": 0, "wait": "drained", "lora_name": ""}.items():
        body = {"lora_name": "x", "lora_path": path, field: value}
        context.refuses(body, field, path="/v1/load_lora_adapter")


@case
def a_reply_keeps_the_weights_it_began_with(context):
    first = load(context, "swapped", adapter(context, "swapped-1", "one"), keep_previous=0)
    asked = context.chat("x" * 300, max_tokens=300, ignore_eos=True, return_weight_versions=True,
                         stream=True)
    connection = context.send(CHAT, {**asked, "model": "swapped"})
    until("it runs", lambda: context.metric("vllm:num_requests_running") > 0)
    second = load(context, "swapped", adapter(context, "swapped-2", "two"), load_inplace=True)
    reply = connection.getresponse()
    chunks = [json.loads(event[6:]) for event in reply.read().decode().split("\n\n")[:-2]]
    assert {chunk["adapter_generation"] for chunk in chunks} == {first}
    spans = chunks[-1]["choices"][0]["weight_versions"]
    assert [span["version"] for span in spans] == [first] and spans[-1]["end"] == 300
    _, _, after = context.post(CHAT, {**context.chat(), "model": "swapped"})
    assert after["adapter_generation"] == second
    unload(context, "swapped")


@case
def adapters_have_metrics_of_their_own(context):
    generation = load(context, "metered", adapter(context, "metered", "one"))
    assert context.post(CHAT, {**context.chat(max_tokens=4), "model": "metered"})[0] == 200
    assert context.metric("vllm:lora_adapter_loaded", adapter_name="metered") == 1
    assert context.metric("understudy:adapter_generation_info", alias="metered", generation=generation) == 1
    assert context.metric("understudy:adapter_requests_total", adapter="metered") == 1
    name = "understudy:adapter_time_to_first_token_seconds_count"
    assert context.metric(name, adapter="metered") == 1
    assert context.metric("understudy:adapter_active_leases", adapter="metered") == 0
    unload(context, "metered")
    assert context.metric("vllm:lora_adapter_loaded", adapter_name="metered") == 0


@case
def what_runs_waits_out_a_pause(context):
    connection = context.send(CHAT, context.chat("x" * 200, max_tokens=200, ignore_eos=True))
    until("it runs", lambda: context.metric("vllm:num_requests_running") > 0)
    assert context.post("/pause")[0] == 200
    try:
        assert context.get("/health")[0] == 200
        assert context.get("/ready")[0] == context.get("/v1/health")[0] == 503
        # A step that had begun may still end.
        until("it stands still", lambda: still(context))
        assert context.metric("vllm:num_requests_running") == 1
    finally:
        assert context.post("/resume")[0] == 200
    reply = json.loads(connection.getresponse().read())
    assert reply["usage"]["completion_tokens"] == 200
    assert context.post("/pause?mode=abort")[0] == 400


def still(context):
    name = "vllm:generation_tokens_total"
    before = context.metric(name)
    time.sleep(0.05)
    return context.metric(name) == before


@case
def pausing(context):
    assert context.post("/pause")[0] == 200 and context.get("/is_paused")[2]["is_paused"]
    chat = {"model": context.model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
    status, headers, _ = context.post("/v1/chat/completions", chat)
    assert status == 503 and headers["retry-after"] == "1"
    assert context.post("/resume")[0] == 200
    assert context.post("/v1/chat/completions", chat)[0] == 200


@case
def a_deadline(context):
    chat = {"model": context.model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
    status, _, _ = context.post("/v1/chat/completions", chat, {"x-request-timeout-ms": "60000"})
    assert status == 200
    status, _, error = context.post("/v1/chat/completions", chat, {"x-request-timeout-ms": "soon"})
    assert status == 400 and error["error"]["param"] == "x-request-timeout-ms"
