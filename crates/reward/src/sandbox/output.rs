//! What a child prints, as far as it is wanted.

use std::{
    io::Read,
    mem,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver},
    },
    thread,
    time::Duration,
};

/// Set once a stream has given more than it may.
#[derive(Debug, Default)]
pub(super) struct Overflow(AtomicBool);

impl Overflow {
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// One stream, read on a thread of its own so that a full pipe never blocks the child.
pub(super) struct Capture {
    bytes: Arc<Mutex<Vec<u8>>>,
    /// Nothing is ever sent: it hangs up when the stream has ended.
    ended: Receiver<()>,
}

/// How long a stream may stay open after every process we know of was killed: one that left the
/// group and kept the pipe must not hold us up.
const STRAGGLERS: Duration = Duration::from_millis(500);

impl Capture {
    pub(super) fn start(
        stream: Option<impl Read + Send + 'static>,
        limit: usize,
        overflow: &Arc<Overflow>,
    ) -> Self {
        let (reading, ended) = mpsc::channel();
        let bytes = Arc::<Mutex<Vec<u8>>>::default();
        let (kept, overflow) = (Arc::clone(&bytes), Arc::clone(overflow));
        thread::spawn(move || {
            if let Some(stream) = stream {
                keep(stream, limit, &kept, &overflow);
            }
            drop(reading);
        });
        Self { bytes, ended }
    }

    /// What came until the stream's end, or until nobody waits for it any longer.
    pub(super) fn text(self) -> String {
        let _: Result<(), _> = self.ended.recv_timeout(STRAGGLERS);
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&mem::take(&mut *bytes)).into_owned()
    }
}

/// An error ends the stream like its end does.
fn keep(mut stream: impl Read, limit: usize, kept: &Mutex<Vec<u8>>, overflow: &Overflow) {
    let mut chunk = [0; 8 << 10];
    let mut left = limit;
    while let Ok(read @ 1..) = stream.read(&mut chunk) {
        let fits = read.min(left);
        kept.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&chunk[..fits]);
        left -= fits;
        if fits < read {
            overflow.0.store(true, Ordering::Release);
            return;
        }
    }
}
