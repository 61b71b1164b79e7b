//! Memory on the command line and at a running server, from traces to forgetting; and that nothing
//! anybody said leaves the journal on the way.

mod agents;
mod exchange;
mod home;
mod lessons;
mod practice;
mod privacy;
mod refusals;
mod served;
