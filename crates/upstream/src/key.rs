//! The secret an endpoint is asked with.

use std::fmt;

use crate::UpstreamError;

/// An API key that cannot be printed by accident.
#[derive(Clone)]
pub struct ApiKey(String);

impl ApiKey {
    /// Surrounding white space, as files and shells leave it, is not part of a key.
    pub fn parse(text: &str) -> Result<Self, UpstreamError> {
        let key = text.trim();
        let printable = key.bytes().all(|byte| byte.is_ascii_graphic());
        if key.is_empty() || !printable {
            return Err(UpstreamError::ApiKey);
        }
        Ok(Self(key.to_owned()))
    }

    pub(crate) fn bearer(&self) -> String {
        format!("Bearer {}", self.0)
    }

    /// Providers repeat the key they refused; what they say goes into logs.
    pub(crate) fn scrub(&self, text: &str) -> String {
        text.replace(&self.0, "[api key]")
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(hidden)")
    }
}
