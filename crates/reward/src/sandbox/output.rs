//! What a child prints, as far as it is wanted.

use std::{
    io::Read,
    sync::{
        Arc,
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
    bytes: Receiver<Vec<u8>>,
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
        let (send, bytes) = mpsc::channel();
        let overflow = Arc::clone(overflow);
        thread::spawn(move || {
            let mut read = Vec::new();
            if let Some(stream) = stream {
                // An error ends the stream like its end does.
                let _: Result<usize, _> = stream.take(limit as u64 + 1).read_to_end(&mut read);
            }
            if read.len() > limit {
                read.truncate(limit);
                overflow.0.store(true, Ordering::Release);
            }
            // Nobody is listening if it took too long.
            let _: Result<(), _> = send.send(read);
        });
        Self { bytes }
    }

    pub(super) fn text(self) -> String {
        let bytes = self.bytes.recv_timeout(STRAGGLERS).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}
