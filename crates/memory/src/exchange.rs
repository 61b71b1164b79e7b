//! Lessons as lines of JSON, out of one memory and into another.
//!
//! An import is no back door: what comes in passes everything a job's lessons pass, is proposed
//! like them, and waits for the same person. Nothing of it is believed but its numbers.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use understudy_ident::Timestamp;
use understudy_inference::Embedder;

use crate::{
    By, Catalogue, Declared, Deployment, DeploymentItem, DeploymentStore, DeploymentText,
    Distiller, Item, Key, Keyed, Kind, MemoryError, MemoryId, Proposed, Sanitizer, Shape, Sources,
    Status, TenantId, Text, Transcript,
};

const SCHEMA: u32 = 1;
/// A lesson is no script.
const MAX_ORDER: usize = 4;

#[derive(Serialize)]
struct Line<'a> {
    schema: u32,
    scope: &'static str,
    tenant: &'a TenantId,
    /// Equal where places, failures and sources have the same names.
    key: Keyed,
    /// Where it stood; an import begins anew.
    status: Status,
    lesson: &'a DeploymentItem,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    schema: u32,
    #[expect(
        dead_code,
        reason = "read before the rest, so that a user's lesson is refused as one"
    )]
    scope: String,
    tenant: String,
    key: Keyed,
    #[expect(dead_code, reason = "an imported lesson is proposed, wherever it stood")]
    status: Status,
    lesson: Item<String, String>,
}

/// A line that was not taken, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// From 1.
    pub line: usize,
    pub why: String,
}

/// A lesson that was taken, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Taken {
    pub lesson: MemoryId,
    /// `None` where exactly this revision was here already.
    #[serde(flatten)]
    pub became: Option<Proposed>,
}

/// What is imported, checked and not yet proposed.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Import {
    pub items: Vec<DeploymentItem>,
    pub refused: Vec<Refused>,
}

impl DeploymentStore {
    /// Every lesson of a status, or all that are not retired, one a line, oldest first.
    pub fn export(
        &self,
        tenant: &TenantId,
        status: Option<Status>,
        now: Timestamp,
    ) -> Result<Vec<String>, MemoryError> {
        let mut all = self.all(now)?;
        all.retain(|kept| match status {
            Some(status) => kept.status == status,
            None => kept.status != Status::Retired,
        });
        let line = |kept: &crate::Kept<DeploymentText>| {
            let line = Line {
                schema: SCHEMA,
                scope: DeploymentText::SCOPE,
                tenant,
                key: own_name(self.key()),
                status: kept.status,
                lesson: &kept.item,
            };
            Ok(serde_json::to_string(&line)?)
        };
        all.iter().map(line).collect()
    }

    /// Reads an export line by line, and says of every line that may not come in why.
    pub fn read_export(
        &self,
        text: &str,
        deployment: &Deployment,
        sources: &Sources,
        now: Timestamp,
    ) -> Result<Import, MemoryError> {
        let mut import = Import::default();
        let mut seen = BTreeSet::new();
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        for (at, line) in lines {
            let item = read_line(line, deployment, self.key(), sources);
            match item.and_then(|item| self.fits(item, &mut seen, now)) {
                Ok(item) => import.items.push(item),
                Err(MemoryError::Import { why }) => {
                    import.refused.push(Refused { line: at + 1, why });
                }
                Err(error) => {
                    import.refused.push(Refused { line: at + 1, why: error.to_string() });
                }
            }
        }
        Ok(import)
    }

    /// Proposes what was read; a lesson that is here in the same revision stays where it stands.
    pub fn import(
        &self,
        import: Import,
        embedder: &dyn Embedder,
        by: &By,
    ) -> Result<Vec<Taken>, MemoryError> {
        let take = |item: DeploymentItem| {
            let lesson = item.id.clone();
            let known = self.get(&lesson, by.at).is_ok();
            let became = if known { None } else { Some(self.propose(item, embedder, by)?) };
            Ok(Taken { lesson, became })
        };
        import.items.into_iter().map(take).collect()
    }

    /// Whether the memory as it is has a place for a lesson.
    fn fits(
        &self,
        item: DeploymentItem,
        seen: &mut BTreeSet<MemoryId>,
        now: Timestamp,
    ) -> Result<DeploymentItem, MemoryError> {
        let id = &item.id;
        if !seen.insert(id.clone()) {
            return refuse(format!("{id} is in the file twice"));
        }
        if self.was_forgotten(id)? {
            return refuse(format!("{id} was forgotten here, and stays so"));
        }
        self.may_join(&item, now)?;
        match self.get(id, now) {
            Ok(kept) if kept.item != item => refuse(format!(
                "{id} is here already, as revision {} with other content; forget that one first, or \
                 propose this one anew with `understudy memory propose`",
                kept.item.rev
            )),
            Ok(_) | Err(MemoryError::Unknown { .. }) => Ok(item),
            Err(error) => Err(error),
        }
    }
}

impl Sources {
    /// What anybody said in a run, blocks of lessons aside.
    pub fn of_transcript(transcript: &Transcript) -> Self {
        Self::of(&transcript.contents())
    }
}

fn refuse<T>(why: impl Into<String>) -> Result<T, MemoryError> {
    Err(MemoryError::Import { why: why.into() })
}

/// Tells one memory's keyed names from another's, and nothing of the key.
fn own_name(key: &Key) -> Keyed {
    key.name("export", "key")
}

fn read_line(
    line: &str,
    deployment: &Deployment,
    key: &Key,
    sources: &Sources,
) -> Result<DeploymentItem, MemoryError> {
    let value: Value =
        serde_json::from_str(line).or_else(|why| refuse(format!("no JSON: {why}")))?;
    match value.get("scope").and_then(Value::as_str) {
        Some(scope) if scope == DeploymentText::SCOPE => {}
        Some("user") => {
            return refuse(
                "it is a user's own lesson, and those never leave their user: send it to \
                 POST /v1/memory/mine with that user's key",
            );
        }
        _ => {
            return refuse(
                "it is no line of `understudy memory export`: `scope` is not \"deployment\"",
            );
        }
    }
    let given: Given =
        serde_json::from_value(value).or_else(|why| refuse(format!("not understood: {why}")))?;
    if given.schema != SCHEMA {
        return refuse(format!("schema {} is not known here, only {SCHEMA}", given.schema));
    }
    if given.tenant != deployment.tenant.as_str() {
        return refuse(format!(
            "it belongs to tenant `{}`, and this memory to `{}`: tenants never meet",
            given.tenant, deployment.tenant
        ));
    }
    let mut lesson =
        if given.key == own_name(key) { given.lesson } else { renamed(given.lesson, key)? };
    check(&lesson, &deployment.catalogue)?;
    let sanitizer = Sanitizer::new(&deployment.catalogue);
    for text in [&mut lesson.situation.text, &mut lesson.strategy.text] {
        sanitizer.clean(text, sources)?.as_str().clone_into(text);
    }
    // Texts and names have just passed what those of a job pass.
    Ok(lesson.map(DeploymentText::sanitized, Declared::restored))
}

/// A lesson of a memory with another key: what was named by that key means nothing here.
fn renamed(
    mut lesson: Item<String, String>,
    key: &Key,
) -> Result<Item<String, String>, MemoryError> {
    let situation = &lesson.situation;
    let by_tools =
        lesson.pattern.intent.is_none() && lesson.provenance.distiller != Distiller::Human;
    if situation.target.is_some() || situation.error.is_some() || by_tools {
        return refuse(
            "it names a place, a failure or a kind of task by the key of the memory it comes from, \
             and this memory has another: propose it anew with `understudy memory propose`",
        );
    }
    let agent = lesson.agent.as_deref().unwrap_or("");
    let named = format!("{agent}\n{}", lesson.pattern.intent.as_deref().unwrap_or(""));
    lesson.pattern.key = key.name("pattern", &named);
    // The traces behind it cannot be found from here, whoever asks.
    lesson.provenance.sources.clear();
    lesson.provenance.origins.clear();
    Ok(lesson)
}

/// That everything it names is declared here, and still means what it meant.
fn check(lesson: &Item<String, String>, catalogue: &Catalogue) -> Result<(), MemoryError> {
    if lesson.rev == 0 {
        return refuse("its revision is 0; the first one is 1");
    }
    if lesson.kind == Kind::Preference {
        return refuse("a preference is a user's own, and no lesson for everybody");
    }
    if lesson.strategy.order.len() > MAX_ORDER {
        return refuse("it orders more than four tools: a lesson is narrow, and no script");
    }
    if let Some(tool) = lesson.tools().into_iter().find(|tool| catalogue.tool(tool).is_none()) {
        return refuse(format!("memory.toml declares no tool `{tool}`"));
    }
    if let Some(agent) = lesson.agent.as_deref().filter(|name| catalogue.agent(name).is_none()) {
        return refuse(format!("memory.toml declares no agent `{agent}`"));
    }
    let intent = lesson.pattern.intent.as_deref();
    if let Some(intent) = intent.filter(|name| catalogue.intent(name).is_none()) {
        return refuse(format!("memory.toml declares no kind of task `{intent}`"));
    }
    for parameter in &lesson.strategy.parameters {
        let (tool, name) = (&parameter.tool, &parameter.key);
        let argument = catalogue
            .tool(tool)
            .and_then(|tool| Some(catalogue.argument(tool, catalogue.key(tool, name)?)));
        let Some(argument) = argument else {
            return refuse(format!("memory.toml declares no argument `{name}` of `{tool}`"));
        };
        if matches!(parameter.shape, Shape::Declared(at) if usize::from(at) >= argument.values.len())
        {
            return refuse(format!("`{name}` of `{tool}` has fewer declared values here"));
        }
    }
    if lesson.tool_fingerprint != catalogue.fingerprint(lesson.tools()) {
        return refuse(
            "the schemas of its tools are not those it was learnt with, so it may be wrong here",
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests;
