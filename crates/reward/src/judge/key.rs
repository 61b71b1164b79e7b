//! The secret a judge is asked with.

use std::{env, fmt};

use crate::RewardError;

/// An API key that cannot be printed by accident.
pub(super) struct Key(String);

impl Key {
    #[cfg(test)]
    pub(super) fn new(key: &str) -> Self {
        Self(key.to_owned())
    }

    pub(super) fn from_env(variable: &str) -> Result<Self, RewardError> {
        let key = env::var(variable).unwrap_or_default();
        let key = key.trim();
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(RewardError::NoKey(variable.to_owned()));
        }
        Ok(Self(key.to_owned()))
    }

    pub(super) fn bearer(&self) -> String {
        format!("Bearer {}", self.0)
    }

    /// Providers repeat the key they refused; what they say goes into logs.
    pub(super) fn scrub(&self, text: &str) -> String {
        text.replace(&self.0, "[api key]")
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(hidden)")
    }
}
