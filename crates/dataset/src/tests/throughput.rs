//! How fast and in how much memory a dataset is built; small unless asked otherwise:
//! `UNDERSTUDY_BENCH_STEPS=1000000 cargo test --release -p understudy-dataset -- --nocapture many_steps`,
//! or `many_recorded_steps`.

use std::time::Instant;

use super::{groups::recorded, *};

#[test]
fn many_steps_are_all_accounted_for() {
    let draft = build_many(|judged| judged);
    assert_eq!(count(&draft, "build", "sft"), draft.manifest().stages[0].rows_in);
}

/// The same with tokens: what remembering attempts costs where few of them share a prompt.
#[test]
fn many_recorded_steps_are_all_accounted_for() {
    let draft = build_many(|mut judged| {
        judged = recorded(judged);
        let tokens = judged.step.tokens.as_mut().unwrap();
        // Every prompt is its own, but for one that two steps were asked.
        tokens.prompt_ids.resize(500, 0);
        if ["chatcmpl-3", "chatcmpl-7"].contains(&judged.step.response_id.as_str()) {
            tokens.prompt_ids.fill(0);
        }
        judged
    });
    assert_eq!(count(&draft, "group", "no_difference"), 1);
}

fn build_many(change: impl Fn(JudgedStep) -> JudgedStep) -> Draft {
    let count = std::env::var("UNDERSTUDY_BENCH_STEPS").ok().and_then(|text| text.parse().ok());
    let count: u64 = count.unwrap_or(2_000);
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let cases: Vec<String> = (0..300).map(|_| sentence(&mut rng, 14)).collect();
    let cases: Vec<&str> = cases.iter().map(String::as_str).collect();
    let steps = (0..count).map(|nth| {
        let name = nth.to_string();
        let prompt = format!("{} mail u{nth}@x.example", sentence(&mut rng, 12));
        change(with(step(&name, &name, &prompt, &sentence(&mut rng, 10)), Signal::Accept))
    });
    let started = Instant::now();
    let draft = try_build(&all_train(), &[suite(&cases)], steps).unwrap();
    let memory = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = memory.lines().find(|line| line.starts_with("VmHWM")).unwrap_or("peak unknown");
    println!("{count} steps in {:.1} s; {peak}", started.elapsed().as_secs_f64());
    assert_eq!(draft.manifest().stages[0].rows_in, count);
    draft
}
