//! Simulated users: they speak HTTP like any application, and react like people.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use understudy_supportdesk::{Reaction, SYSTEM_PROMPT, Temper, Ticket, react};

/// Where the users' application sends its requests.
#[derive(Debug, Clone)]
pub(super) struct Application {
    agent: ureq::Agent,
    base_url: String,
    task: String,
    max_tokens: u32,
}

/// One reply as the application saw it.
#[derive(Debug, Clone)]
pub(super) struct Reply {
    pub(super) response_id: String,
    pub(super) text: String,
}

/// What happened so far, over all sessions of a phase.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) requests: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) accepted: AtomicU64,
    pub(super) edited: AtomicU64,
    pub(super) regenerated: AtomicU64,
    pub(super) abandoned: AtomicU64,
    pub(super) silent: AtomicU64,
}

/// A session still to be played, or to be finished: `replies` were given before.
#[derive(Debug, Clone)]
pub(super) struct Session {
    pub(super) name: String,
    pub(super) ticket: Ticket,
    pub(super) temper: Temper,
    pub(super) replies: Vec<Reply>,
}

impl Application {
    pub(super) fn new(base_url: String, task: &str, max_tokens: u32) -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_mins(2)))
            .http_status_as_error(false)
            .max_idle_connections_per_host(32)
            .build();
        Self { agent: config.into(), base_url, task: task.to_owned(), max_tokens }
    }

    fn ask(&self, session: &Session, attempt: u64) -> Result<Reply> {
        let body = json!({
            "model": self.task,
            "messages": [
                {"role": "system", "content": SYSTEM_PROMPT},
                {"role": "user", "content": session.ticket.text},
            ],
            "max_tokens": self.max_tokens,
            "temperature": 0,
            "seed": attempt,
            "user": format!("customer-{}", session.name),
        });
        let url = format!("{}/v1/chat/completions", self.base_url);
        let request = self.agent.post(&url).header("x-session-id", &session.name);
        let mut response = request.send_json(&body).context("failed to reach the gateway")?;
        let status = response.status();
        let reply: Value = response.body_mut().read_json().context("failed to read the reply")?;
        if !status.is_success() {
            bail!("the gateway answered {status}: {reply}");
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Ok(Reply {
            response_id: text(&reply["id"]),
            text: text(&reply["choices"][0]["message"]["content"]),
        })
    }

    fn tell(&self, outcome: &Value) -> Result<()> {
        let url = format!("{}/v1/feedback", self.base_url);
        let response = self.agent.post(&url).send_json(outcome);
        let status = response.context("failed to reach the gateway")?.status();
        if !status.is_success() {
            bail!("the gateway refused an outcome: {status}");
        }
        Ok(())
    }
}

/// Plays sessions on `threads` threads until they run out or `stop` is set.
pub(super) fn play(
    application: &Application,
    mut next: impl FnMut() -> Option<Session> + Send,
    threads: usize,
    stop: &AtomicBool,
    tally: &Tally,
) {
    let queue = Mutex::new(&mut next);
    let take = || {
        let mut next = queue.lock().unwrap_or_else(PoisonError::into_inner);
        next()
    };
    let user = || {
        while !stop.load(Ordering::Relaxed) {
            let Some(session) = take() else { break };
            if let Err(error) = play_one(application, session, tally) {
                tally.failed.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(%error, "a session failed");
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(user);
        }
    });
}

/// One session from where it stands to its outcome. Outcome ids follow from the session, so that
/// playing a session again after a crash tells nothing twice.
pub(super) fn play_one(
    application: &Application,
    mut session: Session,
    tally: &Tally,
) -> Result<()> {
    loop {
        let attempt = session.replies.len().saturating_sub(1) as u64;
        let Some(reply) = session.replies.last().cloned() else {
            ask_again(application, &mut session, 0, tally)?;
            continue;
        };
        let reaction = react(&session.ticket, &reply.text, attempt, session.temper);
        let outcome = |signal: &str| {
            json!({
                "id": format!("{}-{attempt}", session.name),
                "response_id": reply.response_id,
                "signal": signal,
            })
        };
        match reaction {
            Reaction::Accept => {
                tally.accepted.fetch_add(1, Ordering::Relaxed);
                return application.tell(&outcome("accept"));
            }
            Reaction::Edit(text) => {
                tally.edited.fetch_add(1, Ordering::Relaxed);
                let mut edit = outcome("edit");
                edit["text"] = json!(text);
                return application.tell(&edit);
            }
            Reaction::Abandon => {
                tally.abandoned.fetch_add(1, Ordering::Relaxed);
                let mut abandon = outcome("abandon");
                abandon["source"] = json!("implicit");
                return application.tell(&abandon);
            }
            Reaction::Silence => {
                tally.silent.fetch_add(1, Ordering::Relaxed);
                return Ok(());
            }
            Reaction::Regenerate => {
                tally.regenerated.fetch_add(1, Ordering::Relaxed);
                let regenerate = outcome("regenerate");
                application.tell(&regenerate)?;
                ask_again(application, &mut session, attempt + 1, tally)?;
            }
        }
    }
}

fn ask_again(
    application: &Application,
    session: &mut Session,
    attempt: u64,
    tally: &Tally,
) -> Result<()> {
    let begun = Instant::now();
    tally.requests.fetch_add(1, Ordering::Relaxed);
    let reply = application.ask(session, attempt)?;
    tracing::debug!(session = session.name, ms = begun.elapsed().as_millis() as u64, "answered");
    session.replies.push(reply);
    Ok(())
}
