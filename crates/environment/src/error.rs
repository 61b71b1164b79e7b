//! Why an environment cannot be used for what was asked.

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvironmentError {
    #[error("could not find an environment called `{name}`; there is {known}")]
    Unknown { name: String, known: String },
    #[error("could not start task `{task}` in `{environment}`: {why}; use tasks it made itself")]
    Task { environment: &'static str, task: String, why: String },
}
