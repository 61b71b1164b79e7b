//! Every loss, held against values of other implementations, against its own finite differences,
//! and against what must not change it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a value that should be there and is not is what these tests are to find"
)]

mod derivative;
mod invariance;
mod random;
mod tables;
mod torch;
