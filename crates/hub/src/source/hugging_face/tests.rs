//! Against a small HTTP server in this process that answers the way the hub does.

use std::{
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::Mutex,
    thread,
};

use super::*;
use crate::Sha256;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// Sources do not look at it.
const ANY_DIGEST: &str = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";
const SHORT: Patience =
    Patience { first: Duration::from_millis(400), later: Duration::from_millis(400) };

/// What the server does with a request for the content.
#[derive(Clone, Copy)]
enum Mood {
    Serves,
    /// Sends so many bytes and hangs up.
    HangsUpAfter(usize),
    /// Sends so many bytes and then nothing, without hanging up.
    FallsSilentAfter(usize),
    /// Does not even answer the first request.
    IsSilent,
    HasNoSuchFile,
}

struct Server {
    endpoint: String,
    /// The first byte of each range asked for, but for the one-byte probes.
    asked: Arc<Mutex<Vec<usize>>>,
}

impl Server {
    fn start(content: &[u8], mood: Mood) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (content, log) = (content.to_vec(), Arc::clone(&asked));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (content, log) = (content.clone(), Arc::clone(&log));
                thread::spawn(move || answer(stream.unwrap(), &content, mood, &log).ok());
            }
        });
        Self { endpoint, asked }
    }

    fn asked(&self) -> Vec<usize> {
        self.asked.lock().unwrap().clone()
    }

    fn source(&self, bytes: usize) -> Tiny {
        let endpoint = Some(self.endpoint.as_str());
        let mut source = HuggingFace::new("someone/tiny", COMMIT, endpoint);
        source.patience = SHORT;
        Tiny { source, bytes: bytes as u64 }
    }
}

/// The source, asked for its only file.
struct Tiny {
    source: HuggingFace,
    bytes: u64,
}

impl Tiny {
    fn fetch(&self, scratch: &Path, report: &mut dyn FnMut(u64, u64)) -> Result<PathBuf, String> {
        let file =
            PinnedFile { name: "tiny.gguf", bytes: self.bytes, digest: Sha256::pinned(ANY_DIGEST) };
        self.source.fetch(&file, scratch, report)
    }
}

fn answer(
    mut stream: TcpStream,
    content: &[u8],
    mood: Mood,
    asked: &Mutex<Vec<usize>>,
) -> io::Result<()> {
    let mut range = String::new();
    for line in BufReader::new(stream.try_clone()?).lines() {
        let line = line?.to_lowercase();
        if let Some(value) = line.strip_prefix("range: bytes=") {
            range = value.to_owned();
        }
        if line.is_empty() {
            break;
        }
    }
    let head = match mood {
        Mood::IsSilent => return silence(),
        Mood::HasNoSuchFile => {
            return write!(
                stream,
                "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
        }
        _ => "HTTP/1.1 206 Partial Content",
    };
    let probe = range == "0-0";
    let start: usize = range.split('-').next().unwrap().parse().unwrap();
    let body = if probe { &content[..1] } else { &content[start..] };
    write!(
        stream,
        "{head}\r\nETag: \"the-etag\"\r\nX-Repo-Commit: {COMMIT}\r\nConnection: close\r\n\
         Content-Range: bytes {start}-{}/{}\r\nContent-Length: {}\r\n\r\n",
        start + body.len() - 1,
        content.len(),
        body.len()
    )?;
    if probe {
        return stream.write_all(body);
    }
    asked.lock().unwrap().push(start);
    match mood {
        Mood::HangsUpAfter(bytes) => stream.write_all(&body[..bytes]),
        Mood::FallsSilentAfter(bytes) => {
            stream.write_all(&body[..bytes])?;
            silence()
        }
        _ => stream.write_all(body),
    }
}

fn silence() -> io::Result<()> {
    thread::sleep(Duration::from_secs(5));
    Ok(())
}

fn content() -> Vec<u8> {
    (0..300_000_u32).map(|n| (n.wrapping_mul(n) / 7) as u8).collect()
}

#[test]
fn a_file_arrives_and_is_a_plain_file_that_can_be_moved() {
    let (home, content) = (tempfile::tempdir().unwrap(), content());
    let server = Server::start(&content, Mood::Serves);
    let path = server.source(content.len()).fetch(home.path(), &mut |_, _| {}).unwrap();
    assert_eq!(fs::read(&path).unwrap(), content);
    assert!(path.symlink_metadata().unwrap().is_file(), "not a link");
    assert!(path.starts_with(home.path().canonicalize().unwrap()));
    // A process killed before it could hand the file over does not download it again.
    server.source(content.len()).fetch(home.path(), &mut |_, _| {}).unwrap();
    assert_eq!(server.asked(), [0]);
}

#[test]
fn an_interrupted_download_is_continued_where_it_stopped() {
    let (home, content) = (tempfile::tempdir().unwrap(), content());
    let cut = 123_456;
    for mood in [Mood::HangsUpAfter(cut), Mood::FallsSilentAfter(cut)] {
        let scratch = home.path().join(format!("{}", matches!(mood, Mood::HangsUpAfter(_))));
        fs::create_dir(&scratch).unwrap();
        let mut reported = 0;
        let unreliable = Server::start(&content, mood);
        let failed =
            unreliable.source(content.len()).fetch(&scratch, &mut |done, _| reported = done);
        assert!(failed.is_err());
        if matches!(mood, Mood::FallsSilentAfter(_)) {
            assert_eq!(reported, cut as u64);
        }
        let reliable = Server::start(&content, Mood::Serves);
        let path = reliable.source(content.len()).fetch(&scratch, &mut |_, _| {}).unwrap();
        assert_eq!(reliable.asked(), [cut], "only the rest is asked for");
        assert_eq!(fs::read(path).unwrap(), content);
    }
}

#[test]
fn a_partial_file_that_is_whole_does_not_block_the_download_for_ever() {
    let (home, content) = (tempfile::tempdir().unwrap(), content());
    let blobs = home.path().join("models--someone--tiny/blobs");
    fs::create_dir_all(&blobs).unwrap();
    fs::write(blobs.join("the-etag.part"), &content).unwrap();
    let server = Server::start(&content, Mood::Serves);
    let path = server.source(content.len()).fetch(home.path(), &mut |_, _| {}).unwrap();
    assert_eq!(fs::read(path).unwrap(), content);
}

#[test]
fn a_hub_that_cannot_be_reached_or_does_not_answer_fails_quickly_and_says_so() {
    let home = tempfile::tempdir().unwrap();
    let started = std::time::Instant::now();
    let fetch = |source: Tiny| source.fetch(home.path(), &mut |_, _| {}).unwrap_err();

    let silent = Server::start(b"content", Mood::IsSilent);
    let why = fetch(silent.source(7));
    assert_eq!(why, "nothing arrived for 0.4 s");

    let without = Server::start(b"content", Mood::HasNoSuchFile);
    let why = fetch(without.source(7));
    assert!(why.contains("404"), "{why}");

    // A port that was free a moment ago: nobody listens there.
    let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = Server { endpoint: format!("http://{unused}/"), asked: Arc::default() };
    let why = fetch(nobody.source(7));
    assert!(why.to_lowercase().contains("refused"), "{why}");

    assert!(started.elapsed() < Duration::from_secs(3));
}

#[test]
fn the_label_names_the_repository_and_a_mirror() {
    let source = HuggingFace::new("someone/tiny", COMMIT, None);
    assert_eq!(source.label(), "Hugging Face hub (someone/tiny)");
    let mirror = HuggingFace::new("someone/tiny", COMMIT, Some("http://mirror.local/"));
    assert_eq!(mirror.label(), "Hugging Face hub at http://mirror.local (someone/tiny)");
}
