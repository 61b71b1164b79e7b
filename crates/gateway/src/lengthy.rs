//! Work that takes as long as a request is large: reading it, masking it, recording it.

use tokio::task::block_in_place;

/// From this many bytes on, work is long: a millisecond, and more than a thread takes to change.
const LONG: usize = 64 << 10;

/// Does what grows with `bytes`. Where that is long, the other requests of this thread go on
/// elsewhere meanwhile.
pub(crate) fn lengthy<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    if bytes < LONG { work() } else { block_in_place(work) }
}
