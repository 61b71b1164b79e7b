//! Attempts that were made for lessons, as examples that a model is trained on.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail like tests")]

use std::{collections::BTreeSet, ops::Range, sync::Arc};

use understudy_dataset::{FrozenDataset, Request as Asked, build};
use understudy_ident::{TaskName, Timestamp};
use understudy_inference::{
    Backend, Event, GenerateRequest, HashingEmbedder, InferenceError, Prompt, Sink, TokenRecord,
};
use understudy_manifest::{Data, Dedupe, Split};
use understudy_memory::{
    Attempts, Catalogue, ChatLimits, ChatPlayer, Episode, Group, Job, Key, LearnReport, Made,
    NoVerifier, Part, Practice, Recordings, ScoredRun, Scoring, Settings, Transcript, Verifier,
    records, was_attempted,
};
use understudy_message::{Message, ToolCall};
use understudy_toolworld::{
    Agent, DeskModel, DeskPractice, DeskVerifier, Request, catalogue, journal_lines,
};
use understudy_trajectory::{JudgedStep, Outcome, Side, Step, Target, Trajectory};

const SEED: u64 = 17;
const REQUESTS: u64 = 24;

/// A script that says which tokens it read and wrote, as our own engine does: here a byte is one.
#[derive(Debug)]
struct Tokenised(DeskModel);

impl Backend for Tokenised {
    fn base(&self) -> &str {
        self.0.base()
    }

    fn submit(&self, request: GenerateRequest, mut sink: Sink) -> Result<(), InferenceError> {
        let Prompt::Chat(chat) = &request.prompt else { panic!("a chat is asked") };
        let ids = |text: String| text.bytes().map(u32::from).collect::<Vec<u32>>();
        let prompt_ids = ids(serde_json::to_string(&chat.messages).unwrap());
        let sampling = request.sampling.clone();
        self.0.submit(
            request,
            Box::new(move |event| {
                let Event::Finished(mut whole) = event else { return sink(event) };
                let said = serde_json::to_string(&(&whole.text, &whole.tool_calls)).unwrap();
                let completion_ids = ids(said);
                whole.tokens = Some(TokenRecord {
                    prompt_ids: prompt_ids.clone(),
                    sampling_logprobs: vec![-0.1; completion_ids.len()],
                    completion_ids,
                    forced: Vec::new(),
                    sampling: sampling.clone(),
                    logprobs_exact: true,
                    base_digest: "base".to_owned(),
                    tokenizer_digest: "tokenizer".to_owned(),
                    template_digest: "template".to_owned(),
                });
                sink(Event::Finished(whole))
            }),
        )
    }
}

fn none(_: &str) -> Vec<ToolCall> {
    Vec::new()
}

fn player(agent: Agent, known: Range<u64>) -> ChatPlayer {
    let limits = ChatLimits { turns: 12, max_tokens: 64, temperature: 0.7 };
    let model = Tokenised(DeskModel::new(agent, SEED, known));
    ChatPlayer::new(Arc::new(model), None, none, limits)
}

fn now() -> Timestamp {
    Timestamp::from_second(1_900_000_000).unwrap()
}

fn attempt(practice: &mut dyn Practice, with_teacher: bool) -> Made {
    let mut student = player(Agent::student(), 0..REQUESTS);
    let mut teacher = player(Agent::teacher(), 0..REQUESTS);
    let attempts = Attempts { runs: 4, seed: 1, at: now() };
    let teacher = with_teacher.then_some(&mut teacher as &mut dyn understudy_memory::Player);
    attempts.make(practice, &mut student, teacher, &mut || {}).unwrap()
}

fn learn(made: &Made, catalogue: &Catalogue, verifier: &mut dyn Verifier) -> LearnReport {
    let key = Key::from_bytes([7; 32]);
    let read = |told| Episode::read(told, catalogue, &key);
    let episodes: Vec<Episode> = made.transcripts.iter().map(read).collect();
    let job = Job {
        catalogue,
        key: &key,
        settings: &Settings::default(),
        embedder: &HashingEmbedder,
        teacher: None,
        now: now(),
    };
    job.learn(&episodes, verifier).unwrap()
}

/// Trajectories as a journal gives them back.
fn trajectories(steps: Vec<JudgedStep>) -> Vec<Trajectory> {
    let mut all: Vec<Trajectory> = Vec::new();
    for judged in steps {
        match all.last_mut().filter(|last| last.id == judged.step.trajectory) {
            Some(last) => last.steps.push(judged),
            None => {
                all.push(Trajectory { id: judged.step.trajectory.clone(), steps: vec![judged] });
            }
        }
    }
    all
}

fn frozen(steps: Vec<JudgedStep>) -> (tempfile::TempDir, FrozenDataset) {
    let task: TaskName = "desk".parse().unwrap();
    let data = Data { holdout: 0.0, min_reward: 0.8, dedupe: Dedupe::Exact, ..Data::default() };
    let (sources, suites) = (&[], &[]);
    let request = Asked { task: &task, data: &data, seed: 3, sources, suites, now: now() };
    let root = tempfile::tempdir().unwrap();
    let frozen = build(request, trajectories(steps)).unwrap().freeze(root.path()).unwrap();
    (root, frozen)
}

/// The labels that a run's own outcome gives its trajectory.
fn sides(steps: &[JudgedStep]) -> Vec<(String, Side, f64)> {
    let outcomes = steps.iter().flat_map(|judged| &judged.outcomes);
    let side = |outcome: &Outcome| {
        let score = outcome.attempt().unwrap().1;
        let Target::Trajectory(id) = &outcome.target else { panic!() };
        (id.clone(), outcome.side().unwrap(), score)
    };
    outcomes.map(side).collect()
}

#[test]
fn winners_are_preferred_to_losers_and_replies_to_one_prompt_are_a_group() {
    let made = attempt(&mut DeskPractice::new(SEED, 0..REQUESTS), true);
    let report = learn(&made, &catalogue(), &mut DeskVerifier::new(SEED, REQUESTS));
    assert!(!report.groups.is_empty(), "{report:#?}");
    let steps = records(&report.groups, &made);
    let sides = sides(&steps);
    let runs: usize = report.groups.iter().map(|group| group.runs.len()).sum();
    assert_eq!(sides.len(), runs, "each run says once how it did");
    assert!(sides.iter().all(|(_, _, score)| (0.0..=1.0).contains(score)));
    let of = |id: &str| sides.iter().find(|(own, ..)| own == id).unwrap();

    let (_root, frozen) = frozen(steps.clone());
    let whose = |step: &str| {
        let judged = steps.iter().find(|judged| judged.step.id.as_str() == step).unwrap();
        of(judged.step.trajectory.as_str())
    };
    let pairs = frozen.pairs(Split::Train).unwrap();
    assert!(pairs.len() >= report.groups.len(), "{} pairs", pairs.len());
    for pair in &pairs {
        let [chosen, rejected] = pair.origin.steps.as_slice() else { panic!("{:?}", pair.origin) };
        let (chosen, rejected) = (whose(chosen), whose(rejected));
        assert_eq!((chosen.1, rejected.1), (Side::Winner, Side::Loser), "{chosen:?} {rejected:?}");
        assert!(pair.margin.unwrap() > 0.0 && !pair.tools.is_empty());
    }
    let imitated = frozen.sft(Split::Train).unwrap();
    assert!(!imitated.is_empty());
    assert!(imitated.iter().all(|row| whose(&row.origin.steps[0]).2 >= 0.8));
    // What GRPO learns from: the score of each run, beside the others' at the same prompt.
    let groups = frozen.groups(Split::Train).unwrap();
    assert!(!groups.is_empty());
    for group in &groups {
        for (step, attempt) in group.origin.steps.iter().zip(&group.attempts) {
            assert!((attempt.reward.unwrap() - whose(step).2).abs() < 1e-9);
            assert_eq!(attempt.sampling_logprobs.len(), attempt.completion_ids.len());
        }
    }
}

#[test]
fn without_a_teacher_the_runs_of_one_request_are_compared_by_what_the_world_says() {
    let made = attempt(&mut DeskPractice::new(SEED, 0..REQUESTS), false);
    let report = learn(&made, &catalogue(), &mut NoVerifier);
    let steps = records(&report.groups, &made);
    let requests: BTreeSet<String> =
        report.groups.iter().map(|group| group.task.to_string()).collect();
    assert_eq!(requests.len(), report.groups.len(), "a group is of one request");
    assert!(!frozen(steps).1.pairs(Split::Train).unwrap().is_empty());
}

#[test]
fn attempts_that_are_recorded_are_known_and_are_the_same_when_made_again() {
    let made = attempt(&mut DeskPractice::new(SEED, 0..REQUESTS), true);
    let report = learn(&made, &catalogue(), &mut DeskVerifier::new(SEED, REQUESTS));
    let steps = records(&report.groups, &made);
    let again = attempt(&mut DeskPractice::new(SEED, 0..REQUESTS), true);
    assert_eq!(records(&report.groups, &again), steps);
    assert!(trajectories(steps).iter().all(was_attempted));
    let asked = Agent::student().play(&Request::draw(SEED, 0), None, 1, now());
    assert!(!was_attempted(&recorded(asked.transcript, 0)), "somebody asked for it");
}

fn recorded(transcript: Transcript, n: u64) -> Trajectory {
    let [step, outcome] = journal_lines(&transcript, n);
    let step: Step = serde_json::from_value(step["step"].clone()).unwrap();
    let outcome: Outcome = serde_json::from_value(outcome["outcome"].clone()).unwrap();
    Trajectory {
        id: step.trajectory.clone(),
        steps: vec![JudgedStep { step, outcomes: vec![outcome] }],
    }
}

/// Requests of people who were shown lessons of their own when they were recorded.
fn shown(catalogue: &Catalogue) -> Recordings<'_> {
    let mut recordings = Recordings::new(catalogue, &Scoring::default());
    for n in 0..REQUESTS {
        let block = "<memory release=\"r1\">\n- (m1) When writing, prefer zqprivate.\n</memory>";
        let mut played = Agent::teacher().play(&Request::draw(SEED, n), None, 1, now());
        played.transcript.heard = vec![format!("You are the desk agent.\n\n{block}")];
        assert!(recordings.add(&recorded(played.transcript, n)));
    }
    recordings
}

#[test]
fn nothing_private_comes_in_on_the_way() {
    let declared = catalogue();
    let made = attempt(&mut shown(&declared), true);
    let run = |told: &Transcript| ScoredRun {
        source: told.source.clone(),
        reward: 1.0,
        side: Side::Winner,
    };
    let runs = made.transcripts.iter().map(run).collect();
    let steps = records(&[Group { task: "0".repeat(32).parse().unwrap(), runs }], &made);
    assert!(steps.len() > made.transcripts.len());
    for JudgedStep { step, outcomes } in &steps {
        let said = |message: &Message| message.text();
        let all: String = step.prompt.iter().chain([&step.reply]).map(said).collect();
        assert!(!all.contains("<memory") && !all.contains("zqprivate"), "{all}");
        // Whoever has the person erased finds these steps too.
        let user = step.subject.as_deref().unwrap();
        assert!(user.ends_with("@example.org"));
        // And what names the request quotes none of it.
        let note = outcomes.iter().filter_map(|outcome| outcome.note.as_deref());
        assert!(
            note.into_iter().all(|note| note.len() == "problem memory ".len() + 32),
            "{outcomes:?}"
        );
    }
    // A kind of task that nobody is to learn from gives no examples either.
    let made = attempt(&mut DeskPractice::new(SEED, 0..REQUESTS), true);
    let mut closed = catalogue();
    closed.intents.iter_mut().for_each(|intent| intent.excluded = true);
    let report = learn(&made, &closed, &mut DeskVerifier::new(SEED, REQUESTS));
    assert_eq!(report.groups, []);
    assert!(report.skipped["the kind of task is excluded"] > 0, "{report:#?}");
}

#[test]
fn a_request_that_runs_disagree_on_gives_no_examples() {
    let made = attempt(&mut DeskPractice::new(SEED, 0..REQUESTS), true);
    let settled = learn(&made, &catalogue(), &mut DeskVerifier::new(SEED, REQUESTS));
    let open = learn(&made, &catalogue(), &mut NoVerifier);
    assert!(open.groups.len() < settled.groups.len());
    let teachers = made.transcripts.iter().filter(|told| told.run.part == Part::Teacher).count();
    assert_eq!(teachers as u64, REQUESTS);
}
