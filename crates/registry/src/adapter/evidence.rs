//! Adding evidence about a version: that it was verified, a report, a revocation.

use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};
use understudy_ident::{AdapterVersion, Digest, Timestamp};
use understudy_manifest::{EvalReport, Tier, canonical_json, digest_json};

use super::{
    Adapter, AdapterRecord, Harm, InUse, ReportRecord, Revocation, expect, load, newest_report,
};
use crate::{
    Change, Registry, RegistryError, Status, Target, artifact,
    audit::{self, Action},
    channel, fact,
    lifecycle::VersionEvent,
    people, release,
};

/// That a version's files were read again and found as registered, and well formed.
#[derive(Debug, Serialize, Deserialize)]
struct Verification {
    version: AdapterVersion,
    generation: Digest,
    owner: String,
    reason: String,
    at: Timestamp,
}

impl Registry {
    /// Adds an evaluation report to a version's evidence; the newest one makes its status. A version
    /// that has not been verified is verified first. Attaching the newest again changes nothing.
    pub fn attach_report(
        &self,
        version: &AdapterVersion,
        report: &EvalReport,
        change: Change<'_>,
    ) -> Result<Adapter, RegistryError> {
        let digest = digest_json(report);
        if self.get(version)?.status == Status::Registered {
            // The key is of the report, whose answer it has to remember.
            self.check(version, Change { request: None, ..change })?;
        }
        self.once(change, &("report", version, digest), |transaction| {
            let adapter = load(transaction, version)?;
            check_subject(&adapter.record, report)?;
            let newest = newest_report(transaction, version)?;
            if newest.is_some_and(|newest| newest.digest == digest) {
                return Ok(adapter);
            }
            let passed = report.decision.passed;
            let event = if passed { VersionEvent::Pass } else { VersionEvent::Fail };
            people::allow(transaction, change, event.transition().who, "attach a report")?;
            expect(&adapter, event)?;
            let record = ReportRecord {
                version: version.clone(),
                digest,
                report: report.clone(),
                champion: channel::stable(transaction, &version.task)?,
                owner: change.owner.to_owned(),
                reason: change.reason.to_owned(),
                attached_at: change.now(),
            };
            let text = canonical_json(&record);
            transaction.execute(
                "INSERT INTO report (task, number, record) VALUES (?1, ?2, ?3)",
                params![version.task.as_str(), version.number.get(), text],
            )?;
            let subject = version.to_string();
            audit::append(transaction, Action::Report, &version.task, &subject, text, change)?;
            load(transaction, version)
        })
    }

    /// Reads a version's files again and records that they are what was registered, that the weights'
    /// header is sound, and that a signature the task asks for is there. Once is enough.
    pub fn check(
        &self,
        version: &AdapterVersion,
        change: Change<'_>,
    ) -> Result<Adapter, RegistryError> {
        let directory = self.verify(version)?;
        if self.get(version)?.record.lineage.adapter().is_some() {
            artifact::check_header(&directory)?;
        }
        self.once(change, &("verify", version), |transaction| {
            let adapter = load(transaction, version)?;
            if adapter.status != Status::Registered {
                return Ok(adapter);
            }
            let who = VersionEvent::Verify.transition().who;
            people::allow(transaction, change, who, "verify a version")?;
            if let Some(why) = self.unsigned(transaction, version)? {
                return Err(RegistryError::SignatureWanted { version: version.clone(), why });
            }
            let record = Verification {
                version: version.clone(),
                generation: adapter.record.generation,
                owner: change.owner.to_owned(),
                reason: change.reason.to_owned(),
                at: change.now(),
            };
            let (task, subject) = (Some(&version.task), version.to_string());
            fact::add(transaction, Action::Verify, task, &subject, &record, change)?;
            load(transaction, version)
        })
    }

    /// Declares that a version may never be released again. One that serves or is being released is
    /// refused or taken off first, as asked. Revoking twice changes nothing.
    pub fn revoke(
        &self,
        version: &AdapterVersion,
        harm: Harm,
        in_use: InUse,
        change: Change<'_>,
    ) -> Result<Adapter, RegistryError> {
        self.once(change, &("revoke", version, harm, in_use), |transaction| {
            let adapter = load(transaction, version)?;
            if adapter.status == Status::Revoked {
                return Ok(adapter);
            }
            let who = VersionEvent::Revoke.transition().who;
            people::allow(transaction, change, who, "revoke a version")?;
            if in_use == InUse::RollBack {
                self.take_off_everywhere(transaction, version, change)?;
            }
            refuse_in_use(transaction, version, "revoke")?;
            let text = canonical_json(&Revocation {
                version: version.clone(),
                harm: Some(harm),
                owner: change.owner.to_owned(),
                reason: change.reason.to_owned(),
                revoked_at: change.now(),
            });
            transaction.execute(
                "INSERT INTO revocation (task, number, record) VALUES (?1, ?2, ?3)",
                params![version.task.as_str(), version.number.get(), text],
            )?;
            let subject = version.to_string();
            audit::append(transaction, Action::Revoke, &version.task, &subject, text, change)?;
            load(transaction, version)
        })
    }
}

/// Whether a version has been verified.
pub(super) fn is_verified(
    connection: &Connection,
    version: &AdapterVersion,
) -> Result<bool, RegistryError> {
    let subject = version.to_string();
    let checks: Vec<Verification> = fact::about(connection, Action::Verify, &subject)?;
    Ok(!checks.is_empty())
}

/// A report names the content it was measured on, and that must be this version's; the cases must be
/// such that nobody tuned the version on them.
fn check_subject(adapter: &AdapterRecord, report: &EvalReport) -> Result<(), RegistryError> {
    if report.tier == Tier::Dev {
        let (version, suite) = (adapter.version.clone(), report.suite.clone());
        return Err(RegistryError::DevReport { version, suite });
    }
    let candidate = report.comparisons.first().map(|comparison| &comparison.candidate);
    let subject = report.subjects.iter().find(|subject| Some(&subject.name) == candidate);
    let measured = subject.and_then(|subject| subject.generation.as_deref());
    let expected = adapter.generation;
    if measured == Some(expected.to_hex().as_str()) {
        return Ok(());
    }
    let found = measured.unwrap_or("that is not named").to_owned();
    Err(RegistryError::OtherReport { version: adapter.version.clone(), expected, found })
}

pub(crate) fn refuse_in_use(
    connection: &Connection,
    version: &AdapterVersion,
    command: &'static str,
) -> Result<(), RegistryError> {
    let in_use = |how: String| RegistryError::InUse { command, version: version.clone(), how };
    if channel::stable(connection, &version.task)? == Some(Target::Adapter(version.clone())) {
        return Err(in_use(format!("it serves `{}`", version.task)));
    }
    match release::open_release(connection, &version.task)? {
        Some(open) if open.candidate == *version => {
            Err(in_use(format!("release {} is taking it to users", open.id)))
        }
        _ => Ok(()),
    }
}
