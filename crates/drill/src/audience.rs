//! The users: they ask over HTTP, read the reply, and say what they felt about it.

use std::{net::SocketAddr, time::Duration};

use serde_json::{Value, json};

use crate::{DrillError, house::TASK, script::Feeling};

/// Longer than anything that is not lost.
const PATIENCE: Duration = Duration::from_mins(1);

/// A browser, so to speak; clones share its connections.
#[derive(Clone)]
pub(crate) struct User {
    agent: ureq::Agent,
    chat: String,
    feedback: String,
    counts: String,
}

/// What came of asking.
pub(crate) struct Heard {
    /// Names the reply, where there was one.
    pub(crate) response_id: Option<String>,
    pub(crate) feeling: Option<Feeling>,
}

/// Who says what a reply was worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Judge {
    /// The user, by what they do.
    User,
    /// The teacher, who reads along.
    Teacher,
}

impl User {
    pub(crate) fn of(server: SocketAddr) -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(PATIENCE))
            .http_status_as_error(false)
            .max_idle_connections_per_host(64)
            .build();
        Self {
            agent: config.into(),
            chat: format!("http://{server}/v1/chat/completions"),
            feedback: format!("http://{server}/v1/feedback"),
            counts: format!("http://{server}/api/v1/journal"),
        }
    }

    /// One question within a session.
    pub(crate) fn ask(
        &self,
        session: &str,
        question: &str,
        stream: bool,
    ) -> Result<Heard, DrillError> {
        let body = json!({
            "model": TASK, "stream": stream, "max_tokens": 64,
            "messages": [{"role": "user", "content": question}],
        });
        let sent = self.agent.post(&self.chat).header("x-session-id", session).send_json(body);
        let mut response = sent.map_err(DrillError::lost("a question"))?;
        let status = response.status().as_u16();
        let text = response.body_mut().read_to_string().map_err(DrillError::lost("a reply"))?;
        if status != 200 {
            return Ok(Heard { response_id: None, feeling: None });
        }
        let (response_id, said) = if stream { streamed(&text) } else { whole(&text)? };
        let feeling = said.as_deref().and_then(Feeling::on_reading);
        Ok(Heard { response_id, feeling })
    }

    /// Tells all of it; the states the server answered, in the same order.
    pub(crate) fn tell(&self, events: &[Value]) -> Result<Vec<String>, DrillError> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let sent = self.agent.post(&self.feedback).send_json(events);
        let mut response = sent.map_err(DrillError::lost("an outcome"))?;
        let status = response.status().as_u16();
        let said = response.body_mut().read_to_string();
        let said = said.map_err(DrillError::lost("an acknowledgement"))?;
        if status != 202 {
            return Err(DrillError::Answer { what: "an outcome", status, said });
        }
        let answer: Value = serde_json::from_str(&said)?;
        let results = answer["results"].as_array().cloned().unwrap_or_default();
        let state = |one: &Value| one["state"].as_str().unwrap_or_default().to_owned();
        Ok(results.iter().map(state).collect())
    }

    /// What the server says it holds.
    pub(crate) fn counts(&self) -> Result<Value, DrillError> {
        let sent = self.agent.get(&self.counts).call();
        let mut response = sent.map_err(DrillError::lost("a question about the journal"))?;
        let text = response.body_mut().read_to_string();
        Ok(serde_json::from_str(&text.map_err(DrillError::lost("the journal's counts"))?)?)
    }
}

impl Heard {
    /// What is said of the reply, if anything is.
    pub(crate) fn event(&self, judge: Judge) -> Option<Value> {
        let id = self.response_id.as_ref()?;
        let value = match self.feeling? {
            Feeling::Silent => return None,
            Feeling::Harmed => {
                return Some(json!({"response_id": id, "signal": "flag", "reason": "harmful"}));
            }
            Feeling::Pleased => 1.0,
            Feeling::Displeased => 0.0,
        };
        Some(match judge {
            Judge::Teacher => json!({
                "response_id": id, "signal": "verifier", "name": "teacher@1", "value": value,
                "source": "teacher",
            }),
            Judge::User if value > 0.5 => json!({"response_id": id, "signal": "accept"}),
            Judge::User => json!({"response_id": id, "signal": "rating", "value": 0.0}),
        })
    }
}

fn whole(text: &str) -> Result<(Option<String>, Option<String>), DrillError> {
    let reply: Value = serde_json::from_str(text)?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    Ok((text(&reply["id"]), text(&reply["choices"][0]["message"]["content"])))
}

/// The id and the words of a stream that came to its end; neither where it broke off.
fn streamed(text: &str) -> (Option<String>, Option<String>) {
    let (mut id, mut said, mut ended) = (None, String::new(), false);
    for event in text.split("\n\n").filter_map(|event| event.strip_prefix("data: ")) {
        if event == "[DONE]" {
            ended = true;
            continue;
        }
        let chunk: Value = serde_json::from_str(event).unwrap_or_default();
        id = id.or_else(|| chunk["id"].as_str().map(str::to_owned));
        said.push_str(chunk["choices"][0]["delta"]["content"].as_str().unwrap_or_default());
    }
    if ended { (id, Some(said)) } else { (None, None) }
}
