//! Versions keep their digests: what a builder of another make wrote is written again. Whoever
//! changes a rule on purpose writes the new ones down here.

use understudy_ident::Digest;

use super::{groups::recorded, *};

/// Files and stage counts of a version, without the ids of policies, which change on purpose.
fn digest(data: &Data, suites: &[SuiteFingerprints], steps: Vec<JudgedStep>) -> String {
    let draft = try_build(data, suites, steps).unwrap();
    let told = (&draft.manifest().files, &draft.manifest().stages, &draft.manifest().redacted);
    Digest::of(understudy_manifest::canonical_json(&told).as_bytes()).short()
}

/// Every second step as our own engine would have recorded it, one in ten in a session of a
/// neighbour, and some named as kept.
fn mixed(seed: u64) -> Vec<JudgedStep> {
    let mut steps = traffic(seed, 250);
    let responses: Vec<String> = steps.iter().map(|one| one.step.response_id.clone()).collect();
    let known: Vec<Vec<Message>> = steps.iter().map(|one| one.step.prompt.clone()).collect();
    for (nth, judged) in steps.iter_mut().enumerate() {
        if nth % 10 == 9 {
            judged.step.prompt.clone_from(&known[nth - 1]);
            for outcome in &mut judged.outcomes {
                if let Signal::Regenerate { kept } = &mut outcome.signal {
                    *kept = Some(responses[nth - 1].clone());
                }
            }
        }
        if nth.is_multiple_of(2) || nth % 10 == 9 {
            *judged = recorded(judged.clone());
        }
    }
    steps
}

#[test]
fn builds_give_the_files_they_have_always_given() {
    let held_out = [suite(&["lost order please today"]), suite(&["parcel invoice wrong"])];
    let found: Vec<String> = (0..4)
        .map(|seed| {
            let limit = (seed == 1).then_some(90);
            let data = Data { limit, min_reward: 0.6, ..Data::default() };
            digest(&data, &held_out[..seed as usize % 3], mixed(seed))
        })
        .collect();
    assert_eq!(found, ["631b5551e5d7", "d7026c0af59d", "71f9164543c9", "341d7f2d267c"]);
}
