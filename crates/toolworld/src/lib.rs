//! A small deterministic world of tools whose conventions only trying reveals, and agents that act in
//! it: for measuring what memory is worth without asking any model.
//!
//! [`Desk`] is a shop's back office with twelve tools. No schema says that a refund needs a quote
//! first, that stock counts are stale unless asked to be fresh, that tracking times out for one
//! carrier while the history does not, or that addresses are taken unvalidated and rejected by the
//! carrier a day later. [`Agent`] knows none of it either, tries things with habits of its own, and
//! obeys what it reads in a memory block: it is given the rendered text and nothing else.
//! [`Browser`] is a handful of sites that fail in various ways and change their ways.
//!
//! [`DeskPractice`] lets whoever likes attempt the desk's requests, and [`DeskModel`] is the agent as
//! a model that can be asked.
//!
//! [`RetrievalPlan`] asks memory for the kinds of seventy-seven kinds of ticket, and counts.
//!
//! Guarantees: the same seed gives the same requests, runs and outcomes on every machine.
//!
//! Never: asks a model, touches the network or a disk, or tells an agent how the world works.

mod agent;
mod browser;
mod catalogue;
mod desk;
mod draw;
mod export;
mod lesson;
mod practice;
mod request;
mod retrieval;
mod routing;
mod serve;

pub use agent::{Agent, Habits, Played};
pub use browser::{Browser, Browsing, Way, browser_catalogue, browser_error};
pub use catalogue::catalogue;
pub use desk::{Desk, DeskVerifier};
pub use draw::Draw;
pub use export::journal_lines;
pub use lesson::{Lesson, lessons};
pub use practice::{DeskModel, DeskPractice};
pub use request::{Job, Request};
pub use retrieval::{Found, Hits, RetrievalPlan, Spread};
pub use routing::{Ticket, Voice};
pub use serve::{Rate, Service, observe};
