//! `understudy audit …`

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Every entry, oldest first
    Show { task: Option<String> },
    /// Recompute the hash chain and compare it with every table
    #[command(after_help = "Examples:\n  understudy audit verify\n  \
        understudy audit verify --public-key audit.pub.pem\n  \
        understudy audit verify --checkpoint kept-elsewhere --public-key audit.pub.pem\n  \
        understudy audit verify --file audit.jsonl\n\n\
        Exit codes: 0 whole; 1 changed; 2 bad input")]
    Verify(AuditVerifyArgs),
    /// The chain in the form that is hashed, a line of JSON each
    #[command(after_help = "Example:\n  understudy audit export --out audit.jsonl")]
    Export {
        /// Begin with this entry; what does not begin with the first cannot be verified alone
        #[arg(long, value_name = "NUMBER", default_value_t = 0)]
        since: u64,
        /// Write it here instead of to standard output
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Sign how long the chain is and what its head hashes to
    #[command(after_help = "Example:\n  \
        openssl genpkey -algorithm ed25519 -out .understudy/audit.pem\n  \
        understudy audit checkpoint --out kept-elsewhere")]
    Checkpoint {
        /// A private Ed25519 key [default: audit.pem in the data directory]
        #[arg(long, value_name = "PEM")]
        key: Option<PathBuf>,
        /// Write the note here too
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct AuditVerifyArgs {
    /// A checkpoint that was kept elsewhere
    #[arg(long, value_name = "FILE")]
    pub(crate) checkpoint: Option<PathBuf>,
    /// Whose every checkpoint must be, that one and those in the registry; once for each key that
    /// ever signed [default: that of audit.pem in the data directory]
    #[arg(long, value_name = "PEM")]
    pub(crate) public_key: Vec<PathBuf>,
    /// Verify an exported chain instead of the registry's
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}
