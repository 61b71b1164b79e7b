//! A frontier model behind any OpenAI-compatible chat endpoint.

mod exchange;
mod sse;
mod wire;

use std::{fmt, ops::ControlFlow, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use understudy_inference::{Backend, Event, GenerateRequest, InferenceError, Sink};

use crate::{ApiKey, TeacherError, pool::Pool, refuse, stopwatch::Stopwatch};
use exchange::Exchange;

/// Where the teacher is and how long to wait for it.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Up to and without `/chat/completions`: `https://host/v1`.
    pub url: String,
    /// The model's name there.
    pub model: String,
    pub api_key: Option<ApiKey>,
    pub limit_field: TokenLimitField,
    /// How many requests may be under way at once.
    pub concurrency: usize,
    /// How many more may wait.
    pub waiting: usize,
    pub connect_timeout: Duration,
    /// The longest silence, also before the first byte.
    pub idle_timeout: Duration,
    pub total_timeout: Duration,
}

/// What the endpoint calls the limit on completion tokens: newer OpenAI models refuse the name
/// that every other server knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenLimitField {
    #[default]
    MaxTokens,
    MaxCompletionTokens,
}

impl Endpoint {
    /// Four requests at once, 64 waiting; 10 s to connect, 60 s of silence, 5 min in all.
    pub fn new(url: impl Into<String>, model: impl Into<String>, api_key: Option<ApiKey>) -> Self {
        Self {
            url: url.into(),
            model: model.into(),
            api_key,
            limit_field: TokenLimitField::default(),
            concurrency: 4,
            waiting: 64,
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_mins(1),
            total_timeout: Duration::from_mins(5),
        }
    }
}

/// A remote teacher. Requests wait in a bounded queue for one of a few threads; answers stream.
pub struct OpenAiTeacher {
    exchange: Arc<Exchange>,
    pool: Pool,
}

impl OpenAiTeacher {
    /// Checks the endpoint's form and starts the threads; sends nothing.
    pub fn new(endpoint: Endpoint) -> Result<Self, TeacherError> {
        let pool = Pool::start(endpoint.concurrency, endpoint.waiting)?;
        Ok(Self { exchange: Arc::new(Exchange::new(endpoint)?), pool })
    }
}

impl fmt::Debug for OpenAiTeacher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenAiTeacher")
            .field("endpoint", self.exchange.endpoint())
            .finish_non_exhaustive()
    }
}

impl Backend for OpenAiTeacher {
    fn base(&self) -> &str {
        &self.exchange.endpoint().model
    }

    fn submit(&self, request: GenerateRequest, mut sink: Sink) -> Result<(), InferenceError> {
        refuse::remote(&request)?;
        let exchange = Arc::clone(&self.exchange);
        let (closing, mut watch) = (self.pool.closing(), Stopwatch::start());
        self.pool.submit(Box::new(move || {
            watch.begin();
            let answered = exchange.answer(&request, &closing, watch, &mut sink);
            let last = match answered {
                Ok(ControlFlow::Continue(completion)) => Event::Finished(Box::new(completion)),
                Ok(ControlFlow::Break(())) => return,
                Err(error) => Event::Failed(error),
            };
            let _: ControlFlow<()> = sink(last);
        }))
    }
}
