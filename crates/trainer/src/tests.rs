//! The trainer as a whole, on a model small enough for a test.

pub(crate) mod fixtures;
mod golden;
mod invariance;
mod learning;
mod measure;
mod policy;
mod resume;
