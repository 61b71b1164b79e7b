//! What a pull tells while it runs, for a person to watch.

/// One event of a pull. The order is: perhaps `Waiting`; then per source `Trying`, any number of
/// `Bytes`, and `Verifying` or `Failed` or both; and `Done` at the end of a pull that succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Another process is pulling the same model; this one waits for it to end.
    Waiting,
    Trying {
        source: String,
    },
    /// How far the transfer is. `total` belongs to what this source sends, which may be packed.
    Bytes {
        done: u64,
        total: u64,
    },
    /// The bytes are here and their digest is being computed.
    Verifying,
    Failed {
        source: String,
        why: String,
    },
    Done,
}
