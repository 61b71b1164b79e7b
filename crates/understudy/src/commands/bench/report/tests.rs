use super::*;

const QUIET: Load = Load { before: Some(0.1), others: Some(0.0) };

fn entry(program: Program, dtype: Dtype, seconds: f64, bytes: u64) -> Entry {
    let job = Job {
        base: "base.gguf".into(),
        work: "work.json".into(),
        step: Step::Sft,
        program,
        dtype,
        threads: 2,
        steps: 1,
    };
    let measured = Measured {
        seconds: vec![seconds],
        cpu_seconds: vec![2.0 * seconds],
        tokens: 2048,
        peak_rss_bytes: bytes,
        note: None,
        floor: None,
        profile: None,
    };
    Entry::of(&job, Ok(measured), QUIET).unwrap()
}

#[test]
fn the_better_of_each_side_counts_and_memory_is_that_of_the_same_peer() {
    let entries = [
        entry(Program::Understudy, Dtype::Bfloat16, 2.0, 1_000),
        entry(Program::Understudy, Dtype::Float32, 3.0, 900),
        entry(Program::Torch, Dtype::Bfloat16, 5.0, 4_000),
        entry(Program::Torch, Dtype::Float32, 9.0, 8_000),
        entry(Program::Trl, Dtype::Bfloat16, 7.0, 2_500),
    ];
    let ratio = Ratio::of(Step::Sft, &entries).unwrap();
    assert_eq!(
        (ratio.ours, ratio.peer, ratio.peer_dtype),
        (Dtype::Bfloat16, Program::Torch, Dtype::Bfloat16)
    );
    assert_eq!((ratio.time, ratio.memory, ratio.memory_least), (2.5, 0.25, 0.4));
    assert_eq!(Ratio::of(Step::Grpo, &entries), None);
    assert_eq!(Ratio::of(Step::Sft, &entries[..2]), None);
}

#[test]
fn a_peer_that_failed_is_said_and_ours_ends_the_benchmark() {
    let job = |program| Job {
        base: "base.gguf".into(),
        work: "work.json".into(),
        step: Step::Dpo,
        program,
        dtype: Dtype::Float32,
        threads: 2,
        steps: 1,
    };
    let failure = || Err(anyhow::anyhow!("out of memory"));
    let entry = Entry::of(&job(Program::Trl), failure(), QUIET).unwrap();
    assert!(entry.line().contains("not measured: out of memory"), "{}", entry.line());
    let error = Entry::of(&job(Program::Understudy), failure(), QUIET).unwrap_err();
    assert!(error.to_string().contains("dpo understudy f32"), "{error}");
}

#[test]
fn a_busy_machine_is_flagged() {
    let mut entry = entry(Program::Torch, Dtype::Float32, 1.0, 1);
    assert!(!entry.line().contains('*'));
    entry.load.before = Some(3.0);
    entry.busy = entry.load.is_busy();
    assert!(entry.line().ends_with('*'), "{}", entry.line());
}

#[test]
fn the_median_of_an_even_count_lies_between() {
    assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
    assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
    assert!(median(&[]).is_nan());
}
