//! Lessons a person writes, rather than a job.

use understudy_ident::{Digest, Timestamp};

use crate::{
    Agreement, Catalogue, Declared, DeploymentItem, Distiller, ErrorSignature, Evidence, Item, Key,
    Kind, MemoryError, MemoryId, Pattern, Provenance, Sanitizer, Situation, Sources, Strategy,
    Tactic, Text, UserItem, UserText, heal::target_name,
};

/// A lesson in a person's words; names are looked up in the catalogue.
#[derive(Debug, Clone, Copy)]
pub struct Written<'a> {
    pub kind: Kind,
    pub agent: Option<&'a str>,
    pub intent: Option<&'a str>,
    /// All of them must be available where it is shown.
    pub tools: &'a [&'a str],
    /// A site, server or application.
    pub target: Option<&'a str>,
    pub error: Option<ErrorSignature>,
    pub situation: &'a str,
    pub strategy: &'a str,
    pub prefer: &'a [&'a str],
    pub avoid: &'a [&'a str],
    pub tactic: Option<Tactic>,
}

impl Default for Written<'_> {
    fn default() -> Self {
        Self {
            kind: Kind::Strategy,
            agent: None,
            intent: None,
            tools: &[],
            target: None,
            error: None,
            situation: "",
            strategy: "",
            prefer: &[],
            avoid: &[],
            tactic: None,
        }
    }
}

impl DeploymentItem {
    /// Through the same sanitizer as everything else that all users may see.
    pub fn written(
        written: &Written<'_>,
        catalogue: &Catalogue,
        key: &Key,
        now: Timestamp,
    ) -> Result<Self, MemoryError> {
        let sanitizer = Sanitizer::new(catalogue);
        let none = Sources::default();
        let texts =
            (sanitizer.clean(written.situation, &none)?, sanitizer.clean(written.strategy, &none)?);
        assemble(written, texts, catalogue, key, now)
    }
}

impl UserItem {
    /// Of one user, in words of any kind.
    pub fn written(
        written: &Written<'_>,
        catalogue: &Catalogue,
        key: &Key,
        now: Timestamp,
    ) -> Result<Self, MemoryError> {
        let texts = (UserText::new(written.situation)?, UserText::new(written.strategy)?);
        assemble(written, texts, catalogue, key, now)
    }
}

fn assemble<T: Text>(
    written: &Written<'_>,
    (situation, strategy): (T, T),
    catalogue: &Catalogue,
    key: &Key,
    now: Timestamp,
) -> Result<Item<T>, MemoryError> {
    let declared = |name: &str| {
        let why = || format!("it declares no tool, agent or kind of task `{name}`");
        Declared::find(catalogue, name).ok_or_else(|| MemoryError::Catalogue { why: why() })
    };
    let all =
        |names: &[&str]| names.iter().map(|name| declared(name)).collect::<Result<Vec<_>, _>>();
    let intent = written.intent.map(declared).transpose()?;
    let agent = written.agent.map(declared).transpose()?;
    let named = format!("{}\n{}", written.agent.unwrap_or(""), written.intent.unwrap_or(""));
    let mut item = Item {
        id: MemoryId::generate(),
        rev: 1,
        kind: written.kind,
        agent,
        pattern: Pattern { intent, key: key.name("pattern", &named) },
        situation: Situation {
            tools: all(written.tools)?,
            target: written.target.map(|target| target_name(target, key)),
            error: written.error,
            text: situation,
        },
        strategy: Strategy {
            text: strategy,
            prefer_tools: all(written.prefer)?,
            avoid_tools: all(written.avoid)?,
            order: Vec::new(),
            parallel: Vec::new(),
            parameters: Vec::new(),
            tactic: written.tactic,
        },
        evidence: Evidence { agreement: Agreement::Stated, ..Evidence::default() },
        provenance: Provenance {
            job: key.name("job", "by hand"),
            sources: Vec::new(),
            origins: Vec::new(),
            distiller: Distiller::Human,
        },
        tool_fingerprint: Digest::of(b""),
        valid_from: now,
        expires_at: None,
        supersedes: Vec::new(),
    };
    item.tool_fingerprint = catalogue.fingerprint(item.tools());
    Ok(item)
}
