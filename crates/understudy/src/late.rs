//! What came after an earlier version of a dataset was cut, and belongs before it.

use std::{collections::BTreeSet, path::Path};

use anyhow::Result;
use understudy_dataset::{Beside, list};
use understudy_ident::{StepId, TaskName, Timestamp};
use understudy_journal::{Arrival, Entry, Journal};

/// How a version names how far the journal went that it was made of.
const JOURNAL: &str = "journal up to record ";

/// How many records are looked at at once.
const PAGE: usize = 1024;

pub(crate) fn source(until: u64) -> String {
    format!("{JOURNAL}{until}")
}

/// The steps of a task that the newest of the versions below `root` would have had, by their time,
/// and that came or had something said of them after the record it was cut at, up to `until`. What
/// was late for that version stays so.
pub(crate) fn late(
    journal: &Journal,
    root: &Path,
    task: &TaskName,
    until: u64,
) -> Result<BTreeSet<StepId>> {
    let mut newest = None;
    let mut late = BTreeSet::new();
    for version in list(root)?.into_iter().filter(|version| version.name == *task) {
        let beside = Beside::of(root, &version)?;
        let cut =
            beside.sources.iter().find_map(|source| source.strip_prefix(JOURNAL)?.parse().ok());
        // A later one is of a build that has come further than this one may.
        let Some(cut) = cut.filter(|cut| *cut <= until) else { continue };
        if newest < Some(cut) {
            newest = Some(cut);
            late.clear();
        }
        if newest == Some(cut) {
            late.extend(beside.late);
        }
    }
    let Some(cut) = newest else { return Ok(late) };
    if let Some(at) = journal.received_at(cut)? {
        arrived(journal, task, (cut, at), until, &mut late)?;
    }
    Ok(late)
}

/// Adds the steps up to `at` of which anything came after record `cut`.
fn arrived(
    journal: &Journal,
    task: &TaskName,
    (mut cut, at): (u64, Timestamp),
    until: u64,
    late: &mut BTreeSet<StepId>,
) -> Result<()> {
    loop {
        let arrivals = journal.follow(cut, PAGE)?;
        let Some(last) = arrivals.last().map(|arrival| arrival.seq) else { return Ok(()) };
        for arrival in arrivals.into_iter().filter(|arrival| arrival.seq <= until) {
            let step = match arrival {
                Arrival { entry: Entry::Step(step), .. } => Some(*step),
                outcome => journal.judged_at(&outcome)?.map(|judged| judged.step),
            };
            late.extend(
                step.filter(|step| step.task == *task && step.at <= at).map(|step| step.id),
            );
        }
        if last >= until {
            return Ok(());
        }
        cut = last;
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use understudy_dataset::{Builder, Request};
    use understudy_ident::{ManualClock, OutcomeId, TrajectoryId};
    use understudy_inference::{FinishReason, Served, Timing, Usage};
    use understudy_journal::{Config, Query};
    use understudy_manifest::Data;
    use understudy_message::Message;
    use understudy_trajectory::{Outcome, Signal, Source, Step, Target};

    use super::*;

    /// A journal in which records are received at the second that `clock` says.
    struct Home {
        directory: tempfile::TempDir,
        journal: Journal,
        clock: ManualClock,
    }

    impl Home {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let clock = ManualClock::default();
            let config = Config { clock: Arc::new(clock.clone()), ..Config::default() };
            let journal = Journal::open(&directory.path().join("j.db"), config).unwrap();
            Self { directory, journal, clock }
        }

        fn receive(&self, step: &Step) {
            self.journal.append_step(step.clone()).unwrap().wait().unwrap();
        }

        fn accept(&self, step: &Step) {
            let outcome = Outcome {
                id: OutcomeId::derived(step.id.as_str()),
                target: Target::Response(step.response_id.clone()),
                signal: Signal::Accept,
                source: Source::Explicit,
                at: step.at,
                note: None,
                details: None,
            };
            self.journal.append_outcome(outcome).unwrap().wait().unwrap();
        }

        /// A version of everything so far, with what is late of it.
        fn cut(&self) -> BTreeSet<StepId> {
            let until = self.journal.watermark().unwrap();
            let late = self.late(until);
            let data = Data { min_verified: 0, holdout: 0.0, ..Data::default() };
            let (task, sources) = (task(), [source(until)]);
            let now = Timestamp::from_second(1_000).unwrap();
            let request =
                Request { task: &task, data: &data, seed: 1, sources: &sources, suites: &[], now };
            let builder = Builder::new(request, self.directory.path()).unwrap();
            let mut builder = builder.late(late.clone());
            for trajectory in self.journal.trajectories(&Query::default()).unwrap() {
                builder.add(trajectory).unwrap();
            }
            builder.finish().unwrap().freeze(self.directory.path()).unwrap();
            late
        }

        fn late(&self, until: u64) -> BTreeSet<StepId> {
            late(&self.journal, self.directory.path(), &task(), until).unwrap()
        }
    }

    fn task() -> TaskName {
        "triage".parse().unwrap()
    }

    /// A step of that second, with words of its own.
    fn step(name: &str, second: i64) -> Step {
        Step {
            id: StepId::derived(name),
            trajectory: TrajectoryId::derived(name),
            task: task(),
            session: None,
            subject: None,
            metadata: BTreeMap::new(),
            response_id: format!("resp-{name}"),
            at: Timestamp::from_second(second).unwrap(),
            prompt: vec![Message::user(format!("what is a {name}"))],
            tools: Vec::new(),
            reply: Message::assistant(format!("one {name} or another")),
            finish_reason: FinishReason::Stop,
            assignment: None,
            served: Served { base: "b".to_owned(), adapter: None },
            usage: Usage::default(),
            timing: Timing::default(),
            tokens: None,
            error: None,
        }
    }

    #[test]
    fn what_comes_after_a_cut_and_belongs_before_it_is_late_and_nothing_else_is() {
        let home = Home::new();
        let (early, silent) = (step("early", 10), step("silent", 11));
        home.clock.advance_ms(20_000);
        home.receive(&early);
        home.receive(&silent);
        home.accept(&early);
        assert_eq!(home.cut(), [].into(), "nothing is late for the first version");

        home.clock.advance_ms(20_000);
        let (slow, new) = (step("slow", 15), step("new", 30));
        let foreign = Step { task: "other".parse().unwrap(), ..step("foreign", 12) };
        for one in [&slow, &new, &foreign] {
            home.receive(one);
            home.accept(one);
        }
        home.accept(&silent);
        let until = home.journal.watermark().unwrap();
        let both: BTreeSet<StepId> = [slow.id.clone(), silent.id.clone()].into();
        assert_eq!(home.late(until), both);
        assert_eq!(home.late(until - 1), [slow.id.clone()].into(), "as of an earlier record");
        assert_eq!(home.cut(), both);
    }

    #[test]
    fn what_was_late_for_the_newest_version_stays_so() {
        let home = Home::new();
        home.clock.advance_ms(20_000);
        let steps = ["first", "second", "third"].map(|name| step(name, 1));
        let [first, second, third] = &steps;
        home.receive(first);
        home.accept(first);
        home.cut();
        home.receive(second);
        home.accept(second);
        assert_eq!(home.cut(), [second.id.clone()].into());
        home.receive(third);
        let until = home.journal.watermark().unwrap();
        assert_eq!(home.late(until), [second.id.clone(), third.id.clone()].into());
    }
}
