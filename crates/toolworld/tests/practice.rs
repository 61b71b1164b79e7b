//! Attempts that are made to learn from: at the desk, and of recordings in the shadow.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::sync::Arc;

use understudy_ident::Timestamp;
use understudy_inference::HashingEmbedder;
use understudy_memory::{
    Attempts, Catalogue, ChatLimits, ChatPlayer, DeploymentItem, Episode, Job, Judgement, Key,
    LearnReport, Made, NoVerifier, Part, Practice, Provenance, Recordings, Scoring, Settings,
    Trial, Verifier, Written,
};
use understudy_message::ToolCall;
use understudy_toolworld::{
    Agent, DeskModel, DeskPractice, DeskVerifier, Request, catalogue, journal_lines,
};
use understudy_trajectory::{JudgedStep, Outcome, Step, Trajectory};

const SEED: u64 = 17;

struct World {
    catalogue: Catalogue,
    key: Key,
    now: Timestamp,
}

fn world() -> World {
    let now = Timestamp::from_second(1_900_000_000).unwrap();
    World { catalogue: catalogue(), key: Key::from_bytes([7; 32]), now }
}

/// The scripted models say their calls as calls.
fn none(_: &str) -> Vec<ToolCall> {
    Vec::new()
}

fn player(agent: Agent, known: std::ops::Range<u64>) -> ChatPlayer {
    let limits = ChatLimits { turns: 12, max_tokens: 64, temperature: 0.0 };
    ChatPlayer::new(Arc::new(DeskModel::new(agent, SEED, known)), None, none, limits)
}

impl World {
    fn attempt(&self, practice: &mut dyn Practice, requests: u64, with_teacher: bool) -> Made {
        let mut student = player(Agent::student(), 0..requests);
        let mut teacher = player(Agent::teacher(), 0..requests);
        let attempts = Attempts { runs: 4, seed: 1, at: self.now };
        let teacher = with_teacher.then_some(&mut teacher as &mut dyn understudy_memory::Player);
        attempts.make(practice, &mut student, teacher, &mut || {}).unwrap()
    }

    fn learn(&self, made: &Made, verifier: &mut dyn Verifier) -> LearnReport {
        let read = |told| Episode::read(told, &self.catalogue, &self.key);
        let episodes: Vec<Episode> = made.transcripts.iter().map(read).collect();
        let job = Job {
            catalogue: &self.catalogue,
            key: &self.key,
            settings: &Settings::default(),
            embedder: &HashingEmbedder,
            teacher: None,
            now: self.now,
        };
        job.learn(&episodes, verifier).unwrap()
    }

    fn lesson(&self, strategy: &str, prefer: &str) -> DeploymentItem {
        let written = Written {
            agent: Some("desk"),
            intent: Some("refund-order"),
            tools: &[prefer, "refunds.create"],
            situation: "When a task needs `refunds.create`",
            strategy,
            prefer: &[prefer],
            ..Written::default()
        };
        DeploymentItem::written(&written, &self.catalogue, &self.key, self.now).unwrap()
    }

    fn trial(&self, runs: u32) -> Trial<'_> {
        let (catalogue, key) = (&self.catalogue, &self.key);
        Trial { catalogue, key, embedder: &HashingEmbedder, runs, seed: 3, at: self.now }
    }

    /// Runs of the teacher, as a gateway recorded them.
    fn recordings(&self, requests: u64) -> Recordings<'_> {
        let mut recordings = Recordings::new(&self.catalogue, &Scoring::default());
        for n in 0..requests {
            let played = Agent::teacher().play(&Request::draw(SEED, n), None, 1, self.now);
            assert!(recordings.add(&recorded(played.transcript, n)), "it can be repeated");
        }
        recordings
    }
}

fn recorded(transcript: understudy_memory::Transcript, n: u64) -> Trajectory {
    let [step, outcome] = journal_lines(&transcript, n);
    let step: Step = serde_json::from_value(step["step"].clone()).unwrap();
    let outcome: Outcome = serde_json::from_value(outcome["outcome"].clone()).unwrap();
    let id = step.trajectory.clone();
    Trajectory { id, steps: vec![JudgedStep { step, outcomes: vec![outcome] }] }
}

#[test]
fn a_model_practises_and_its_teacher_is_who_it_learns_from() {
    let world = world();
    let made = world.attempt(&mut DeskPractice::new(SEED, 0..48), 48, true);
    assert_eq!((made.count.requests, made.count.runs), (48, 48 * 5));
    assert!(made.count.unfit.is_empty(), "{:?}", made.count);
    // Each part played as itself, and no two runs are one source.
    let teachers = made.transcripts.iter().filter(|told| told.run.part == Part::Teacher);
    assert_eq!(teachers.count(), 48);
    let mut sources: Vec<&str> = made.transcripts.iter().map(|told| told.source.as_str()).collect();
    sources.sort_unstable();
    sources.dedup();
    assert_eq!(sources.len(), 48 * 5);
    // Where runs disagree and nobody looks, nothing is learnt from the request.
    let unsettled = world.learn(&made, &mut NoVerifier);
    let disagreements = unsettled.no_learning["runs disagree and nothing settled it"];
    assert!(disagreements > 10, "{unsettled:#?}");
    let report = world.learn(&made, &mut DeskVerifier::new(SEED, 48));
    assert!(report.learned > unsettled.learned, "{report:#?}");
    let texts: Vec<&str> =
        report.proposals.iter().map(|item| item.strategy.text.as_str()).collect();
    assert!(texts.iter().any(|text| text.contains("refunds.quote")), "{texts:?}");
}

#[test]
fn a_lesson_is_tried_on_other_requests_before_its_release() {
    let world = world();
    let tried = |lesson: &DeploymentItem| {
        let mut practice = DeskPractice::new(SEED, 100..300);
        let mut student = player(Agent::student(), 100..300);
        world.trial(2).compare(&mut practice, &mut student, lesson, &mut || {}).unwrap()
    };
    let good = tried(&world.lesson("prefer calling `refunds.quote` first.", "refunds.quote"));
    assert_eq!(good.verdict, Judgement::Better, "{good:?}");
    assert!(good.difference > 0.2 && good.requests > 20, "{good:?}");
    assert!(good.with.tools > good.without.tools, "{good:?}");
    assert_eq!(good.requests as u64 + good.skipped["it is of another kind of task"], 200);
    let bad = tried(&world.lesson("prefer calling `orders.cancel` first.", "orders.cancel"));
    assert_eq!(bad.verdict, Judgement::Worse, "{bad:?}");
    // The same seeds, the same comparison.
    let again = tried(&world.lesson("prefer calling `orders.cancel` first.", "orders.cancel"));
    assert_eq!(again, bad);
}

#[test]
fn recordings_are_attempted_again_and_nothing_can_be_written() {
    let world = world();
    let mut recordings = world.recordings(60);
    assert!(recordings.tasks().iter().all(|task| task.prompt.len() <= 3 && !task.tools.is_empty()));
    let made = world.attempt(&mut recordings, 60, true);
    let shadow = &made.count.shadow;
    assert!(shadow.stubbed_writes > 50 && shadow.recorded_reads > 50, "{shadow:?}");
    assert_eq!((shadow.live_reads, shadow.stubbed_reads), (0, 0), "{shadow:?}");
    // Whoever read what nobody recorded teaches nothing: what came after was made up.
    let unfit = made.count.unfit["it read what was never recorded"];
    assert!(unfit > 0 && made.transcripts.len() as u64 + unfit == made.count.runs as u64);
    let report = world.learn(&made, &mut NoVerifier);
    assert!(report.eligible > 0, "{report:#?}");
}

#[test]
fn in_the_shadow_a_lesson_that_writes_what_nobody_wanted_is_worse() {
    let world = world();
    let mut recordings = world.recordings(240);
    let mut cautious = Agent::teacher();
    cautious.habits.obey = 1.0;
    let mut student = player(cautious, 0..240);
    let lesson = world.lesson("prefer calling `orders.cancel` first.", "orders.cancel");
    let compared =
        world.trial(1).compare(&mut recordings, &mut student, &lesson, &mut || {}).unwrap();
    assert_eq!(compared.verdict, Judgement::Worse, "{compared:?}");
    assert!(compared.shadow.stubbed_writes > 0 && compared.shadow.live_reads == 0);
    // What taught a lesson is no evidence for it.
    let mut own = lesson.clone();
    let sources = recordings.tasks().iter();
    own.provenance.sources =
        sources.map(|task| world.key.name("source", task.source.as_str())).collect();
    let compared = world.trial(1).compare(&mut recordings, &mut student, &own, &mut || {}).unwrap();
    assert_eq!((compared.requests, compared.skipped["it taught the lesson"]), (0, 240));
    assert_eq!(compared.verdict, Judgement::Inconclusive);
}

#[test]
fn a_lesson_learnt_from_attempts_is_not_tried_on_the_same_requests() {
    let world = world();
    let made = world.attempt(&mut DeskPractice::new(SEED, 0..48), 48, true);
    let report = world.learn(&made, &mut DeskVerifier::new(SEED, 48));
    let lesson = &report.proposals[0];
    // Five runs of each request are five sources, of one request.
    let Provenance { sources, origins, .. } = &lesson.provenance;
    assert_eq!(sources.len(), 5 * origins.len());
    let mut student = player(Agent::student(), 0..48);
    let mut same = DeskPractice::new(SEED, 0..48);
    let compared = world.trial(1).compare(&mut same, &mut student, lesson, &mut || {}).unwrap();
    assert_eq!(compared.skipped["it taught the lesson"], origins.len() as u64, "{compared:?}");
}
