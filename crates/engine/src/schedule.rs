//! Which tokens run in the next step. Pure: a function of how the sequences stand.

use crate::Config;

/// How one sequence stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Tokens whose keys and values are cached.
    pub(crate) cached: usize,
    /// Tokens known but not yet run: one while decoding, more while the prompt is being read.
    pub(crate) pending: usize,
}

/// Where a sequence stands in line; who is less goes first, and yields last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// Lower goes first.
    pub(crate) priority: i32,
    pub(crate) arrival: u64,
}

/// The next step, for running sequences in the order of their places.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// How many pending tokens each sequence runs, for those that are not evicted.
    pub(crate) rows: Vec<usize>,
    /// How many of the last give up their cache, and are read again later.
    pub(crate) evict: usize,
}

/// Every decoding sequence gets its token; prompts, and tokens that must follow, share a part of
/// the step, first come, first served, after so many rows of a visit. When keys and values would
/// not fit, the last ones yield.
///
/// The model takes rows `at_once`: what is left of its last such block is filled up.
pub(crate) fn plan(running: &[Standing], visiting: usize, at_once: usize, config: &Config) -> Plan {
    for evict in 0..running.len() {
        let kept = &running[..running.len() - evict];
        let rows = rows(kept, visiting, at_once, config);
        let held: usize = kept.iter().map(|one| one.cached).sum();
        // One sequence alone always fits: none is admitted that could outgrow the whole cache.
        if held + rows.iter().sum::<usize>() <= config.kv_tokens || kept.len() == 1 {
            return Plan { rows, evict };
        }
    }
    Plan { rows: Vec::new(), evict: 0 }
}

/// Whether one more sequence may join: its whole prompt and a first token must fit beside what
/// the others hold or are about to.
pub(crate) fn admits(running: &[Standing], next: Standing, config: &Config) -> bool {
    let wanted = |one: &Standing| one.cached + one.pending;
    let held: usize = running.iter().map(wanted).sum();
    running.is_empty()
        || (running.len() < config.max_running && held + wanted(&next) < config.kv_tokens)
}

/// In how many bites a prompt is read while others decode, unless that takes larger ones than are
/// allowed. What is read at once delays everybody's next token: a short prompt need not, and a long
/// one is as fast as it may be.
const BITES: usize = 6;

/// The least of a prompt that a step takes, however many decode.
const LEAST_BITE: usize = 4;

/// Rows of a step that take little longer than one, because reading the weights takes longer than
/// multiplying by them.
const HIDDEN_ROWS: usize = 16;

fn rows(running: &[Standing], visiting: usize, at_once: usize, config: &Config) -> Vec<usize> {
    let Config { step_tokens, beside_decoding, .. } = *config;
    let decoding = running.iter().filter(|one| one.pending == 1).count();
    let share = if decoding == 0 || beside_decoding >= step_tokens {
        step_tokens
    } else {
        let reading = running.iter().filter(|one| one.pending > 1);
        let longest = reading.map(|one| one.cached + one.pending).max().unwrap_or_default();
        let most = beside_decoding.max(2 * decoding);
        let least = HIDDEN_ROWS.saturating_sub(decoding).max(LEAST_BITE);
        let bite = longest.div_ceil(BITES).max(least).min(most);
        (decoding + bite).next_multiple_of(at_once) - decoding
    };
    let mut left = share.min(step_tokens.saturating_sub(decoding)).saturating_sub(visiting);
    let chunk = |one: &Standing| {
        if one.pending == 1 {
            return 1;
        }
        let rows = one.pending.min(left);
        left -= rows;
        rows
    };
    running.iter().map(chunk).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    const CONFIG: Config = Config {
        max_running: 4,
        max_waiting: 8,
        max_waiting_tokens: 100,
        step_tokens: 10,
        beside_decoding: 8,
        kv_tokens: 40,
        prefix_tokens: 0,
        adapter_bytes: 1,
        adapters_resident: 2,
        max_lora_rank: 1,
        keep_previous: 0,
        logprobs_mode: understudy_inference::LogProbsOf::Raw,
        kv_cache_dtype: crate::KvCacheDtype::Auto,
    };

    fn at(cached: usize, pending: usize) -> Standing {
        Standing { cached, pending }
    }

    #[test]
    fn decoding_comes_first_and_prompts_are_read_in_chunks_oldest_first() {
        let running = [at(0, 7), at(5, 1), at(0, 9), at(8, 1)];
        assert_eq!(plan(&running, 0, 1, &CONFIG), Plan { rows: vec![7, 1, 1, 1], evict: 0 });
    }

    #[test]
    fn a_prompt_is_read_in_small_chunks_while_others_decode_and_in_large_ones_alone() {
        let config = Config { step_tokens: 512, beside_decoding: 32, kv_tokens: 10_000, ..CONFIG };
        let rows = |running: &[Standing]| plan(running, 0, 1, &config).rows;
        assert_eq!(rows(&[at(0, 300), at(0, 300)]), [300, 212]);
        assert_eq!(rows(&[at(9, 1), at(0, 300), at(0, 300)]), [1, 32, 0]);
        assert_eq!(rows(&[at(9, 1), at(0, 120)]), [1, 20], "a sixth of what fits into six");
        assert_eq!(rows(&[at(9, 1), at(60, 60)]), [1, 20], "as it began, so it goes on");
        assert_eq!(rows(&[at(9, 1), at(0, 24)]), [1, 15], "beside one, more is next to nothing");
        let mut many = vec![at(9, 1); 30];
        many.push(at(0, 600));
        assert_eq!(rows(&many).last(), Some(&60));
        many.pop();
        many.push(at(0, 24));
        assert_eq!(rows(&many).last(), Some(&4), "thirty wait as little as they can for one");
        let beside_a_visit = plan(&[at(9, 1), at(0, 300)], 20, 1, &config);
        assert_eq!(beside_a_visit.rows, [1, 12], "a visit is no reason for a longer step");
    }

    #[test]
    fn what_would_be_multiplied_anyhow_is_filled_with_a_prompt() {
        let config = Config { step_tokens: 512, beside_decoding: 32, kv_tokens: 10_000, ..CONFIG };
        let bite = |decoding: usize, prompt: usize| {
            let mut running = vec![at(9, 1); decoding];
            running.push(at(0, prompt));
            plan(&running, 0, 16, &config).rows[decoding]
        };
        assert_eq!((bite(1, 24), bite(12, 24)), (15, 4), "sixteen in all");
        assert_eq!((bite(13, 24), bite(16, 24)), (19, 16), "thirty-two in all");
        assert_eq!((bite(16, 300), bite(20, 300)), (32, 44), "a whole number of sixteens");
        assert_eq!(bite(16, 9), 9, "no more than there is");
    }

    #[test]
    fn prompts_are_read_whole_beside_others_where_a_whole_step_may_be_theirs() {
        let config = Config { step_tokens: 512, beside_decoding: 512, kv_tokens: 10_000, ..CONFIG };
        let running = [at(9, 1), at(0, 120), at(0, 24), at(0, 600)];
        assert_eq!(plan(&running, 0, 1, &config).rows, [1, 120, 24, 367]);
    }

    #[test]
    fn the_youngest_yield_when_memory_is_full() {
        let running = [at(20, 1), at(18, 1), at(1, 1)];
        assert_eq!(plan(&running, 0, 1, &CONFIG), Plan { rows: vec![1, 1], evict: 1 });
        let running = [at(20, 1), at(20, 1)];
        assert_eq!(plan(&running, 0, 1, &CONFIG), Plan { rows: vec![1], evict: 1 });
    }

    #[test]
    fn admission_looks_at_places_and_memory() {
        assert!(admits(&[at(0, 10), at(10, 1)], at(0, 18), &CONFIG));
        assert!(!admits(&[at(0, 10), at(10, 1)], at(0, 19), &CONFIG));
        assert!(!admits(&[at(1, 1); 4], at(0, 1), &CONFIG));
        assert!(admits(&[], at(0, 39), &CONFIG));
    }

    /// A sequence reduced to its numbers.
    #[derive(Clone, Copy)]
    struct Toy {
        standing: Standing,
        to_generate: usize,
    }

    struct Toys {
        at_once: usize,
        waiting: VecDeque<Toy>,
        running: Vec<Toy>,
    }

    impl Toys {
        fn random(seed: u64) -> Self {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let mut toy = || {
                let prompt = random.random_range(1..25);
                Toy { standing: at(0, prompt), to_generate: random.random_range(1..=40 - prompt) }
            };
            let (waiting, at_once) = ((0..12).map(|_| toy()).collect(), [1, 4][seed as usize % 2]);
            Self { at_once, waiting, running: Vec::new() }
        }

        fn standings(&self) -> Vec<Standing> {
            self.running.iter().map(|toy| toy.standing).collect()
        }

        /// What the worker does in one step, with the budgets checked.
        fn step(&mut self) {
            while let Some(next) = self.waiting.front()
                && admits(&self.standings(), next.standing, &CONFIG)
            {
                self.running.extend(self.waiting.pop_front());
            }
            assert!(self.running.len() <= CONFIG.max_running);
            let plan = plan(&self.standings(), 0, self.at_once, &CONFIG);
            for _ in 0..plan.evict {
                let toy = self.running.pop().unwrap();
                let standing = at(0, toy.standing.cached + toy.standing.pending);
                self.waiting.push_front(Toy { standing, ..toy });
            }
            assert!(plan.rows.iter().sum::<usize>() <= CONFIG.step_tokens);
            assert!(plan.rows.iter().any(|rows| *rows > 0), "no progress");
            for (toy, rows) in self.running.iter_mut().zip(&plan.rows) {
                let Standing { cached, pending } = toy.standing;
                assert!(pending != 1 || *rows == 1, "decoding never waits");
                let generated = usize::from(*rows == pending);
                toy.to_generate -= generated;
                toy.standing = at(cached + rows, pending - rows + generated);
            }
            let held: usize = self.running.iter().map(|toy| toy.standing.cached).sum();
            assert!(held <= CONFIG.kv_tokens, "{held} tokens are held");
            self.running.retain(|toy| toy.to_generate > 0);
        }
    }

    #[test]
    fn no_budget_is_exceeded_and_nobody_starves() {
        for seed in 0..200 {
            let mut toys = Toys::random(seed);
            let mut steps = 0;
            while !(toys.waiting.is_empty() && toys.running.is_empty()) {
                toys.step();
                steps += 1;
                assert!(steps < 5_000, "seed {seed} never ends");
            }
        }
    }
}
