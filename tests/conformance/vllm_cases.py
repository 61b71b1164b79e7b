"""vLLM's endpoints and its adapter lifecycle, as trainers and routers call them."""

import json

from harness import case


def adapter(context, name, weights):
    """A directory the mock takes for an adapter."""
    path = context.loras / name
    path.mkdir(exist_ok=True)
    (path / "adapter_config.json").write_text(json.dumps({"r": 8, "peft_type": "LORA"}))
    (path / "adapter_model.safetensors").write_text(weights)
    return str(path)


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
                 "vllm:lora_requests_info"):
        assert f"\n{name}{{" in page, name


@case(mock=True)
def an_adapter_comes_is_replaced_and_goes(context):
    load = {"lora_name": "policy", "lora_path": adapter(context, "v1", "one")}
    status, _, text = context.post("/v1/load_lora_adapter", load)
    assert (status, text) == (200, "Success: LoRA adapter 'policy' added successfully.")
    status, _, again = context.post("/v1/load_lora_adapter", load)
    assert status == 400 and "already been loaded" in again["error"]["message"]
    load = {"lora_name": "policy", "lora_path": adapter(context, "v2", "two"), "load_inplace": True}
    assert context.post("/v1/load_lora_adapter", load)[0] == 200
    chat = {"model": "policy", "messages": [{"role": "user", "content": "hi"}]}
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


@case(mock=True)
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
