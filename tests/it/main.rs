//! The one integration-test binary: the product as its users meet it, and the rules of the house.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod bench;
mod cases;
mod cli;
mod datasets;
mod eval;
mod http;
mod ingest;
mod judge;
mod keys;
mod memory;
mod release;
mod runs;
mod serving;
mod tidy;
mod training;
mod unattended;
