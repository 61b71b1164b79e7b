//! How many lessons may be active. Over a cap the least useful are proposed for retirement, which a
//! person decides, and nothing more is released.

use std::collections::{BTreeMap, BTreeSet};

use understudy_ident::Timestamp;

use super::Partition;
use crate::{
    Caps, Declared, DeploymentItem, DeploymentText, Kept, MemoryError, MemoryId, Status,
    effect::fade,
};

/// What has a cap.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    Agent(Option<String>),
    Pattern(crate::Keyed),
}

impl Group {
    fn of(item: &DeploymentItem) -> [Self; 2] {
        let agent = item.agent.as_ref().map(|agent| Declared::as_str(agent).to_owned());
        [Self::Agent(agent), Self::Pattern(item.pattern.key)]
    }

    fn cap(&self, caps: &Caps) -> usize {
        match self {
            Self::Agent(_) => caps.per_agent,
            Self::Pattern(_) => caps.per_pattern,
        }
    }

    fn words(&self) -> String {
        match self {
            Self::Agent(Some(agent)) => format!("of agent `{agent}` (`caps.per_agent`)"),
            Self::Agent(None) => "for all agents (`caps.per_agent`)".to_owned(),
            Self::Pattern(_) => "of one kind of task (`caps.per_pattern`)".to_owned(),
        }
    }
}

impl Partition<DeploymentText> {
    /// Active lessons over a cap, each the least useful of an agent or of a kind of task.
    pub fn surplus(&self, now: Timestamp) -> Result<BTreeSet<MemoryId>, MemoryError> {
        let mut counts: BTreeMap<Group, usize> = BTreeMap::new();
        let mut surplus = BTreeSet::new();
        for kept in self.by_use(now)? {
            let groups = Group::of(&kept.item);
            let caps = &self.settings.caps;
            let full =
                |group: &Group| counts.get(group).is_some_and(|count| *count >= group.cap(caps));
            if groups.iter().any(full) {
                surplus.insert(kept.item.id);
            } else {
                for group in groups {
                    *counts.entry(group).or_default() += 1;
                }
            }
        }
        Ok(surplus)
    }

    /// That no cap is passed by what a release adds. One that was passed before, by a cap that has
    /// come down, stops only what would add to it.
    pub(crate) fn fit_caps(
        &self,
        items: &[DeploymentItem],
        added: &[MemoryId],
        now: Timestamp,
    ) -> Result<(), MemoryError> {
        let new = items.iter().filter(|item| added.contains(&item.id));
        for group in new.flat_map(Group::of).collect::<BTreeSet<_>>() {
            let is_in = |item: &DeploymentItem| Group::of(item).contains(&group);
            let (count, limit) =
                (items.iter().filter(|item| is_in(item)).count(), group.cap(&self.settings.caps));
            if count > limit {
                let least = self.by_use(now)?.into_iter().rev().find(|kept| is_in(&kept.item));
                let least = least.map(|kept| kept.item.id);
                return Err(MemoryError::Full { group: group.words(), count, limit, least });
            }
        }
        Ok(())
    }

    /// What is active and serves, the most useful first: by what it does and how often it is needed.
    fn by_use(&self, now: Timestamp) -> Result<Vec<Kept<DeploymentText>>, MemoryError> {
        let mut active = self.all(now)?;
        active.retain(|kept| kept.status == Status::Active && kept.superseded_by.is_empty());
        let half_life = self.settings.counters.half_life_days;
        let usefulness = |kept: &Kept<DeploymentText>| {
            let used = kept.last_used.map_or(0.0, |at| fade(at, now, half_life));
            (1.0 + kept.effect.mean) * (0.1 + used)
        };
        active.sort_by(|a, b| usefulness(b).total_cmp(&usefulness(a)));
        Ok(active)
    }
}
