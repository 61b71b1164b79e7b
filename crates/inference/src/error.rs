//! Why a generation cannot be done, by what the caller can do about it.

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InferenceError {
    /// The request is wrong: change it.
    #[error("`{field}` {why}")]
    Invalid { field: &'static str, why: String },
    /// Names the adapters that are loaded, so that a typo is seen at once.
    #[error("no adapter `{alias}` is loaded (loaded: {loaded}); load it first")]
    UnknownAdapter { alias: String, loaded: String },
    #[error("adapter `{alias}` cannot be loaded: {why}")]
    BadAdapter { alias: String, why: String },
    #[error("the prompt has {prompt_tokens} tokens, which leaves no room in a context of {limit}")]
    ContextOverflow { prompt_tokens: usize, limit: usize },
    /// Try again later.
    #[error("{0} requests are waiting already; retry in a moment")]
    Busy(usize),
    #[error("the backend is shutting down")]
    ShuttingDown,
    /// The upstream or the device failed: not the caller's fault.
    #[error("generation failed: {0}")]
    Failed(String),
    #[error("generation gave no answer within {0} ms")]
    TimedOut(u64),
}

impl InferenceError {
    pub fn invalid(field: &'static str, why: impl Into<String>) -> Self {
        Self::Invalid { field, why: why.into() }
    }
}
