//! Why an endpoint cannot be set up.

use std::io;

#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    #[error("`{url}` is no model endpoint: {why}; give one like https://host/v1")]
    Endpoint { url: String, why: &'static str },
    #[error("a fleet needs at least one replica; give its addresses, such as http://host:8000/v1")]
    NoReplica,
    /// The key itself is never repeated.
    #[error("the API key has characters no HTTP header may carry; check for line breaks")]
    ApiKey,
    #[error("could not start the threads that talk to {what}: {source}")]
    Threads { what: String, source: io::Error },
    #[error("no replica of {what} answers; is any of them running? The last one said: {why}")]
    Unreachable { what: String, why: String },
}
