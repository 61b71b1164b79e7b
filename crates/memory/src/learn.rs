//! The offline job: from episodes to proposed lessons, or to the reasons why there are none.

mod drafts;

use std::collections::BTreeMap;

use serde::Serialize;
use understudy_ident::Timestamp;
use understudy_inference::Embedder;
use understudy_trajectory::Side;

use crate::{
    Agreement, Catalogue, Declared, DeploymentItem, DeploymentText, Distil, Distiller, Draft,
    Episode, Evidence, Group, Item, Key, Keyed, MemoryError, MemoryId, Part, Provenance, Sanitizer,
    Settings, Situation, Skeleton, Sources, Strategy, Verifier,
    agreement::{Canon, Settled, settle},
    contrast::Finding,
    score::scores,
    select::{Cluster, Lens},
};

use drafts::{Drafts, drafts};

/// What a job needs beside the episodes.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    pub catalogue: &'a Catalogue,
    pub key: &'a Key,
    pub settings: &'a Settings,
    pub embedder: &'a dyn Embedder,
    /// Words the lessons instead of the templates, where it can.
    pub teacher: Option<&'a dyn Distil>,
    pub now: Timestamp,
}

/// What a job did. Nothing here quotes a source.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LearnReport {
    pub job: Keyed,
    pub episodes: usize,
    /// Of them, in kinds of task that may teach.
    pub eligible: usize,
    pub patterns: usize,
    /// Runs passed over, by reason.
    pub skipped: BTreeMap<&'static str, u64>,
    /// Requests that taught nothing, by reason.
    pub no_learning: BTreeMap<&'static str, u64>,
    pub findings: usize,
    /// Lessons whose text was refused, by reason.
    pub refused: BTreeMap<String, u64>,
    /// Words that a person would have to approve first.
    pub quarantined: Vec<String>,
    pub learned: usize,
    /// One sentence for whoever expected more.
    pub verdict: String,
    #[serde(skip)]
    pub proposals: Vec<DeploymentItem>,
    /// Requests of which some runs won and others lost.
    #[serde(skip)]
    pub groups: Vec<Group>,
}

/// The two sides of a kind of task, and how it was judged.
#[derive(Default)]
struct Contest<'a> {
    winners: Vec<&'a Episode>,
    losers: Vec<&'a Episode>,
    groups: u64,
    verified: bool,
    repeated: bool,
}

impl std::fmt::Debug for Job<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job").field("now", &self.now).finish_non_exhaustive()
    }
}

impl LearnReport {
    /// The same after a job that was not given some runs at all, and why.
    #[must_use]
    pub fn without(mut self, why: &'static str, runs: u64) -> Self {
        if runs > 0 {
            self.episodes += runs as usize;
            *self.skipped.entry(why).or_default() += runs;
            self.verdict = verdict(&self);
        }
        self
    }
}

impl Job<'_> {
    /// Learns what the episodes teach. The same episodes, settings and time give the same lessons,
    /// ids aside.
    pub fn learn(
        self,
        episodes: &[Episode],
        verifier: &mut dyn Verifier,
    ) -> Result<LearnReport, MemoryError> {
        self.settings.check()?;
        let mut report = self.empty_report(episodes);
        let lens = Lens {
            catalogue: self.catalogue,
            key: self.key,
            settings: &self.settings.selection,
            embedder: self.embedder,
            now: self.now,
        };
        let clusters = lens.clusters(episodes, &mut report.skipped)?;
        report.patterns = clusters.len();
        for cluster in clusters {
            report.eligible += cluster.episodes.len();
            let contest = self.contest(&cluster, verifier, &mut report)?;
            if contest.winners.is_empty() || contest.losers.is_empty() {
                *report.no_learning.entry("no winners beside losers").or_default() += 1;
                continue;
            }
            self.propose(&cluster, &contest, &mut report)?;
        }
        report.learned = report.proposals.len();
        report.verdict = verdict(&report);
        Ok(report)
    }

    fn empty_report(self, episodes: &[Episode]) -> LearnReport {
        let mut names: Vec<String> =
            episodes.iter().map(|episode| episode.source_name(self.key).to_string()).collect();
        names.sort_unstable();
        LearnReport {
            job: self.key.name("job", &format!("{} {}", self.now, names.concat())),
            episodes: episodes.len(),
            eligible: 0,
            patterns: 0,
            skipped: BTreeMap::new(),
            no_learning: BTreeMap::new(),
            findings: 0,
            refused: BTreeMap::new(),
            quarantined: Vec::new(),
            learned: 0,
            verdict: String::new(),
            proposals: Vec::new(),
            groups: Vec::new(),
        }
    }

    /// Groups the runs by request. Where a teacher ran too, agreement says what is correct; all
    /// other runs are one group, judged by what users and verifiers said.
    fn contest<'a>(
        self,
        cluster: &Cluster<'a>,
        verifier: &mut dyn Verifier,
        report: &mut LearnReport,
    ) -> Result<Contest<'a>, MemoryError> {
        let mut by_task: BTreeMap<Keyed, Vec<&'a Episode>> = BTreeMap::new();
        for episode in &cluster.episodes {
            by_task.entry(episode.task).or_default().push(episode);
        }
        let mut contest = Contest::default();
        let mut alone = Vec::new();
        for runs in by_task.into_values() {
            if !runs.iter().any(|run| run.run.part == Part::Teacher) {
                report.groups.extend(self.group(&runs, None));
                alone.extend(runs);
                continue;
            }
            match settle(&runs, &self.settings.agreement, verifier)? {
                Settled::Unresolved(_) => {
                    *report
                        .no_learning
                        .entry("runs disagree and nothing settled it")
                        .or_default() += 1;
                }
                Settled::Canon(canon) => {
                    contest.verified |= canon.verified > 0;
                    contest.repeated = true;
                    report.groups.extend(self.group(&runs, Some(&canon)));
                    self.judge(&runs, Some(&canon), &mut contest);
                }
            }
        }
        self.judge(&alone, None, &mut contest);
        Ok(contest)
    }

    /// The runs of one request beside each other, and of no other one.
    fn group(self, runs: &[&Episode], canon: Option<&Canon>) -> Option<Group> {
        let scoring = &self.settings.scoring;
        Group::of(runs, &scores(runs, canon, self.catalogue, scoring), scoring)
    }

    fn judge<'a>(self, runs: &[&'a Episode], canon: Option<&Canon>, contest: &mut Contest<'a>) {
        if runs.is_empty() {
            return;
        }
        contest.groups += 1;
        let scoring = &self.settings.scoring;
        for (run, score) in runs.iter().zip(scores(runs, canon, self.catalogue, scoring)) {
            match score.side(scoring) {
                Side::Winner => contest.winners.push(run),
                Side::Loser => contest.losers.push(run),
                Side::Neither => {}
            }
        }
    }

    fn propose(
        self,
        cluster: &Cluster<'_>,
        contest: &Contest<'_>,
        report: &mut LearnReport,
    ) -> Result<(), MemoryError> {
        let settings = &self.settings.contrast;
        let (winners, losers) = (skeletons(&contest.winners), skeletons(&contest.losers));
        let Drafts { drafts, findings } = drafts(&winners, &losers, settings, self.catalogue);
        report.findings += findings;
        let mut sources = Sources::default();
        cluster.episodes.iter().for_each(|episode| sources.add(&episode.content.sources));
        let mut kept = 0;
        for (draft, finding) in drafts {
            if kept == settings.max_items {
                break;
            }
            let evidence = evidence(cluster, contest, finding.as_ref());
            if let Some(item) = self.item(cluster, &draft, evidence, &sources, report) {
                report.proposals.push(item);
                kept += 1;
            }
        }
        Ok(())
    }

    /// The lesson, if its text passes; the teacher's words if they do, else the template's.
    fn item(
        self,
        cluster: &Cluster<'_>,
        draft: &Draft,
        evidence: Evidence,
        sources: &Sources,
        report: &mut LearnReport,
    ) -> Option<DeploymentItem> {
        let sanitizer = Sanitizer::new(self.catalogue);
        let mut clean = |situation: &str, strategy: &str| {
            let both = sanitizer
                .clean(situation, sources)
                .and_then(|situation| Ok((situation, sanitizer.clean(strategy, sources)?)));
            both.map_err(|error| note_refusal(&error, report)).ok()
        };
        let by_teacher = self.teacher.and_then(|teacher| {
            let (situation, strategy) = teacher.write(draft).ok()?;
            clean(&situation, &strategy)
        });
        let (texts, distiller) = match by_teacher {
            Some(texts) => (texts, Distiller::Teacher),
            None => (clean(&draft.situation, &draft.strategy)?, Distiller::Template),
        };
        Some(self.assemble(cluster, draft, evidence, (texts, distiller, report.job)))
    }

    fn assemble(
        self,
        cluster: &Cluster<'_>,
        draft: &Draft,
        evidence: Evidence,
        (texts, distiller, job): ((DeploymentText, DeploymentText), Distiller, Keyed),
    ) -> DeploymentItem {
        let declared = |tools: &[crate::ToolIx]| -> Vec<Declared> {
            tools.iter().map(|tool| Declared::tool(self.catalogue, *tool)).collect()
        };
        let declared_target = draft.tools.first().and_then(|tool| {
            let target = self.catalogue.schema(*tool).target.as_deref()?;
            Some(crate::heal::target_name(target, self.key))
        });
        let target = draft.target.or(declared_target);
        let origins: std::collections::BTreeSet<Keyed> =
            cluster.episodes.iter().filter_map(|episode| episode.origin_name(self.key)).collect();
        let mut item = Item {
            id: MemoryId::generate(),
            rev: 1,
            kind: draft.kind,
            agent: cluster.agent.and_then(|agent| Declared::agent(self.catalogue, agent)),
            pattern: cluster.pattern.clone(),
            situation: Situation {
                tools: declared(&draft.tools),
                target,
                error: draft.error,
                text: texts.0,
            },
            strategy: Strategy {
                text: texts.1,
                prefer_tools: declared(&draft.prefer),
                avoid_tools: declared(&draft.avoid),
                order: declared(&draft.order),
                parallel: declared(&draft.parallel),
                parameters: draft.parameters.clone(),
                tactic: draft.tactic,
            },
            evidence,
            provenance: Provenance {
                job,
                sources: cluster.episodes.iter().map(|e| e.source_name(self.key)).collect(),
                origins: origins.into_iter().collect(),
                distiller,
            },
            tool_fingerprint: understudy_ident::Digest::of(b""),
            valid_from: self.now,
            expires_at: None,
            supersedes: Vec::new(),
        };
        item.provenance.sources.sort_unstable();
        item.provenance.sources.dedup();
        item.tool_fingerprint = self.catalogue.fingerprint(item.tools());
        item
    }
}

fn skeletons<'a>(runs: &[&'a Episode]) -> Vec<&'a Skeleton> {
    runs.iter().map(|run| &run.skeleton).collect()
}

fn evidence(cluster: &Cluster<'_>, contest: &Contest<'_>, finding: Option<&Finding>) -> Evidence {
    let users: std::collections::BTreeSet<Keyed> =
        cluster.episodes.iter().filter_map(|episode| episode.user).collect();
    Evidence {
        groups: contest.groups,
        episodes: cluster.episodes.len() as u64,
        users: users.len() as u64,
        winners: contest.winners.len() as u64,
        losers: contest.losers.len() as u64,
        lift: finding.map_or(0.0, Finding::lift),
        lift_interval: finding.map_or([0.0, 1.0], Finding::lift_interval),
        p: finding.map_or(1.0, |finding| finding.p),
        agreement: match (contest.repeated, contest.verified) {
            (false, _) => Agreement::Outcomes,
            (true, false) => Agreement::Agreed,
            (true, true) => Agreement::Verified,
        },
    }
}

fn note_refusal(error: &MemoryError, report: &mut LearnReport) {
    let why = match error {
        MemoryError::Quarantined { words } => {
            report.quarantined.extend(words.iter().cloned());
            "a word needs approval".to_owned()
        }
        MemoryError::Leak { why } | MemoryError::Text { why } => why.clone(),
        other => other.to_string(),
    };
    *report.refused.entry(why).or_default() += 1;
}

fn verdict(report: &LearnReport) -> String {
    if report.learned > 0 {
        return format!("{} lessons proposed; see `understudy memory review`", report.learned);
    }
    let most = report.skipped.iter().chain(&report.no_learning).max_by_key(|(_, n)| **n);
    match (report.episodes, most) {
        (0, _) => "nothing was learnt: there are no episodes".to_owned(),
        (_, Some((why, n))) => format!("nothing was learnt: {why} ({n})"),
        (_, None) => "nothing was learnt: winners and losers did not differ enough".to_owned(),
    }
}

#[cfg(test)]
mod tests;
