//! Runs as lines that `understudy import --format understudy` reads.

use serde_json::{Value, json};
use understudy_memory::Transcript;

/// A step, whose prompt holds all calls with their answers, and the outcome of it.
pub fn journal_lines(transcript: &Transcript, n: u64) -> [Value; 2] {
    let heard = transcript.heard.iter().map(|text| json!({"role": "system", "content": text}));
    let mut prompt: Vec<Value> = heard.collect();
    prompt.push(json!({"role": "user", "content": transcript.goal}));
    for (at, call) in transcript.calls.iter().enumerate() {
        let id = format!("call_{at}");
        let function = json!({"name": call.tool, "arguments": call.arguments.to_string()});
        let asked = json!([{"id": id, "type": "function", "function": function}]);
        prompt.push(json!({"role": "assistant", "content": "", "tool_calls": asked}));
        let content = match &call.result {
            Ok(text) => text.clone(),
            Err(failure) => {
                let code = failure.code.map(|code| format!(" ({code})")).unwrap_or_default();
                json!({"error": format!("{}{code}", failure.message)}).to_string()
            }
        };
        prompt.push(json!({"role": "tool", "tool_call_id": id, "content": content}));
    }
    let reply = json!({"role": "assistant", "content": transcript.answer});
    let zero = json!({"prompt_tokens": 0, "completion_tokens": 0, "cached_tokens": 0});
    let step = json!({
        "id": format!("step_desk{n}"),
        "trajectory": transcript.source,
        "task": "desk",
        "subject": transcript.subject,
        "response_id": format!("desk-{n}"),
        "at": transcript.at,
        "prompt": prompt,
        "reply": reply,
        "finish_reason": "stop",
        "served": {"base": "toolworld", "adapter": null},
        "usage": zero,
        "timing": {"queued_ms": 0.0, "first_token_ms": 0.0, "total_ms": 0.0},
    });
    let outcome = json!({
        "id": format!("out_desk{n}"),
        "target": {"by": "step", "id": format!("step_desk{n}")},
        "signal": {"kind": "verifier", "name": "desk", "score": transcript.reward.unwrap_or(0.0)},
        "source": "automated",
        "at": transcript.at,
    });
    [json!({"step": step}), json!({"outcome": outcome})]
}
