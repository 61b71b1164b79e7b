//! Where a model is and how patient to be with it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

use crate::{ApiKey, BreakerRules, Dialect, TokenLimitField};

/// One model, at one address or at several that serve the same.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// What it is to us, in errors: `the teacher`, `the student`.
    pub role: &'static str,
    /// Each up to and without `/chat/completions`: `https://host/v1`.
    pub urls: Vec<String>,
    /// The model's name there.
    pub model: String,
    pub api_key: Option<ApiKey>,
    pub dialect: Dialect,
    pub limit_field: TokenLimitField,
    /// How many requests may be under way at once, over all replicas.
    pub concurrency: usize,
    /// How many more may wait.
    pub waiting: usize,
    pub timeouts: Timeouts,
    /// How often a request is sent at most, the first time included.
    pub attempts: u32,
    pub replay: Replay,
    /// Another replica is asked as well when the first has not begun to answer by then. Of all
    /// requests, at most one in ten is sent twice.
    pub hedge_after: Option<Duration>,
    pub breaker: BreakerRules,
    /// Who talks to it: threads that ask and never wait for an answer themselves, which saves two
    /// changes of threads a request. It has some of its own otherwise.
    pub threads: Option<Handle>,
}

/// How long to wait for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    pub connect: Duration,
    /// From sending the request to the first token.
    pub first_token: Duration,
    /// The longest silence after it.
    pub between_tokens: Duration,
    pub total: Duration,
}

/// When a request that was sent may be sent again. One that was not taken up always may.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Replay {
    Never,
    /// Where the answer was an error of the server (5xx): it says that nothing was generated.
    #[default]
    Errors,
    /// Also where nobody knows: after silence or a lost connection. It may then be generated, and
    /// paid for, twice.
    Always,
}

impl Endpoint {
    /// A model somebody else runs: 64 requests at once, 256 waiting; three attempts, and none after
    /// an uncertain one.
    pub fn new(url: impl Into<String>, model: impl Into<String>, api_key: Option<ApiKey>) -> Self {
        Self {
            role: "the teacher",
            urls: vec![url.into()],
            model: model.into(),
            api_key,
            dialect: Dialect::OpenAi,
            limit_field: TokenLimitField::default(),
            concurrency: 64,
            waiting: 256,
            timeouts: Timeouts {
                connect: Duration::from_secs(10),
                first_token: Duration::from_mins(1),
                between_tokens: Duration::from_mins(1),
                total: Duration::from_mins(5),
            },
            attempts: 3,
            replay: Replay::Errors,
            hedge_after: None,
            breaker: BreakerRules::default(),
            threads: None,
        }
    }

    /// Servers of our own: what is uncertain is asked of another, and silence of two seconds as well.
    pub fn fleet(urls: Vec<String>, model: impl Into<String>, api_key: Option<ApiKey>) -> Self {
        let one = Self::new("", model, api_key);
        Self {
            role: "the student",
            urls,
            dialect: Dialect::Vllm,
            concurrency: 256,
            waiting: 1024,
            timeouts: Timeouts { connect: Duration::from_secs(2), ..one.timeouts },
            replay: Replay::Always,
            hedge_after: Some(Duration::from_secs(2)),
            ..one
        }
    }
}
