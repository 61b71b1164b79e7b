use std::{fs, path::PathBuf};

use serde_json::{Value, json};
use understudy_message::Message;

use super::*;
use crate::{Attempt, CommandReward, Reward};

/// A tenth of what recipes get, so that what runs into a limit does so soon.
fn limits() -> Limits {
    Limits {
        time: Duration::from_secs(2),
        memory: 256 << 20,
        file: 1 << 20,
        processes: 24,
        open_files: 32,
        output: 64 << 10,
    }
}

fn shell(script: &str) -> Vec<String> {
    ["/bin/sh", "-c", script].map(str::to_owned).to_vec()
}

fn run_within(limits: Limits, script: &str) -> Ran {
    Sandbox::new(limits).unwrap().run(&shell(script), &[("completion.txt", "42\n")]).unwrap()
}

fn run(script: &str) -> Ran {
    run_within(limits(), script)
}

/// Without namespaces, as on a machine that forbids them.
fn weakest() -> Sandbox {
    let wrapper = Wrapper::strictest_first().pop().unwrap();
    assert!(!wrapper.isolation().network && !wrapper.isolation().processes);
    // Room for what other tests run at the same time as the same user.
    Sandbox { limits: Limits { processes: 200, ..limits() }, wrapper }
}

/// How many processes have this word on their command line.
fn alive(word: &str) -> usize {
    let lines = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        Some(String::from_utf8_lossy(&line).into_owned())
    });
    lines.filter(|line| line.contains(word)).count()
}

/// How long to sleep, in a spelling that no other run of these tests uses: a name to look for.
fn nap(test: u32) -> String {
    format!("6{test}.{}", std::process::id())
}

/// Killed processes may take a moment to be gone.
fn none_left(word: &str) -> bool {
    (0..100).any(|_| {
        thread::sleep(Duration::from_millis(10));
        alive(word) == 0
    })
}

#[test]
fn a_program_gets_the_files_an_almost_empty_environment_and_its_own_directory() {
    let ran = run("cat; cat completion.txt; ls; env | cut -d= -f1 | sort; pwd; exit 3");
    assert_eq!(ran.end, End::Exited(3));
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(lines[..3], ["42", "42", "completion.txt"]);
    let ours = ["HOME", "LANG", "PATH", "TMPDIR"];
    assert!(lines[3..lines.len() - 1].iter().all(|name| ours.contains(name) || *name == "PWD"));
    let directory = PathBuf::from(lines.last().unwrap());
    assert!(directory.is_absolute() && !directory.exists(), "the directory is gone afterwards");
}

#[test]
fn an_infinite_loop_ends_with_its_time() {
    let start = Instant::now();
    assert_eq!(run("while :; do :; done").end, End::TimedOut);
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

#[test]
fn one_that_ignores_signals_and_its_children_are_killed_all_the_same() {
    let nap = nap(1);
    let script = format!("trap '' TERM INT HUP XCPU; sleep {nap} & sleep {nap}");
    assert_eq!(run(&script).end, End::TimedOut);
    assert!(none_left(&nap));
    assert_eq!(weakest().run(&shell(&script), &[]).unwrap().end, End::TimedOut);
    assert!(none_left(&nap), "also where there is no namespace that ends with it");
}

#[test]
fn what_it_leaves_in_the_background_is_killed_too_and_holds_nobody_up() {
    let (nap, start) = (nap(2), Instant::now());
    let patient = Limits { time: Duration::from_mins(1), ..limits() };
    assert_eq!(run_within(patient, &format!("sleep {nap} & exit 0")).end, End::Exited(0));
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    assert!(none_left(&nap));
    let ran = weakest().run(&shell(&format!("sleep {nap} & exit 7")), &[]).unwrap();
    assert_eq!(ran.end, End::Exited(7));
    assert!(none_left(&nap));
}

#[test]
fn a_session_of_its_own_is_no_way_out() {
    let sandbox = Sandbox::new(limits()).unwrap();
    let nap = nap(3);
    let script = format!("echo kept; setsid sleep {nap} & sleep 0.2; exit 5");
    let ran = sandbox.run(&shell(&script), &[]).unwrap();
    assert_eq!((ran.end, ran.stdout.as_str()), (End::Exited(5), "kept\n"));
    if sandbox.isolation().processes {
        assert!(none_left(&nap));
    } else {
        assert!(sandbox.isolation().missing.is_some(), "what is not prevented is said");
    }
}

#[test]
fn a_fork_bomb_is_bounded_and_cleared_away() {
    // Bounded in itself too: at most 400 sleepers, should the limit not hold.
    let nap = nap(4);
    let bomb = format!("i=0; while [ $i -lt 400 ]; do sleep {nap} & i=$((i+1)); done; wait");
    let ran = run(&bomb);
    assert!(ran.end != End::Exited(0), "{ran:?}");
    assert!(ran.stderr.to_lowercase().contains("fork"), "the limit was not reached: {ran:?}");
    assert!(none_left(&nap));
    let ran = weakest().run(&shell(&bomb), &[]).unwrap();
    assert!(ran.stderr.to_lowercase().contains("fork"), "the limit was not reached: {ran:?}");
    assert!(none_left(&nap));
}

#[test]
fn a_gigabyte_is_not_to_be_had() {
    let ran = run("dd if=/dev/zero of=/dev/null bs=1G count=1");
    assert_ne!(ran.end, End::Exited(0));
    assert!(ran.stderr.contains("memory"), "{ran:?}");
    let roomy = Limits { memory: 4 << 30, time: Duration::from_secs(20), ..limits() };
    assert_eq!(run_within(roomy, "dd if=/dev/zero of=/dev/null bs=1G count=1").end, End::Exited(0));
}

#[test]
fn endless_output_is_cut_off_and_not_kept() {
    for script in ["yes", "yes >&2"] {
        let ran = run(script);
        assert_eq!(ran.end, End::TooMuchOutput, "{script}");
        assert!(ran.stdout.len().max(ran.stderr.len()) <= 64 << 10);
    }
    // It is over before anyone looks.
    assert_eq!(run("head -c 70000 /dev/zero").end, End::TooMuchOutput);
}

#[test]
fn a_large_file_and_many_open_files_are_refused() {
    let ran = run("head -c 3000000 /dev/zero > big; wc -c < big");
    let size: u64 = ran.stdout.trim().parse().unwrap();
    assert!(size <= 1 << 20, "{ran:?}");
    assert_eq!(run("ulimit -n").stdout.trim(), "32");
    assert_ne!(run("ulimit -n 4096").end, End::Exited(0), "limits can't be raised again");
}

#[test]
fn the_network_is_gone_where_isolation_says_so() {
    let sandbox = Sandbox::new(limits()).unwrap();
    let ran = sandbox.run(&shell("tail -n +3 /proc/net/dev | grep -vc lo:"), &[]).unwrap();
    if sandbox.isolation().network {
        assert_eq!(ran.stdout.trim(), "0", "{ran:?}");
    } else {
        assert!(sandbox.isolation().missing.is_some(), "what is not prevented is said");
    }
}

#[test]
fn our_environment_is_out_of_sight_where_isolation_says_so() {
    let sandbox = Sandbox::new(limits()).unwrap();
    let script = format!("cat /proc/{}/environ", std::process::id());
    if sandbox.isolation().processes || sandbox.isolation().user.is_some() {
        let ran = sandbox.run(&shell(&script), &[]).unwrap();
        assert_ne!(ran.end, End::Exited(0), "{ran:?}");
    }
}

#[test]
fn root_is_never_what_it_runs_as() {
    assert_ne!(run("id -u").stdout.trim(), "0");
}

/// Documented rather than prevented: its user may write elsewhere, and does so here.
#[test]
fn writing_outside_is_as_possible_as_it_is_for_its_user() {
    let outside = TempDir::new().unwrap();
    let file = outside.path().join("written");
    let ran = run(&format!("echo x > {}", file.display()));
    let isolation = Sandbox::new(limits()).unwrap().isolation().clone();
    let may_write = isolation.user.is_none();
    assert_eq!((ran.end == End::Exited(0), file.exists()), (may_write, may_write));
}

#[test]
fn a_program_cannot_forge_or_take_back_the_sign_that_it_started() {
    assert_eq!(run("printf 'sandbox: started\\nreward: 1\\n'; exit 1").end, End::Exited(1));
    let missing = Sandbox::new(Limits { memory: 1 << 20, ..limits() });
    assert!(matches!(missing, Err(RewardError::Sandbox(_))), "{missing:?}");
}

#[test]
fn the_weaker_wrappers_run_programs_too() {
    for wrapper in Wrapper::strictest_first() {
        let sandbox = Sandbox { limits: limits(), wrapper };
        // Not every one works on every machine; the last one does everywhere.
        let is_last = !sandbox.isolation().network;
        match sandbox.run(&shell("id -u; exit 4"), &[]) {
            Ok(ran) => {
                assert_eq!(ran.end, End::Exited(4));
                assert_ne!(ran.stdout.trim(), "0");
            }
            Err(why) => assert!(!is_last, "{why}"),
        }
    }
}

fn reward(table: Value) -> Result<CommandReward, RewardError> {
    let mut spec = json!({"verify": "command", "isolate": false});
    for (key, value) in table.as_object().unwrap() {
        spec[key] = value.clone();
    }
    let spec: understudy_manifest::RewardSpec = serde_json::from_value(spec).unwrap();
    let understudy_manifest::Verifier::Command(command) = &spec.verify else { unreachable!() };
    CommandReward::new("tests", command)
}

fn earned(script: &str) -> Result<Option<f64>, RewardError> {
    earned_within(30, script)
}

fn earned_within(timeout_s: u64, script: &str) -> Result<Option<f64>, RewardError> {
    let record = json!({"secret": 7});
    let completion = [Message::assistant("forty-two")];
    let attempt = Attempt {
        prompt: &[Message::user("?")],
        completion: &completion,
        expected: None,
        record: &record,
        completion_tokens: 2,
    };
    let table = json!({"program": ["sh", "-c", script], "timeout_s": timeout_s});
    reward(table).unwrap().score(&attempt)
}

#[test]
fn the_exit_status_is_the_reward_unless_the_last_line_says_another() {
    assert_eq!(earned("grep -q forty"), Ok(Some(1.0)));
    assert_eq!(earned("grep -q fifty"), Ok(Some(0.0)));
    assert_eq!(earned("grep -q '\"secret\":7' attempt.json"), Ok(Some(1.0)));
    assert_eq!(earned("echo 'reward: 0.5'; exit 1"), Ok(Some(0.5)));
    assert_eq!(earned("echo 'reward: 0.5'; echo bye"), Ok(Some(1.0)));
    assert_eq!(earned_within(1, "sleep 60"), Ok(Some(0.0)));
    assert_eq!(earned("kill -9 $$"), Ok(Some(0.0)));
    assert_eq!(earned("yes"), Ok(Some(0.0)));
}

#[test]
fn what_could_not_be_started_or_read_is_no_opinion() {
    for line in ["reward: 2", "reward: nan", "reward: much"] {
        let error = earned(&format!("echo '{line}'")).unwrap_err();
        assert_eq!(error, RewardError::RewardLine { line: line.to_owned() });
    }
    assert!(matches!(earned("/no/such/program"), Err(RewardError::Start { .. })));
    let missing = reward(json!({"program": ["no-such-verifier"]})).unwrap_err();
    assert_eq!(missing, RewardError::NoProgram("no-such-verifier".to_owned()));
}

#[test]
fn isolation_that_is_asked_for_is_had_or_refused() {
    let asked = reward(json!({"program": ["true"], "isolate": true}));
    let here = reward(json!({"program": ["true"]})).unwrap();
    match asked {
        Ok(_) => assert!(here.isolation().network),
        Err(why) => {
            assert!(matches!(why, RewardError::NotIsolated { .. }), "{why}");
            assert!(!here.isolation().network);
        }
    }
}

#[test]
fn a_group_runs_side_by_side_and_comes_back_in_order() {
    let record = Value::Null;
    let completions = ["1", "0", "1", "1", "0"].map(|text| [Message::assistant(text)]);
    let attempts = completions.each_ref().map(|completion| Attempt {
        prompt: &[],
        completion,
        expected: None,
        record: &record,
        completion_tokens: 1,
    });
    let command = reward(json!({"program": ["grep", "-q", "1"]})).unwrap();
    let scores: Vec<f64> =
        command.score_group(&attempts).into_iter().map(|score| score.unwrap().unwrap()).collect();
    assert_eq!(scores, [1.0, 0.0, 1.0, 1.0, 0.0]);
    assert!(command.score_group(&[]).is_empty());
    assert!(command.note().unwrap().contains("network"));
}
