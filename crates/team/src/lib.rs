//! Splits loops over threads that wait for the next loop awake.
//!
//! A decoding step is hundreds of loops of some ten microseconds each. A general pool yields the
//! processor while it looks for work, which hands a whole time slice to whoever else is runnable,
//! be it of the lowest priority; and it wakes sleepers through the kernel. Here whoever has nothing
//! to do watches one word of memory for a while, and only then sleeps.
//!
//! Every index of a loop is visited exactly once, by one thread. A panic in a loop reaches its
//! caller, after everybody has left the loop. There is one team, of as many threads as rayon's
//! global pool; it runs one loop at a time, and a loop that finds it at work, or is within another,
//! runs on rayon's pool instead. Within a pool of one thread, loops stay on that thread. Beside a
//! [`Desk`], they are left there for whoever has time. Never decides what a loop computes: how many
//! threads share it must not show in a result.

mod desk;
mod parts;
mod work;

use std::{sync::OnceLock, thread};

pub use desk::Desk;
pub use parts::{each_chunk, each_item, map, map_items, once};
use rayon::prelude::*;
use work::Team;

/// How many threads share a loop that is started here.
pub fn threads() -> usize {
    rayon::current_num_threads()
}

/// Calls `each` for every index below `count`.
pub fn each(count: usize, each: impl Fn(usize) + Sync) {
    if count > 0 && desk::leave(count, &each) {
        return;
    }
    if count <= 1 || threads() == 1 {
        return (0..count).for_each(each);
    }
    if !team().run(count, &each) {
        (0..count).into_par_iter().for_each(&each);
    }
}

fn team() -> &'static Team {
    static TEAM: OnceLock<Team> = OnceLock::new();
    // Whoever comes first may be in a pool of one thread.
    TEAM.get_or_init(|| Team::of(rayon_threads() - 1))
}

/// Threads of rayon's global pool, wherever this is asked.
fn rayon_threads() -> usize {
    thread::scope(|scope| scope.spawn(rayon::current_num_threads).join().unwrap_or(1))
}

#[cfg(test)]
mod tests;
