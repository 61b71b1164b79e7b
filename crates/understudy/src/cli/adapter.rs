//! `understudy adapter …`

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Said;

#[derive(Debug, Subcommand)]
pub(crate) enum AdapterCommand {
    /// All versions of a task, or of every task
    List { task: Option<String> },
    /// One version: owner, reason, lineage, reports
    Show { version: String },
    /// What differs between two: lineage, settings, and how far every module moved
    #[command(after_help = "Example:\n  understudy adapter diff support-triage@1 support-triage@2")]
    Diff {
        /// A registered version, or a PEFT directory
        before: String,
        after: String,
    },
    /// Take a PEFT directory that was made elsewhere into the registry
    #[command(after_help = "Examples:\n  \
        understudy adapter import exported --task support-triage --reason 'from staging'\n  \
        understudy adapter import trl-output --task support-triage --reason 'trained with TRL' \\\n      \
        --dataset support-triage@9f2c…\n\n\
        One that Understudy wrote says itself what it was made of. One from elsewhere does not: it \
        is bound to the base model here, attested by it, and marked as trained elsewhere.")]
    Import(AdapterImportArgs),
    /// Copy a registered version's files out, checked: PEFT, vLLM and TRL read them as they are
    #[command(after_help = "Example:\n  understudy adapter export support-triage@2 exported")]
    Export {
        version: String,
        /// A directory that does not exist yet
        directory: PathBuf,
    },
    /// Hash the files again and compare; with a key, verify a signature over them too
    #[command(after_help = "Examples:\n  understudy adapter verify support-triage@2\n  \
        understudy adapter verify support-triage@2 --key key.pub.pem\n  \
        understudy adapter verify DIR --signature DIR.sig --key key.pub.pem")]
    Verify(AdapterVerifyArgs),
    /// Sign every file with a P-256 key, as the Python package model-signing does
    #[command(after_help = "Example:\n  \
        openssl ecparam -name prime256v1 -genkey -noout -out key.pem\n  \
        understudy adapter sign support-triage@2 --key key.pem --reason 'reviewed'")]
    Sign(AdapterSignArgs),
    /// Where a version comes from, as an in-toto statement with SLSA provenance
    #[command(after_help = "Example:\n  understudy adapter provenance support-triage@2 \
        --key key.pem --out support-triage-2.intoto.json")]
    Provenance {
        version: String,
        /// Seal the statement in a signed bundle
        #[arg(long, value_name = "PEM")]
        key: Option<PathBuf>,
        /// Write it here instead of to standard output
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Withdraw a dataset version: nothing trained on it is released any more
    #[command(after_help = "Example:\n  understudy adapter taint \
        support-triage@9f2c… --reason 'a user asked for erasure'")]
    Taint {
        /// As `understudy dataset list` shows it
        dataset: String,
        #[command(flatten)]
        said: Said,
    },
    /// Fold an adapter into its base, as a Hugging Face directory in f32
    #[command(after_help = "Example:\n  understudy adapter merge support-triage@1 --out merged")]
    Merge {
        /// A registered version, or a PEFT directory
        adapter: String,
        /// The base model, by name or path
        #[arg(long)]
        base: Option<String>,
        /// A directory that does not exist yet
        #[arg(long)]
        out: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct AdapterImportArgs {
    /// With adapter_config.json and adapter_model.safetensors
    pub(crate) directory: PathBuf,
    #[arg(long)]
    pub(crate) task: String,
    /// What it was trained on, of an adapter from elsewhere: a dataset version here, or `unknown`
    #[arg(long, value_name = "NAME@DIGEST")]
    pub(crate) dataset: Option<String>,
    /// The base model, by name or path
    #[arg(long)]
    pub(crate) base: Option<String>,
    #[command(flatten)]
    pub(crate) said: Said,
}

#[derive(Debug, Args)]
pub(crate) struct AdapterVerifyArgs {
    /// A registered version, or with --signature a directory
    pub(crate) adapter: String,
    /// The signer's public key
    #[arg(long, value_name = "PEM")]
    pub(crate) key: Option<PathBuf>,
    /// A signature in a file; without it, those that are registered
    #[arg(long, value_name = "FILE", requires = "key")]
    pub(crate) signature: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct AdapterSignArgs {
    /// A registered version, or a directory
    pub(crate) adapter: String,
    /// The private key, unencrypted
    #[arg(long, value_name = "PEM")]
    pub(crate) key: PathBuf,
    /// Write the signature here too; a directory's goes nowhere else
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    #[arg(long, env = "USER", default_value = "operator")]
    pub(crate) owner: String,
    /// Why; of a registered version only, whose signing is recorded
    #[arg(long)]
    pub(crate) reason: Option<String>,
}
