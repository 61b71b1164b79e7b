//! Why a generation cannot be done, by what the caller can do about it.

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InferenceError {
    /// The request is wrong: change it.
    #[error("`{field}` {why}")]
    Invalid { field: &'static str, why: String },
    /// This backend cannot do what was asked; another might.
    #[error("this backend does not do {0}")]
    Unsupported(&'static str),
    /// Names the adapters that are loaded, so that a typo is seen at once.
    #[error("no adapter `{alias}` is loaded (loaded: {loaded}); load it first")]
    UnknownAdapter { alias: String, loaded: String },
    #[error("adapter `{alias}` cannot be loaded: {why}")]
    BadAdapter { alias: String, why: String },
    /// Somebody else was faster: read the alias again.
    #[error("adapter `{alias}` is {found}, not {expected}; nothing was changed")]
    AdapterChanged { alias: String, expected: String, found: String },
    /// The adapter is larger than whoever serves it allows for.
    #[error("adapter `{alias}` has rank {rank}; at most {most} is served here")]
    RankTooHigh { alias: String, rank: usize, most: usize },
    /// Unload or unpin something first.
    #[error("no room for adapter `{alias}`: {why}")]
    AdaptersFull { alias: String, why: String },
    #[error(
        "this model's maximum context length is {limit} tokens; the request asks for \
         {prompt_tokens} in the prompt and {max_tokens} in the completion"
    )]
    ContextOverflow { prompt_tokens: usize, max_tokens: usize, limit: usize },
    /// Try again later.
    #[error("{0} requests are waiting already; retry in a moment")]
    Busy(usize),
    #[error("{0} prompt tokens are waiting already; retry in a moment")]
    BusyTokens(usize),
    #[error("generation is paused; retry after it is resumed")]
    Paused,
    /// Whoever pays for it will not pay for this; the text says whose budget it is.
    #[error("{0}")]
    OverBudget(String),
    #[error(
        "this task is routed to the teacher, but no teacher is configured; set [teacher] in \
         understudy.toml"
    )]
    NoTeacher,
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
