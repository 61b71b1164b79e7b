use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use serde_json::json;
use understudy_ident::{
    AdapterVersion, Clock, OutcomeId, StepId, SystemClock, TaskName, TrajectoryId,
};
use understudy_inference::{FakeBackend, FinishReason, Served, Student, Timing, Usage};
use understudy_journal::{Config, Journal};
use understudy_manifest::{AdapterManifest, EvalReport, Recipe, Release};
use understudy_message::Message;
use understudy_registry::{
    Change, Override, Protection, Registry, ReleaseRecord, ReleaseState, RollbackTarget,
    StartRelease, Target,
};
use understudy_router::{Route, RouteTable};
use understudy_trajectory::{Arm, Assignment, Course, Outcome, RewardPolicy, Signal, Source, Step};

use crate::{CanaryError, Controller, Parts, Rules, fresh_salt};

struct Stage {
    _directory: tempfile::TempDir,
    registry: Arc<Registry>,
    journal: Journal,
    routes: Arc<RouteTable>,
    student: Arc<dyn Student>,
    release: ReleaseRecord,
}

fn task() -> TaskName {
    "triage".parse().unwrap()
}

fn lineage() -> AdapterManifest {
    serde_json::from_value(json!({
        "schema": 1, "task": "triage", "base": "tiny", "base_digest": "b",
        "tokenizer_digest": "t", "template_digest": "c", "recipe_digest": "0".repeat(64),
        "dataset": {"version": format!("triage@{}", "0".repeat(64)), "sft_rows": 1, "pair_rows": 0},
        "parent": null, "stages": [], "code_version": "0", "device": "cpu", "threads": 1,
        "run": null,
    }))
    .unwrap()
}

/// A report that passes, about an adapter with this content.
fn passing(generation: &str) -> EvalReport {
    serde_json::from_value(json!({
        "schema": EvalReport::SCHEMA, "suite": "triage", "suite_digest": "0".repeat(64),
        "cases": 200, "seed": 17,
        "subjects": [{
            "name": "candidate", "generation": generation, "scores": {}, "latency_ms_p50": 10.0,
            "latency_ms_p95": 20.0, "prompt_tokens": 1, "completion_tokens": 1, "errors": 0
        }],
        "comparisons": [{
            "scorer": "exact", "baseline": "base", "candidate": "candidate", "difference": 0.7,
            "low": 0.6, "high": 0.8, "wins": 150, "losses": 1, "ties": 49, "mcnemar_p": null,
            "minimum_detectable": 0.08, "verdict": "better"
        }],
        "decision": {"passed": true, "checks": []},
    }))
    .unwrap()
}

/// A release of `triage@1` in progress, with the teacher serving.
fn stage() -> Stage {
    let forced = Override { owner: "test".into(), reason: "no gate in this test".into() };
    staged(Some(forced))
}

/// The same with a passing report, because an override of the gate overrides a freeze as well.
fn admitted() -> Stage {
    staged(None)
}

fn staged(forced: Option<Override>) -> Stage {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let registry = Arc::new(Registry::open(&at("registry.db"), &at("adapters")).unwrap());
    let journal = Journal::open(&at("journal.db"), Config::default()).unwrap();
    std::fs::create_dir(at("new")).unwrap();
    std::fs::write(at("new").join("adapter_config.json"), "{}").unwrap();
    // Weights without a tensor: the length of the header, and the header.
    std::fs::write(at("new").join("adapter_model.safetensors"), b"\x02\0\0\0\0\0\0\0{}").unwrap();
    let change = Change::new("test", "a test", &SystemClock);
    let adapter = registry.register(&task(), &at("new"), &lineage(), change).unwrap();
    if forced.is_none() {
        let report = passing(&adapter.record.generation.to_hex());
        registry.attach_report(&adapter.record.version, &report, change).unwrap();
    }
    let release = Release {
        steps: vec![10, 50, 100],
        min_outcomes_per_step: 10,
        margin: 0.2,
        ..Release::default()
    };
    let start = StartRelease {
        candidate: "triage@1".parse::<AdapterVersion>().unwrap(),
        rollback: RollbackTarget {
            target: Target::Teacher,
            loaded_generation: None,
            verified_by: "the teacher needs no loading".to_owned(),
        },
        policy: Rules::of(&release, RewardPolicy::DefaultV1).unwrap().to_value(),
        salt: fresh_salt().to_string(),
        forced,
    };
    let release = registry.start_release(start, change).unwrap();
    let student: Arc<dyn Student> =
        Arc::new(FakeBackend::new("tiny", |_, _| Ok("an answer".to_owned())));
    let routes = Arc::new(RouteTable::default());
    Stage { _directory: directory, registry, journal, routes, student, release }
}

impl Stage {
    fn controller(&self) -> Controller {
        self.controller_at(Arc::new(SystemClock))
    }

    fn controller_at(&self, clock: Arc<dyn Clock>) -> Controller {
        Controller::new(Parts {
            registry: Arc::clone(&self.registry),
            journal: self.journal.clone(),
            routes: Arc::clone(&self.routes),
            student: Arc::clone(&self.student),
            clock,
            tasks: Vec::new(),
            first: Target::Teacher,
            lessons: None,
        })
    }

    fn route(&self) -> Route {
        self.routes.get(&task()).unwrap().route.clone()
    }

    fn state(&self) -> ReleaseState {
        self.registry.release(&self.release.id).unwrap().state
    }

    /// One judged session in each slice: the canary's reply is accepted or abandoned.
    fn session(&self, n: usize, canary_is_good: bool) {
        for (arm, good) in [(Arm::Canary, canary_is_good), (Arm::Stable, true)] {
            let name = format!("{} {n}", arm.as_str());
            let step = step(&name, arm, self.release.id.as_str());
            let outcome = Outcome {
                id: OutcomeId::derived(&name),
                target: understudy_trajectory::Target::Response(step.response_id.clone()),
                signal: if good { Signal::Accept } else { Signal::Abandon },
                source: Source::Explicit,
                at: SystemClock.now(),
                note: None,
                details: None,
            };
            // Every other outcome overtakes its step.
            if n.is_multiple_of(2) {
                self.journal.append_outcome(outcome.clone()).unwrap().wait().unwrap();
            }
            self.journal.append_step(step).unwrap().wait().unwrap();
            self.journal.append_outcome(outcome).unwrap().wait().unwrap();
        }
    }
}

fn step(name: &str, arm: Arm, release: &str) -> Step {
    Step {
        id: StepId::derived(name),
        trajectory: TrajectoryId::derived(name),
        task: task(),
        session: Some(name.to_owned()),
        subject: None,
        response_id: format!("chatcmpl-{name}"),
        at: SystemClock.now(),
        prompt: vec![Message::user("help")],
        reply: Message::assistant("an answer"),
        finish_reason: FinishReason::Stop,
        assignment: Some(Assignment {
            arm,
            analysed: true,
            unit: name.to_owned(),
            u: 0,
            release: Some(release.to_owned()),
            course: Course::default(),
        }),
        served: Served { base: "tiny".to_owned(), adapter: None },
        usage: Usage::default(),
        timing: Timing::default(),
        tools: Vec::new(),
        tokens: None,
        error: None,
    }
}

#[test]
fn a_good_canary_ramps_and_is_promoted_on_evidence() {
    let stage = stage();
    let mut controller = stage.controller();
    controller.tick().unwrap();
    let canary = stage.route().canary.unwrap();
    assert!((canary.share.get() - 0.1).abs() < 1e-9, "the first step's share");
    let mut shares = vec![canary.share.get()];
    for n in 0..200 {
        stage.session(n, true);
        controller.tick().unwrap();
        if let Some(canary) = stage.route().canary {
            shares.push(canary.share.get());
        }
        if !stage.state().is_moving() {
            break;
        }
    }
    assert_eq!(stage.state(), ReleaseState::Promoted);
    assert!(shares.contains(&0.5), "it went through the second step");
    let route = stage.route();
    assert!(route.canary.is_none());
    assert_eq!(stage.registry.stable(&task()).unwrap(), Some("triage@1".parse().unwrap()));
    assert!(matches!(route.stable, understudy_router::Target::Adapter { .. }));
    assert!(route.tap.is_some(), "the teacher keeps its share");
    let audit = stage.registry.audit(Some(&task())).unwrap();
    let promoted = audit.iter().find(|entry| entry.action == "release.promote").unwrap();
    assert!(promoted.evidence.as_ref().unwrap()["journal_seq"].as_u64().unwrap() > 0);
    stage.registry.verify_audit(None).unwrap();
}

#[test]
fn a_bad_canary_is_rolled_back_and_the_route_follows_in_the_same_tick() {
    let stage = stage();
    let mut controller = stage.controller();
    controller.tick().unwrap();
    let mut sessions = 0;
    while stage.state().is_moving() && sessions < 60 {
        stage.session(sessions, false);
        controller.tick().unwrap();
        sessions += 1;
    }
    assert_eq!(stage.state(), ReleaseState::RolledBack);
    assert!(sessions <= 15, "it took {sessions} sessions per slice");
    assert_eq!(stage.route(), Route::to(understudy_router::Target::Teacher));
}

#[test]
fn a_restart_at_any_moment_comes_to_the_same_verdict() {
    for good in [true, false] {
        let stage = stage();
        let mut sessions = 0;
        while stage.state().is_moving() && sessions < 200 {
            stage.session(sessions, good);
            // A new controller knows nothing but the registry and the journal.
            stage.controller().tick().unwrap();
            sessions += 1;
        }
        let expected = if good { ReleaseState::Promoted } else { ReleaseState::RolledBack };
        assert_eq!(stage.state(), expected, "after {sessions} sessions");
    }
}

#[test]
fn what_an_operator_does_takes_effect_at_the_next_tick() {
    let stage = stage();
    let mut controller = stage.controller();
    controller.tick().unwrap();
    assert!(stage.route().canary.is_some());
    let change = Change::new("ada", "looks odd", &SystemClock);
    stage.registry.roll_back(&stage.release.id, change).unwrap();
    controller.tick().unwrap();
    assert_eq!(stage.route(), Route::to(understudy_router::Target::Teacher));
}

#[test]
fn a_candidate_whose_files_were_changed_never_meets_a_user() {
    let stage = stage();
    let directory = stage.registry.directory(&"triage@1".parse().unwrap());
    let weights = directory.join("adapter_model.safetensors");
    let mut permissions = std::fs::metadata(&weights).unwrap().permissions();
    #[expect(clippy::permissions_set_readonly_false, reason = "the test plays the vandal")]
    permissions.set_readonly(false);
    std::fs::set_permissions(&weights, permissions).unwrap();
    std::fs::write(&weights, "other weights").unwrap();
    stage.controller().tick().unwrap();
    assert_eq!(stage.state(), ReleaseState::Failed);
    assert!(stage.route().canary.is_none());
}

#[test]
fn rules_keep_everything_a_recipe_says() {
    let text = "schema = 1\ntask = \"t\"\nbase = \"b\"\n[[train]]\nmethod = \"sft\"\n\
                [gate]\nsuite = \"t\"\n[release]\nsteps = [5, 100]\ntap = 0.25\n\
                rollback_on = [\"reward\", \"cost\"]\nlatency_slo_ms = 1500\nmax_outcomes = 77\n\
                maturation_s = 60\nmin_step_s = 5\nmax_age_s = 9\nmissing = \"worst_case\"\non_small_harm = \"hold\"\ncost_cap = 900\n";
    let release = Recipe::parse("r", text).unwrap().release.unwrap();
    let rules = Rules::of(&release, RewardPolicy::DefaultV1).unwrap();
    assert_eq!(rules.policy.steps.share(0).get(), 0.05);
    assert_eq!(rules.policy.rollback_on, release.rollback_on);
    assert_eq!((rules.policy.max_units, rules.latency_slo_ms), (77, 1500.0));
    assert_eq!(rules.tap.get(), 0.25);
    let policy = rules.policy;
    assert_eq!((policy.maturation_ms, policy.cost_cap), (60_000, Some(900.0)));
    assert_eq!((policy.min_step_ms, policy.max_age_ms), (5_000, Some(9_000)));
    assert_eq!((policy.missing, policy.on_small_harm), (release.missing, release.on_small_harm));
    assert_ne!((release.missing, release.on_small_harm), Default::default());
}

#[test]
fn a_reward_that_is_waited_for_counts_when_its_time_has_passed() {
    let mut release = stage().release;
    release.policy["policy"]["maturation_ms"] = json!(60_000);
    let stage = stage();
    let clock = understudy_ident::ManualClock::default();
    let mut watch = crate::watch::Watch::begin(&release, &[]).unwrap();
    let at = |name: &str| Step { at: clock.now(), ..step(name, Arm::Canary, release.id.as_str()) };
    let put = |step: Step| stage.journal.append_step(step).unwrap().wait().unwrap();
    let first = at("first");
    let outcome = Outcome {
        id: OutcomeId::derived("accepted"),
        target: understudy_trajectory::Target::Response(first.response_id.clone()),
        signal: Signal::Accept,
        source: Source::Explicit,
        // A client may say what it likes about the time.
        at: "2099-01-01T00:00:00Z".parse().unwrap(),
        note: None,
        details: None,
    };
    put(first);
    stage.journal.append_outcome(outcome).unwrap().wait().unwrap();
    clock.advance_ms(60_000);
    put(at("second"));
    watch.read(&stage.journal).unwrap();
    assert_eq!(watch.summary(understudy_router::Side::Canary).rewarded, 0);
    clock.advance_ms(1);
    put(at("third"));
    watch.read(&stage.journal).unwrap();
    assert_eq!(watch.summary(understudy_router::Side::Canary).rewarded, 1);
}

#[test]
fn a_release_whose_evidence_cannot_be_read_is_paused_after_four_tries() {
    let stage = stage();
    let mut controller = stage.controller();
    controller.tick().unwrap();
    let lost = || CanaryError::Unreadable { release: "r".to_owned(), why: "gone".to_owned() };
    for _ in 0..3 {
        assert!(controller.blind(&task(), &stage.release, lost()).is_err());
        assert_eq!(stage.state(), ReleaseState::Ramping);
    }
    let note = controller.blind(&task(), &stage.release, lost()).unwrap();
    assert!(note.text.contains("gone"), "{}", note.text);
    assert_eq!(stage.state(), ReleaseState::Paused);
    controller.tick().unwrap();
    assert!(stage.route().canary.is_none());
    // Once it can be read again, the count begins anew.
    let change = Change::new("ada", "the disk is back", &SystemClock);
    stage.registry.resume(&stage.release.id, stage.release.revision + 2, change).unwrap();
    controller.tick().unwrap();
    assert!(controller.blind(&task(), &stage.release, lost()).is_err());
}

#[test]
fn in_a_freeze_the_ramp_waits_and_a_bad_canary_still_goes() {
    let stage = admitted();
    let change = Change::new("ada", "the holidays", &SystemClock);
    let freeze = stage.registry.freeze(None, None, None, change).unwrap();
    let mut controller = stage.controller();
    controller.tick().unwrap();
    assert_eq!(stage.state(), ReleaseState::Staging);
    assert!(stage.route().canary.is_none());
    stage.registry.lift_freeze(&freeze.id, change).unwrap();
    controller.tick().unwrap();
    assert_eq!(stage.state(), ReleaseState::Ramping);
    stage.registry.freeze(None, None, None, change).unwrap();
    for n in 0..40 {
        stage.session(n, true);
        controller.tick().unwrap();
    }
    let release = stage.registry.release(&stage.release.id).unwrap();
    assert_eq!((release.state, release.step), (ReleaseState::Ramping, 0));
    for n in 40..200 {
        stage.session(n, false);
        controller.tick().unwrap();
    }
    assert_eq!(stage.state(), ReleaseState::RolledBack);
}

#[test]
fn where_people_decide_the_controller_asks_and_takes_the_canary_off_the_route() {
    let stage = stage();
    let change = Change::new("ada", "we read the evidence first", &SystemClock);
    let rules = Protection { promote_by_hand: true, ..Protection::default() };
    stage.registry.protect(&task(), &rules, change).unwrap();
    let mut controller = stage.controller();
    for n in 0..200 {
        stage.session(n, true);
        controller.tick().unwrap();
    }
    assert_eq!(stage.state(), ReleaseState::AwaitingApproval);
    assert!(stage.route().canary.is_none());
    let release = stage.registry.release(&stage.release.id).unwrap();
    stage.registry.promote(&release.id, release.revision, change).unwrap();
    controller.tick().unwrap();
    assert!(matches!(stage.route().stable, understudy_router::Target::Adapter { .. }));
}

#[test]
fn a_candidate_that_half_of_the_replicas_leave_alone_goes_back_at_once() {
    let out = Arc::new(AtomicUsize::new(0));
    let fake = FakeBackend::new("tiny", |_, _| Ok("an answer".to_owned()));
    let student: Arc<dyn Student> = Arc::new(fake.on_replicas(Arc::clone(&out), 4));
    let stage = Stage { student, ..stage() };
    let mut controller = stage.controller();
    controller.tick().unwrap();
    out.store(1, Ordering::Relaxed);
    controller.tick().unwrap();
    assert!(stage.state().is_moving(), "one replica of four may be ill by itself");
    out.store(2, Ordering::Relaxed);
    let notes = controller.tick().unwrap();
    assert_eq!(stage.state(), ReleaseState::RolledBack);
    assert!(notes.iter().any(|note| note.text.contains("2 of 4 replicas")), "{notes:?}");
    assert!(stage.route().canary.is_none(), "in the same tick");
}

#[test]
fn replies_that_another_gave_count_as_errors_of_the_canary() {
    let stage = stage();
    let mut controller = stage.controller();
    controller.tick().unwrap();
    let mut sessions = 0;
    while stage.state().is_moving() && sessions < 40 {
        for (arm, fallback) in [(Arm::Canary, Some("failed".to_owned())), (Arm::Stable, None)] {
            let name = format!("{} {sessions}", arm.as_str());
            let mut step = step(&name, arm, stage.release.id.as_str());
            step.assignment.as_mut().unwrap().course = Course { fallback, ..Course::default() };
            let liked = Outcome {
                id: OutcomeId::derived(&name),
                target: understudy_trajectory::Target::Response(step.response_id.clone()),
                signal: Signal::Accept,
                source: Source::Explicit,
                at: SystemClock.now(),
                note: None,
                details: None,
            };
            stage.journal.append_step(step).unwrap().wait().unwrap();
            stage.journal.append_outcome(liked).unwrap().wait().unwrap();
        }
        controller.tick().unwrap();
        sessions += 1;
    }
    assert_eq!(stage.state(), ReleaseState::RolledBack, "though users liked every reply");
    assert!(sessions <= 5, "it took {sessions}");
    let audit = stage.registry.audit(Some(&task())).unwrap();
    let back = audit.iter().find(|entry| entry.action.contains("roll")).unwrap();
    assert!(back.reason.contains("errors"), "{}", back.reason);
}

#[test]
fn what_was_said_beside_is_no_evidence() {
    let stage = stage();
    let mut controller = stage.controller();
    controller.tick().unwrap();
    for n in 0..20 {
        let mut step = step(&format!("c {n}"), Arm::Canary, stage.release.id.as_str());
        step.error = Some("down".to_owned());
        let beside = Some(StepId::derived("told"));
        step.assignment.as_mut().unwrap().course = Course { beside, ..Course::default() };
        stage.journal.append_step(step).unwrap().wait().unwrap();
    }
    controller.tick().unwrap();
    assert!(stage.state().is_moving());
}

#[test]
fn a_recipe_says_who_stands_beside_the_arms() {
    let shadow = understudy_manifest::Shadow { share: 0.5 };
    let observe = understudy_manifest::Observe { share: 0.1, on_cue: Some(0.3) };
    let release = Release {
        shadow: Some(shadow),
        observe: Some(observe.clone()),
        escalate: Some(understudy_manifest::Escalate::default()),
        long_reply_tokens: Some(80),
        ..Release::default()
    };
    let rules = Rules::of(&release, RewardPolicy::DefaultV1).unwrap();
    let again: Rules = serde_json::from_value(rules.to_value()).unwrap();
    assert_eq!(again, rules);
    let candidate = understudy_router::Target::Base;
    let support = rules.support(&task(), Some(candidate.clone()));
    assert_eq!(support.observe.as_ref().unwrap().rules, observe);
    let shadow = support.shadow.unwrap();
    assert_eq!((shadow.target, shadow.share.get()), (candidate, 0.5));
    assert_ne!(shadow.salt, support.observe.unwrap().salt);
    assert!(rules.support(&task(), None).shadow.is_none(), "without a candidate nobody is watched");
}

#[test]
fn what_was_recorded_before_the_candidate_was_on_stage_is_not_read() {
    let stage = stage();
    for n in 0..20 {
        stage.session(n, false);
    }
    let before = stage.journal.watermark().unwrap();
    stage.controller().tick().unwrap();
    let audit = stage.registry.audit(Some(&task())).unwrap();
    let release = stage.registry.release(&stage.release.id).unwrap();
    let mut watch = crate::watch::Watch::begin(&release, &audit).unwrap();
    assert_eq!(watch.read_to, before);
    stage.session(20, true);
    watch.read(&stage.journal).unwrap();
    let canary = watch.summary(understudy_router::Side::Canary);
    assert_eq!((canary.units, canary.rewarded, canary.successes), (1, 1, 1));
}

#[test]
fn an_examiner_that_read_on_sees_what_one_sees_that_reads_it_all() {
    let stage = stage();
    let mut controller = stage.controller();
    controller.tick().unwrap();
    let mut examiner = crate::Examiner::default();
    let open = || stage.registry.release(&stage.release.id).unwrap();
    for n in 0..30 {
        stage.session(n, true);
        controller.tick().unwrap();
        let release = open();
        let read_on = examiner.examine(&stage.registry, &stage.journal, &release).unwrap();
        let mut other = crate::Examiner::default();
        let afresh = other.examine(&stage.registry, &stage.journal, &release).unwrap();
        assert_eq!(read_on, afresh, "after {n}");
        assert_eq!(read_on.unwrap().canary.rewarded, n as u64 + 1);
    }
    assert!(open().step > 0, "a step was left meanwhile");
    let decided = crate::decided(&stage.registry, &open()).unwrap();
    assert!(decided.iter().any(|one| one.action == "release.advance" && one.evidence.is_some()));
    stage.registry.abort(&stage.release.id, Change::new("ada", "enough", &SystemClock)).unwrap();
    assert!(examiner.examine(&stage.registry, &stage.journal, &open()).unwrap().is_none());
}

#[test]
fn an_outcome_that_names_a_session_waits_for_its_step_and_others_do_not_matter() {
    let stage = stage();
    stage.controller().tick().unwrap();
    let audit = stage.registry.audit(Some(&task())).unwrap();
    let release = stage.registry.release(&stage.release.id).unwrap();
    let mut watch = crate::watch::Watch::begin(&release, &audit).unwrap();
    let say = |name: &str, target| {
        let outcome = Outcome {
            id: OutcomeId::derived(name),
            target,
            signal: Signal::Accept,
            source: Source::Explicit,
            at: SystemClock.now(),
            note: None,
            details: None,
        };
        stage.journal.append_outcome(outcome).unwrap().wait().unwrap();
    };
    say("early", understudy_trajectory::Target::Session("visitor".to_owned()));
    say("astray", understudy_trajectory::Target::Response("chatcmpl-nobody".to_owned()));
    watch.read(&stage.journal).unwrap();
    let step = step("visitor", Arm::Canary, release.id.as_str());
    stage.journal.append_step(step).unwrap().wait().unwrap();
    watch.read(&stage.journal).unwrap();
    assert_eq!(watch.summary(understudy_router::Side::Canary).rewarded, 1);
}

#[test]
fn clients_that_hang_up_send_no_harmless_canary_back() {
    let stage = stage();
    let mut controller = stage.controller();
    controller.tick().unwrap();
    let hang_up = |n: usize, waited_ms: f64| {
        for arm in [Arm::Canary, Arm::Stable] {
            let name = format!("{} left {n}", arm.as_str());
            let mut step = step(&name, arm, stage.release.id.as_str());
            step.error = Some("the client went away".to_owned());
            step.timing.total_ms = waited_ms;
            step.assignment.as_mut().unwrap().course = Course { left: true, ..Course::default() };
            stage.journal.append_step(step).unwrap().wait().unwrap();
        }
    };
    for n in 0..200 {
        if n % 10 == 0 {
            hang_up(n, 300.0);
        }
        stage.session(n, true);
        controller.tick().unwrap();
        if !stage.state().is_moving() {
            break;
        }
    }
    assert_eq!(stage.state(), ReleaseState::Promoted);
}

#[test]
fn a_canary_that_nobody_has_the_patience_for_goes_back_all_the_same() {
    let stage = stage();
    let mut controller = stage.controller();
    controller.tick().unwrap();
    for n in 0..10 {
        let mut step = step(&format!("hung {n}"), Arm::Canary, stage.release.id.as_str());
        step.error = Some("the client went away".to_owned());
        step.timing.total_ms = 30_000.0;
        step.assignment.as_mut().unwrap().course = Course { left: true, ..Course::default() };
        stage.journal.append_step(step).unwrap().wait().unwrap();
    }
    controller.tick().unwrap();
    assert_eq!(stage.state(), ReleaseState::RolledBack);
    let release = stage.registry.release(&stage.release.id).unwrap();
    assert!(release.changed_because.contains("slow replies"), "{}", release.changed_because);
}

#[test]
fn a_canary_that_nobody_watches_is_taken_off_until_somebody_does_again() {
    let stage = stage();
    let mut controller = stage.controller();
    controller.tick().unwrap();
    let (dead_man, lease) = (controller.dead_man(), std::time::Duration::from_secs(5));
    let now = std::time::Instant::now();
    assert!(dead_man.check(now + lease / 2, lease).is_empty());
    assert!(stage.route().canary.is_some());
    // The controller's thread is gone, or hangs, or finds no registry to read.
    let notes = dead_man.check(now + lease * 2, lease);
    assert!(notes[0].text.contains("nobody has watched the canary for 5 s"), "{notes:?}");
    assert_eq!(stage.route().stable, understudy_router::Target::Teacher);
    assert!(stage.route().canary.is_none() && stage.route().support.shadow.is_none());
    assert!(dead_man.check(now + lease * 3, lease).is_empty(), "it is said once");
    assert_eq!(stage.state(), ReleaseState::Ramping, "which is for the registry to say");
    controller.tick().unwrap();
    assert!(stage.route().canary.is_some());
}

/// The same with other rules, started anew.
fn with_rules(change: impl Fn(&mut understudy_router::Policy)) -> Stage {
    let mut stage = stage();
    let now = Change::new("test", "with other rules", &SystemClock);
    stage.registry.abort(&stage.release.id, now).unwrap();
    let mut rules: Rules = serde_json::from_value(stage.release.policy.clone()).unwrap();
    change(&mut rules.policy);
    let start = StartRelease {
        candidate: stage.release.candidate.clone(),
        rollback: stage.release.rollback.clone(),
        policy: rules.to_value(),
        salt: fresh_salt().to_string(),
        forced: stage.release.forced.clone(),
    };
    stage.release = stage.registry.start_release(start, now).unwrap();
    stage
}

impl Stage {
    fn paused_because(&self) -> Option<understudy_registry::PauseReason> {
        self.registry.release(&self.release.id).unwrap().paused_because
    }

    fn resume(&self, clock: &dyn Clock) {
        let revision = self.registry.release(&self.release.id).unwrap().revision;
        let change = Change::new("ada", "read it, and it may go on", clock);
        self.registry.resume(&self.release.id, revision, change).unwrap();
    }

    fn served(&self, name: &str, arm: Arm, at: understudy_ident::Timestamp) {
        let step = Step { at, ..step(name, arm, self.release.id.as_str()) };
        self.journal.append_step(step).unwrap().wait().unwrap();
    }
}

#[test]
fn a_release_grows_old_without_any_traffic_and_a_person_may_give_it_more_time() {
    let stage = stage();
    let clock = Arc::new(understudy_ident::ManualClock::default());
    let mut controller = stage.controller_at(clock.clone());
    controller.tick().unwrap();
    let day = 24 * 3_600_000;
    clock.advance_ms(13 * day);
    controller.tick().unwrap();
    assert_eq!(stage.state(), ReleaseState::Ramping);
    clock.advance_ms(day);
    controller.tick().unwrap();
    assert_eq!(stage.paused_because(), Some(understudy_registry::PauseReason::Inconclusive));
    for mut controller in [controller, stage.controller_at(clock.clone())] {
        stage.resume(&*clock);
        controller.tick().unwrap();
        assert_eq!(stage.state(), ReleaseState::Ramping, "it has a fortnight again");
        clock.advance_ms(14 * day);
        controller.tick().unwrap();
        assert_eq!(stage.state(), ReleaseState::Paused);
    }
}

#[test]
fn a_release_that_a_person_lets_go_on_does_go_on() {
    use understudy_registry::PauseReason;
    let silent = with_rules(|policy| policy.max_silent_units = 6);
    let spent = with_rules(|policy| policy.max_units = 3);
    for (stage, because) in [(silent, PauseReason::LowTraffic), (spent, PauseReason::Inconclusive)]
    {
        let mut controller = stage.controller();
        controller.tick().unwrap();
        for round in 0..2 {
            for n in 0..3 {
                assert_eq!(stage.state(), ReleaseState::Ramping, "{because:?} {round} {n}");
                for arm in [Arm::Canary, Arm::Stable] {
                    let name = format!("{} {round} {n}", arm.as_str());
                    stage.served(&name, arm, SystemClock.now());
                }
                controller.tick().unwrap();
            }
            assert_eq!(stage.paused_because(), Some(because));
            stage.resume(&SystemClock);
            controller.tick().unwrap();
            assert_eq!(stage.state(), ReleaseState::Ramping, "{because:?}");
            // A server that starts anew comes to the same.
            controller = stage.controller();
            controller.tick().unwrap();
            assert_eq!(stage.state(), ReleaseState::Ramping, "{because:?}");
        }
    }
}

#[test]
fn a_comparison_that_was_not_valid_begins_anew_when_a_person_lets_it_go_on() {
    let stage = stage();
    let mut controller = stage.controller();
    controller.tick().unwrap();
    // Units of one side only.
    for n in 0..60 {
        stage.served(&format!("lopsided {n}"), Arm::Canary, SystemClock.now());
    }
    controller.tick().unwrap();
    assert_eq!(stage.paused_because(), Some(understudy_registry::PauseReason::Invalid));
    stage.resume(&SystemClock);
    controller.tick().unwrap();
    assert_eq!(stage.state(), ReleaseState::Ramping);
    // Late news of what was void is no news.
    stage.served("late", Arm::Canary, stage.release.started_at);
    for n in 0..5 {
        stage.session(n, true);
    }
    stage.controller().tick().unwrap();
    controller.tick().unwrap();
    assert_eq!(stage.state(), ReleaseState::Ramping);
    let audit = stage.registry.audit(Some(&task())).unwrap();
    let release = stage.registry.release(&stage.release.id).unwrap();
    let mut watch = crate::watch::Watch::begin(&release, &audit).unwrap();
    watch.read(&stage.journal).unwrap();
    assert_eq!(watch.summary(understudy_router::Side::Canary).units, 5);
}
