//! Changes of lessons: proposed, reviewed, suspended, retired, and what the rules do by themselves.

use std::collections::BTreeSet;

use understudy_ident::{Timestamp, TrajectoryId};
use understudy_inference::Embedder;

use super::{By, Entry, Partition};
use crate::{
    Catalogue, Consequence, DeploymentText, Distiller, Item, Kept, Keyed, Kind, MemoryError,
    MemoryId, Operation, Sanitizer, Status, Text, UserText, effect::fade, scope::Declared,
    select::dot, words::numbers,
};

/// Situations this close, with strategies as close as the next number says, are one lesson.
const SAME_SITUATION: f32 = 0.85;
const SAME_STRATEGY: f32 = 0.9;

/// What became of a proposal.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "proposed", rename_all = "snake_case")]
pub enum Proposed {
    New {
        id: MemoryId,
    },
    /// The lesson was known: it has another revision, with the evidence of both.
    Merged {
        into: MemoryId,
    },
    /// It says the opposite of another one: neither may be active until one is retired.
    Conflicting {
        id: MemoryId,
        with: MemoryId,
    },
    /// It says what was retired for what it is, and was not added.
    Settled {
        by: MemoryId,
        reason: String,
    },
}

/// Why time alone retires a lesson. It may be learnt anew.
const EXPIRED: &str = "it expired";
const UNUSED: &str = "no request came near it for too long";

impl<T: Text> Partition<T> {
    /// Adds a lesson as proposed, unless it is one that is known.
    pub fn propose(
        &self,
        item: Item<T>,
        embedder: &dyn Embedder,
        by: &By,
    ) -> Result<Proposed, MemoryError> {
        let mut others: Vec<Kept<T>> = self.all(by.at)?;
        others.retain(|kept| kept.item.pattern == item.pattern);
        let (retired, others): (Vec<_>, Vec<_>) =
            others.into_iter().partition(|kept| kept.status == Status::Retired);
        // A person may say again what was taken out; a job may not, week after week.
        if item.provenance.distiller != Distiller::Human {
            for other in retired {
                if let Some(reason) = self.retired_for_good(&other.item.id)?
                    && alike(&other.item, &item, embedder)?
                {
                    return Ok(Proposed::Settled { by: other.item.id, reason });
                }
            }
        }
        let mut conflict = None;
        for other in others {
            if contradict(&other.item, &item) {
                conflict = Some(other.item.id.clone());
            } else if alike(&other.item, &item, embedder)? {
                let into = other.item.id.clone();
                let merged = merged(other.item, item);
                self.operate(Some(&into), &Operation::Revise, Some(&merged), by)?;
                return Ok(Proposed::Merged { into });
            }
        }
        let id = item.id.clone();
        self.operate(Some(&id), &Operation::Add, Some(&item), by)?;
        let Some(with) = conflict else { return Ok(Proposed::New { id }) };
        let operation = Operation::Conflict { other: with.clone() };
        self.operate(Some(&id), &operation, None, by)?;
        if self.get(&with, by.at)?.status == Status::Active {
            let by = By::rule("a new lesson says the opposite", by.at);
            self.operate(Some(&with), &Operation::Suspend, None, &by)?;
        }
        Ok(Proposed::Conflicting { id, with })
    }

    /// Why a lesson was retired, unless time alone did it.
    fn retired_for_good(&self, id: &MemoryId) -> Result<Option<String>, MemoryError> {
        let rows = self.history(Some(id))?.into_iter().rev();
        let last = rows.into_iter().find(|entry| entry.operation == Operation::Retire);
        let by_time = [EXPIRED, UNUSED].map(|reason| By::rule(reason, Timestamp::UNIX_EPOCH));
        let of_itself = |entry: &Entry| {
            !by_time.iter().any(|by| (&by.owner, &by.reason) == (&entry.actor, &entry.reason))
        };
        Ok(last.filter(of_itself).map(|entry| entry.reason))
    }

    /// Says that two lessons are not the same, for good.
    pub fn keep_apart(&self, one: &MemoryId, other: &MemoryId, by: &By) -> Result<(), MemoryError> {
        self.get(other, by.at)?;
        self.get(one, by.at)?;
        self.operate(Some(one), &Operation::Keep { other: other.clone() }, None, by)
    }

    pub fn suspend(&self, id: &MemoryId, by: &By) -> Result<(), MemoryError> {
        let allowed = [Status::Proposed, Status::Validated, Status::Active];
        self.change(id, &Operation::Suspend, &allowed, by)
    }

    /// For good: a retired lesson is kept for the record and never retrieved.
    pub fn retire(&self, id: &MemoryId, by: &By) -> Result<(), MemoryError> {
        let allowed = [Status::Proposed, Status::Validated, Status::Active, Status::Suspended];
        self.change(id, &Operation::Retire, &allowed, by)
    }

    pub(crate) fn change(
        &self,
        id: &MemoryId,
        operation: &Operation,
        from: &[Status],
        by: &By,
    ) -> Result<(), MemoryError> {
        let status = self.get(id, by.at)?.status;
        if !from.contains(&status) {
            let op = operation.name();
            return Err(MemoryError::WrongStatus { op, id: id.clone(), status });
        }
        self.operate(Some(id), operation, None, by)
    }

    /// What time alone does: lessons that expired or that nobody was shown for long are retired,
    /// those whose tools changed are suspended, and those too many are proposed for retirement by
    /// suspending the least useful.
    pub fn sweep(
        &self,
        catalogue: &Catalogue,
        now: Timestamp,
    ) -> Result<Vec<Consequence>, MemoryError> {
        let mut done = Vec::new();
        let unused_days = self.settings.counters.unused_days;
        for kept in self.all(now)? {
            let id = &kept.item.id;
            let idle = now.as_second() - kept.last_used.unwrap_or(kept.since).as_second();
            let unused = idle as f64 / 86_400.0 > unused_days;
            let changed = catalogue.fingerprint(kept.item.tools()) != kept.item.tool_fingerprint;
            let expired = kept.item.expires_at.is_some_and(|end| end <= now);
            let (operation, reason) = match kept.status {
                Status::Retired => continue,
                _ if expired => (Operation::Retire, EXPIRED),
                Status::Active if unused => (Operation::Retire, UNUSED),
                Status::Active | Status::Validated if changed && !kept.item.tools().is_empty() => {
                    (Operation::Suspend, "the tools it names have changed since it was learnt")
                }
                _ => continue,
            };
            done.push(self.decide(id, &operation, reason, now)?);
        }
        done.extend(self.hold_caps(now)?);
        Ok(done)
    }

    /// Suspends the least useful active lessons of whoever has too many.
    fn hold_caps(&self, now: Timestamp) -> Result<Vec<Consequence>, MemoryError> {
        let mut active: Vec<Kept<T>> = self.all(now)?;
        active.retain(|kept| kept.status == Status::Active);
        let half_life = self.settings.counters.half_life_days;
        let usefulness = |kept: &Kept<T>| {
            let used = kept.last_used.map_or(0.0, |at| fade(at, now, half_life));
            (1.0 + kept.effect.mean) * (0.1 + used)
        };
        active.sort_by(|a, b| usefulness(b).total_cmp(&usefulness(a)));
        let caps = &self.settings.caps;
        let user = T::SCOPE == UserText::SCOPE;
        let mut counts: std::collections::BTreeMap<String, usize> =
            std::collections::BTreeMap::new();
        let mut done = Vec::new();
        for kept in active {
            let agent = kept.item.agent.as_ref().map(Declared::as_str).unwrap_or_default();
            let limits = if user {
                vec![("user".to_owned(), caps.per_user)]
            } else {
                vec![
                    (format!("agent {agent}"), caps.per_agent),
                    (format!("pattern {}", kept.item.pattern.key), caps.per_pattern),
                ]
            };
            let full = limits
                .iter()
                .any(|(name, cap)| counts.get(name).copied().unwrap_or_default() >= *cap);
            if full {
                let reason = "there are too many lessons and this one is of the least use";
                done.push(self.decide(&kept.item.id, &Operation::Suspend, reason, now)?);
            } else {
                for (name, _) in limits {
                    *counts.entry(name).or_default() += 1;
                }
            }
        }
        Ok(done)
    }

    fn decide(
        &self,
        id: &MemoryId,
        operation: &Operation,
        reason: &str,
        now: Timestamp,
    ) -> Result<Consequence, MemoryError> {
        self.operate(Some(id), operation, None, &By::rule(reason, now))?;
        let status =
            if *operation == Operation::Retire { Status::Retired } else { Status::Suspended };
        Ok(Consequence { item: id.clone(), status, reason: reason.to_owned() })
    }
}

impl Partition<DeploymentText> {
    /// Says that a person read a lesson and finds it fit for release.
    ///
    /// Refused while too few users and episodes stand behind it, and while it contradicts another.
    pub fn validate(&self, id: &MemoryId, by: &By) -> Result<(), MemoryError> {
        self.is_ready(id, by)?;
        self.change(id, &Operation::Validate, &[Status::Proposed], by)
    }

    /// Has a suspended lesson released again, as one that a person read. The same is asked of it as of
    /// any other: it may have been suspended before anybody approved it.
    pub fn restore(&self, id: &MemoryId, by: &By) -> Result<(), MemoryError> {
        if self.get(id, by.at)?.status == Status::Suspended {
            self.is_ready(id, by)?;
        }
        self.change(id, &Operation::Restore, &[Status::Suspended], by)
    }

    fn is_ready(&self, id: &MemoryId, by: &By) -> Result<(), MemoryError> {
        let kept = self.get(id, by.at)?;
        let selection = &self.settings.selection;
        let evidence = &kept.item.evidence;
        let not_ready = |why: String| Err(MemoryError::NotReady { id: id.clone(), why });
        // What an operator wrote came from nobody's request.
        let learnt = kept.item.provenance.distiller != Distiller::Human;
        let crowd = evidence.users >= selection.min_users as u64
            && evidence.episodes >= selection.min_episodes as u64;
        if learnt && !crowd {
            return not_ready(format!(
                "{} episodes of {} users stand behind it, and {} of {} are needed so that it points \
                 at nobody",
                evidence.episodes, evidence.users, selection.min_episodes, selection.min_users
            ));
        }
        if let Some(other) = kept.conflicts_with.first() {
            return not_ready(format!("it contradicts {other}; retire one of the two"));
        }
        Ok(())
    }

    /// Has every active lesson of an agent measured anew, because the agent got other weights: they
    /// may know by now what it says. Returns which.
    pub fn rescore(
        &self,
        agent: &str,
        (version, promoted): (&str, Timestamp),
        at: Timestamp,
    ) -> Result<Vec<MemoryId>, MemoryError> {
        let mut of_agent = self.all(at)?;
        of_agent.retain(|kept| {
            let own = kept.item.agent.as_ref().is_some_and(|own| own.as_str() == agent);
            // What became active later was never measured under other weights.
            kept.status == Status::Active && own && kept.since <= promoted
        });
        let by = By::rule(&format!("{version} was promoted"), at);
        for kept in &of_agent {
            let operation = Operation::Rescore { version: version.to_owned() };
            self.operate(Some(&kept.item.id), &operation, None, &by)?;
        }
        Ok(of_agent.into_iter().map(|kept| kept.item.id).collect())
    }

    /// Suspends what runs have taught that are no more. Returns which lessons.
    pub fn suspend_taught_by(
        &self,
        sources: &[TrajectoryId],
        by: &By,
    ) -> Result<Vec<MemoryId>, MemoryError> {
        let gone: BTreeSet<Keyed> =
            sources.iter().map(|source| self.key.name("source", source.as_str())).collect();
        let mut taught = self.all(by.at)?;
        taught.retain(|kept| {
            let in_force = !matches!(kept.status, Status::Suspended | Status::Retired);
            in_force && gone.iter().any(|source| kept.item.provenance.is_of(source))
        });
        for kept in &taught {
            self.suspend(&kept.item.id, by)?;
        }
        Ok(taught.into_iter().map(|kept| kept.item.id).collect())
    }

    /// Approves a word for texts that every user may be shown.
    pub fn approve_term(
        &self,
        word: &str,
        catalogue: &Catalogue,
        by: &By,
    ) -> Result<(), MemoryError> {
        Sanitizer::new(catalogue).approvable(word)?;
        self.operate(None, &Operation::Approve { term: word.to_lowercase() }, None, by)
    }
}

impl Partition<UserText> {
    /// A user's own lesson is active as soon as its user says so, and lives on from then.
    pub fn confirm(&self, id: &MemoryId, by: &By) -> Result<(), MemoryError> {
        let kept = self.get(id, by.at)?;
        if !matches!(kept.status, Status::Proposed | Status::Suspended | Status::Active) {
            let (op, status) = ("confirm", kept.status);
            return Err(MemoryError::WrongStatus { op, id: id.clone(), status });
        }
        let seconds = by.at.as_second() + self.settings.caps.user_days * 86_400;
        let expires_at = Timestamp::from_second(seconds).ok();
        let rev = kept.item.rev + 1;
        let item = Item { rev, expires_at, ..kept.item };
        self.operate(Some(id), &Operation::Revise, Some(&item), by)?;
        self.operate(Some(id), &Operation::Activate, None, by)
    }

    /// Replaces the text of a lesson of one's own.
    pub fn rewrite(&self, id: &MemoryId, strategy: UserText, by: &By) -> Result<(), MemoryError> {
        let mut item = self.get(id, by.at)?.item;
        item.rev += 1;
        item.strategy.text = strategy;
        self.operate(Some(id), &Operation::Revise, Some(&item), by)
    }
}

/// Whether one prefers a tool that the other avoids, in one situation.
fn contradict<T: Text>(a: &Item<T>, b: &Item<T>) -> bool {
    let clash = |a: &Item<T>, b: &Item<T>| {
        a.strategy.prefer_tools.iter().any(|tool| b.strategy.avoid_tools.contains(tool))
    };
    same_case(a, b) && (clash(a, b) || clash(b, a))
}

/// Whether both are about one failure at one place, or neither is about any.
fn same_case<T>(a: &Item<T>, b: &Item<T>) -> bool {
    (a.situation.error, a.situation.target) == (b.situation.error, b.situation.target)
}

fn alike<T: Text>(a: &Item<T>, b: &Item<T>, embedder: &dyn Embedder) -> Result<bool, MemoryError> {
    let structure = |item: &Item<T>| {
        let strategy = &item.strategy;
        (
            item.kind == Kind::Avoid,
            strategy.order.clone(),
            strategy.parameters.clone(),
            strategy.avoid_tools.clone(),
            strategy.prefer_tools.clone(),
            numbers(strategy.text.as_str()).join(" "),
        )
    };
    // Two sentences can be close although they name different tools, arguments or numbers.
    if !same_case(a, b) || structure(a) != structure(b) {
        return Ok(false);
    }
    let texts = [&a.situation.text, &b.situation.text, &a.strategy.text, &b.strategy.text];
    let vectors = embedder.embed(&texts.map(Text::as_str))?;
    let [sa, sb, ta, tb] = vectors.as_slice() else { return Ok(false) };
    Ok(dot(sa, sb) >= SAME_SITUATION && dot(ta, tb) >= SAME_STRATEGY)
}

/// The known lesson with the evidence of both: each source counts once.
fn merged<T>(known: Item<T>, new: Item<T>) -> Item<T> {
    let mut sources = known.provenance.sources.clone();
    sources.extend(&new.provenance.sources);
    sources.sort_unstable();
    sources.dedup();
    let mut evidence = new.evidence;
    evidence.episodes = sources.len() as u64;
    // Users of the two cannot be told apart any more, so no more are claimed than one job saw.
    evidence.users = evidence.users.max(known.evidence.users);
    let mut origins = [known.provenance.origins.clone(), new.provenance.origins].concat();
    origins.sort_unstable();
    origins.dedup();
    // What a person stated does not become less because runs say it as well.
    let human = [known.provenance.distiller, new.provenance.distiller].contains(&Distiller::Human);
    let distiller = if human { Distiller::Human } else { new.provenance.distiller };
    let provenance = crate::Provenance { sources, origins, distiller, ..new.provenance };
    Item {
        rev: known.rev + 1,
        evidence,
        provenance,
        tool_fingerprint: new.tool_fingerprint,
        ..known
    }
}
