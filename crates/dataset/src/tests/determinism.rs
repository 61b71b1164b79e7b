use rand::seq::SliceRandom;

use super::*;

#[test]
fn any_order_of_arrival_gives_the_same_version() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let data = Data { limit: Some(150), ..Data::default() };
    for seed in 0..20 {
        let steps = traffic(seed, 120);
        let expected = try_build(&data, &[suite(&["lost order"])], steps.clone()).unwrap();
        let mut shuffled = steps;
        for judged in &mut shuffled {
            judged.outcomes.shuffle(&mut rng);
        }
        shuffled.shuffle(&mut rng);
        // Half of them come twice.
        let twice = shuffled[..shuffled.len() / 2].to_vec();
        let once = try_build(&data, &[suite(&["lost order"])], shuffled.clone()).unwrap();
        assert_eq!(once.version(), expected.version());
        assert_eq!(once, expected);
        // Only the count of repeated steps may tell that some came twice.
        let again = try_build(&data, &[suite(&["lost order"])], shuffled.into_iter().chain(twice));
        let again = again.unwrap();
        for file in &expected.manifest().files {
            assert_eq!(again.file(&file.path).unwrap(), expected.file(&file.path).unwrap());
        }
    }
}

#[test]
fn any_number_of_threads_gives_the_same_version() {
    let steps = traffic(5, 900);
    let built = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let build = || try_build(&Data::default(), &[suite(&["lost order"])], steps.clone());
        pool.install(build).unwrap()
    };
    let (one, many) = (built(1), built(7));
    assert_eq!(one, many);
    for file in &one.manifest().files {
        assert_eq!(one.file(&file.path).unwrap(), many.file(&file.path).unwrap());
    }
}

#[test]
fn the_seed_moves_only_the_split() {
    let (task, data, now) = (task(), Data::default(), at(86_400_000));
    let lines = |seed: u64| {
        let request = Request { task: &task, data: &data, seed, sources: &[], suites: &[], now };
        let draft = build(request, trajectories(traffic(3, 200))).unwrap();
        let of =
            |path: &str| draft.file(path).unwrap().unwrap().lines().map(str::to_owned).collect();
        let (train, dev): (Vec<String>, Vec<String>) = (of("sft.train.jsonl"), of("sft.dev.jsonl"));
        let mut all = [train, dev.clone()].concat();
        all.sort();
        (all, dev)
    };
    let (one, other) = (lines(17), lines(18));
    assert_eq!(one.0, other.0);
    assert_ne!(one.1, other.1);
}

#[test]
fn more_traffic_leaves_what_was_held_out_held_out() {
    let share = |steps: Vec<JudgedStep>| {
        let draft = try_build(&Data::default(), &[], steps).unwrap();
        let (_root, frozen) = freeze(&draft);
        let origins = |split| -> std::collections::BTreeSet<String> {
            frozen.sft(split).unwrap().into_iter().map(|row| row.origin.steps.concat()).collect()
        };
        (origins(Split::Train), origins(Split::Dev))
    };
    // Strangers: nobody returns, so nothing ties old sessions to new ones.
    let strangers = |count: usize| {
        let mut steps = traffic(4, count);
        for judged in &mut steps {
            judged.step.subject = None;
        }
        steps
    };
    let (train, dev) = share(strangers(200));
    let (more_train, more_dev) = share(strangers(400));
    assert!(dev.len() > 10 && dev.is_subset(&more_dev) && train.is_subset(&more_train));
}

/// What another task or nobody's words add to a journal makes no row.
#[test]
fn how_far_the_journal_went_names_no_version_and_is_told_beside_it() {
    let (task, data, now) = (task(), Data::default(), at(86_400_000));
    let steps = || trajectories(traffic(3, 60));
    let built = |sources: &[String], seed: u64| {
        let request = Request { task: &task, data: &data, seed, sources, suites: &[], now };
        build(request, steps()).unwrap()
    };
    let upto = |record: u64| [format!("journal up to record {record}")];
    let (first, second) = (built(&upto(7), 17), built(&upto(99), 17));
    assert_eq!(first.version(), second.version());
    assert_ne!(first.version(), built(&upto(7), 18).version());
    let (root, frozen) = freeze(&first);
    assert_eq!(second.freeze(root.path()).unwrap(), frozen);
    assert_eq!(frozen.beside().unwrap().sources, upto(7));
    let manifest = frozen.manifest();
    assert_eq!((manifest.data.as_ref(), manifest.seed), (Some(&data), Some(17)));
}

/// `manifest.json` of a version that was frozen before settings were in it is what it was.
#[test]
fn manifests_of_before_keep_their_digests() {
    let text = r#"{"decontaminated_against":[],"files":[],"holdout":0.2,"redacted":{},"redaction":"off","reward_policy":"default@1","schema":1,"sources":["journal up to record 7"],"stages":[],"task":"support-triage"}"#;
    let manifest: understudy_manifest::DatasetManifest = serde_json::from_str(text).unwrap();
    assert_eq!(understudy_manifest::canonical_json(&manifest), text);
}
