//! Who may see a lesson, as types: a text for every user cannot be made from a user's words.
//!
//! [`DeploymentText`] and [`Declared`] have no public constructor and no `Deserialize`. The one comes
//! out of the [`crate::Sanitizer`], the other out of the [`Catalogue`], and there is no third way:
//!
//! ```compile_fail
//! let text = understudy_memory::DeploymentText("call ada@example.org".to_owned());
//! ```
//!
//! ```compile_fail
//! let text: understudy_memory::DeploymentText = serde_json::from_str("\"call ada\"").unwrap();
//! ```
//!
//! ```compile_fail
//! let item: understudy_memory::DeploymentItem = serde_json::from_str("{}").unwrap();
//! ```
//!
//! ```
//! # use understudy_memory::{Catalogue, Sanitizer, Sources};
//! let catalogue = Catalogue::default();
//! let text = Sanitizer::new(&catalogue).clean("When a call fails, try again.", &Sources::default());
//! assert_eq!(text.unwrap().as_str(), "When a call fails, try again.");
//! ```

use std::fmt;

use serde::Serialize;

use crate::{Catalogue, MemoryError, ToolIx};

/// A text that every user of a tenant may be shown.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct DeploymentText(String);

/// A text that only the user it was made for may be shown.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct UserText(String);

/// A name from the catalogue: of a tool, an argument, a declared value, an agent, a kind of task.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Declared(String);

/// What a scope is called, and how its texts come back from its own store.
pub trait Text: sealed::Sealed + Clone + fmt::Debug + PartialEq + Serialize {
    const SCOPE: &'static str;

    fn as_str(&self) -> &str;
}

impl DeploymentText {
    /// Only the sanitizer calls this.
    pub(crate) fn sanitized(text: String) -> Self {
        Self(text)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl UserText {
    /// At most 400 characters in one line, without anything that could end the block it is shown in.
    pub fn new(text: &str) -> Result<Self, MemoryError> {
        let text = text.trim();
        let refuse = |why: &str| Err(MemoryError::Text { why: why.to_owned() });
        if text.is_empty() || text.chars().count() > 400 {
            return refuse("it must have 1 to 400 characters");
        }
        if text.chars().any(char::is_control) {
            return refuse("it must be one line without control characters");
        }
        if text.to_lowercase().contains("<memory") || text.to_lowercase().contains("</memory") {
            return refuse("it must not contain the marks of a memory block");
        }
        Ok(Self(text.to_owned()))
    }
}

/// Without the words.
impl fmt::Debug for UserText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UserText({} bytes)", self.0.len())
    }
}

impl Text for DeploymentText {
    const SCOPE: &'static str = "deployment";

    fn as_str(&self) -> &str {
        &self.0
    }
}

impl Text for UserText {
    const SCOPE: &'static str = "user";

    fn as_str(&self) -> &str {
        &self.0
    }
}

impl Declared {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A name that was declared when it was stored.
    pub(crate) fn restored(text: String) -> Self {
        Self(text)
    }

    pub(crate) fn tool(catalogue: &Catalogue, tool: ToolIx) -> Self {
        Self(catalogue.schema(tool).name.clone())
    }

    pub(crate) fn agent(catalogue: &Catalogue, agent: usize) -> Option<Self> {
        catalogue.agents.get(agent).cloned().map(Self)
    }

    /// A tool, agent or kind of task by its name, if it is declared.
    pub fn find(catalogue: &Catalogue, name: &str) -> Option<Self> {
        let known = catalogue.vocabulary().contains(name);
        known.then(|| Self(name.to_owned()))
    }
}

impl fmt::Display for Declared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

pub(crate) mod sealed {
    /// Texts are made again from what a store of their own scope kept, inside this crate only.
    pub trait Sealed: Sized {
        fn restored(text: String) -> Self;
    }

    impl Sealed for super::DeploymentText {
        fn restored(text: String) -> Self {
            Self(text)
        }
    }

    impl Sealed for super::UserText {
        fn restored(text: String) -> Self {
            Self(text)
        }
    }
}
