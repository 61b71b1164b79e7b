//! In which ways a registry can have been changed behind its own back.

/// What does not fit, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Tampering {
    #[error("audit entry {seq} is not what it was when it was made")]
    Altered { seq: u64 },
    #[error("audit entry {seq} is missing")]
    Missing { seq: u64 },
    #[error("audit entry {seq} does not follow the one before it: entries changed places")]
    Reordered { seq: u64 },
    #[error("the audit chain once had {had} entries and has {has} now")]
    Truncated { had: u64, has: u64 },
    #[error("the first {entries} audit entries were written anew")]
    Rewritten { entries: u64 },
    #[error(
        "the checkpoint of {entries} entries names the key {found}, and none of those that may sign \
         has that id ({known}): the key was replaced, or the checkpoint"
    )]
    StrangeKey { entries: u64, found: String, known: String },
    #[error("the checkpoint of {entries} entries was not signed by the key {key} that it names")]
    Forged { entries: u64, key: String },
    #[error("audit entry {seq} has no readable {what}")]
    Unreadable { seq: u64, what: &'static str },
    #[error("the {table} record of {subject} is not what the audit chain says")]
    OtherRecord { table: String, subject: String },
    #[error("the {table} record of {subject} is in the audit chain only")]
    LostRecord { table: String, subject: String },
}
