//! How a new lesson meets those that are known: it is one of them, says the opposite of some, takes
//! the place of others, or is new.

use std::collections::BTreeSet;

use understudy_ident::Timestamp;
use understudy_inference::Embedder;

use super::{
    By, Entry, Partition,
    change::{EXPIRED, UNUSED},
};
use crate::{
    Distiller, Item, Kept, Kind, MemoryError, MemoryId, Operation, Status, Text, select::dot,
    words::numbers,
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
    /// It says what was retired for what it is, or what another lesson took the place of, and was
    /// not added.
    Settled {
        by: MemoryId,
        reason: String,
    },
}

impl<T: Text> Partition<T> {
    /// Adds a lesson as proposed, unless it is one that is known.
    pub fn propose(
        &self,
        item: Item<T>,
        embedder: &dyn Embedder,
        by: &By,
    ) -> Result<Proposed, MemoryError> {
        self.propose_apart(item, &[], embedder, by)
    }

    /// The same of a lesson that is none of `apart`, however alike the words are. That is
    /// remembered: the two are never joined, and what is learnt later goes to the one it is closer
    /// to. Lessons that one lesson was split into are kept apart likewise.
    pub fn propose_apart(
        &self,
        item: Item<T>,
        apart: &[MemoryId],
        embedder: &dyn Embedder,
        by: &By,
    ) -> Result<Proposed, MemoryError> {
        self.may_join(&item, by.at)?;
        apart.iter().try_for_each(|other| self.get(other, by.at).map(drop))?;
        let mut others = self.all(by.at)?;
        let parts = others.iter().filter(|kept| are_parts(&kept.item, &item));
        let apart: BTreeSet<MemoryId> =
            parts.map(|kept| kept.item.id.clone()).chain(apart.iter().cloned()).collect();
        others.retain(|Kept { item: other, .. }| {
            let distinct = apart.contains(&other.id) || item.supersedes.contains(&other.id);
            other.pattern == item.pattern && !distinct
        });
        if let Some(known) = self.closest(&others, &item, embedder)? {
            if let Some(settled) = self.settled(known)? {
                return Ok(settled);
            }
            let into = known.item.id.clone();
            let merged = merged(known.item.clone(), item);
            self.operate(Some(&into), &Operation::Revise, Some(&merged), by)?;
            return Ok(Proposed::Merged { into });
        }
        self.operate(Some(&item.id), &Operation::Add, Some(&item), by)?;
        for other in apart {
            self.operate(Some(&item.id), &Operation::Keep { other }, None, by)?;
        }
        others.retain(|kept| !is_out(kept) && contradict(&kept.item, &item));
        self.conflicting(item.id, &others, by)
    }

    /// That no two lessons which a new one takes the place of are to stay apart.
    pub(crate) fn may_join(&self, item: &Item<T>, now: Timestamp) -> Result<(), MemoryError> {
        for one in &item.supersedes {
            let Ok(kept) = self.get(one, now) else { continue };
            let met = |other: &&MemoryId| kept.kept_apart_from.contains(*other);
            if let Some(other) = item.supersedes.iter().find(met) {
                let (one, other) = (one.clone(), other.clone());
                return Err(MemoryError::KeptApart { one, other });
            }
        }
        Ok(())
    }

    /// The known lesson that a new one is, if it is one: of several alike, the closest.
    fn closest<'a>(
        &self,
        others: &'a [Kept<T>],
        item: &Item<T>,
        embedder: &dyn Embedder,
    ) -> Result<Option<&'a Kept<T>>, MemoryError> {
        // A person may say again what was taken out; a job may not, week after week.
        let said = item.provenance.distiller == Distiller::Human;
        let mut closest: Option<(f32, &Kept<T>)> = None;
        for other in others {
            if is_out(other) && (said || self.settled(other)?.is_none()) {
                continue;
            }
            let Some(close) = closeness(&other.item, item, embedder)? else { continue };
            if closest.is_none_or(|(best, _)| close > best) {
                closest = Some((close, other));
            }
        }
        Ok(closest.map(|(_, kept)| kept))
    }

    /// What a job is told that learns again what is out for what it is.
    fn settled(&self, known: &Kept<T>) -> Result<Option<Proposed>, MemoryError> {
        if let Some(by) = known.superseded_by.first().cloned() {
            let reason = format!("it took the place of {}", known.item.id);
            return Ok(Some(Proposed::Settled { by, reason }));
        }
        if known.status != Status::Retired {
            return Ok(None);
        }
        let reason = self.retired_for_good(&known.item.id)?;
        Ok(reason.map(|reason| Proposed::Settled { by: known.item.id.clone(), reason }))
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

    /// Has a lesson and those it contradicts wait for a person, where there are any.
    fn conflicting(
        &self,
        id: MemoryId,
        others: &[Kept<T>],
        by: &By,
    ) -> Result<Proposed, MemoryError> {
        for other in others {
            let with = other.item.id.clone();
            self.operate(Some(&id), &Operation::Conflict { other: with.clone() }, None, by)?;
            if other.status == Status::Active {
                let by = By::rule("a new lesson says the opposite", by.at);
                self.operate(Some(&with), &Operation::Suspend, None, &by)?;
            }
        }
        Ok(match others.first() {
            Some(other) => Proposed::Conflicting { id, with: other.item.id.clone() },
            None => Proposed::New { id },
        })
    }
}

impl<T: Text> Item<T> {
    /// The same as what takes the place of others: it rests on what they rest on, each source
    /// counted once.
    #[must_use]
    pub fn in_place_of(mut self, others: &[Self]) -> Self {
        self.supersedes = others.iter().map(|other| other.id.clone()).collect();
        for other in others {
            self.provenance.sources.extend(&other.provenance.sources);
            self.provenance.origins.extend(&other.provenance.origins);
            // Users of several cannot be told apart any more, so no more are claimed than of one.
            self.evidence.users = self.evidence.users.max(other.evidence.users);
        }
        for names in [&mut self.provenance.sources, &mut self.provenance.origins] {
            names.sort_unstable();
            names.dedup();
        }
        self.evidence.episodes = self.provenance.sources.len() as u64;
        self
    }
}

/// Whether nobody is shown a lesson any more.
fn is_out<T>(kept: &Kept<T>) -> bool {
    kept.status == Status::Retired || !kept.superseded_by.is_empty()
}

/// Whether one lesson was split into both.
fn are_parts<T>(a: &Item<T>, b: &Item<T>) -> bool {
    a.supersedes.iter().any(|whole| b.supersedes.contains(whole))
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

/// How close two lessons are that are one; `None` of two.
fn closeness<T: Text>(
    a: &Item<T>,
    b: &Item<T>,
    embedder: &dyn Embedder,
) -> Result<Option<f32>, MemoryError> {
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
        return Ok(None);
    }
    let texts = [&a.situation.text, &b.situation.text, &a.strategy.text, &b.strategy.text];
    let vectors = embedder.embed(&texts.map(Text::as_str))?;
    let [sa, sb, ta, tb] = vectors.as_slice() else { return Ok(None) };
    let (situations, strategies) = (dot(sa, sb), dot(ta, tb));
    let one = situations >= SAME_SITUATION && strategies >= SAME_STRATEGY;
    Ok(one.then_some(situations + strategies))
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
