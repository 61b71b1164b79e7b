//! Cases as a server would put them: with the lessons of a memory release.

use std::{collections::BTreeMap, time::Instant};

use anyhow::Result;
use serde_json::Value;
use understudy_dataset::Placed;
use understudy_evaluation::Cache;
use understudy_ident::Digest;
use understudy_inference::{Prompt, Student};
use understudy_manifest::{Case, MemoryUse, Suite, digest_json};
use understudy_memory::estimated_tokens;
use understudy_message::Message;

use crate::commands::memory::Remembering;

/// What one subject is asked, by case, and what its lessons took.
#[derive(Debug)]
pub(crate) struct Shown {
    prompts: BTreeMap<String, Vec<Message>>,
    pub(crate) used: MemoryUse,
}

impl Shown {
    /// Looks for the lessons of every case, as `agent`, counted in the model's own tokens. How long
    /// that takes is measured once for the same `identity` and kept in `cache`, so that a report
    /// made again is the same.
    pub(crate) fn of(
        (lessons, agent): (&Remembering, &str),
        suite: &Suite,
        engine: &dyn Student,
        (identity, cache): (Option<Digest>, &mut dyn Cache),
    ) -> Result<Self> {
        let (mut prompts, mut took, mut longest) = (BTreeMap::new(), Vec::new(), 0);
        for case in &suite.cases {
            let began = Instant::now();
            let placed = place((lessons, agent), case, engine)?;
            took.push(began.elapsed().as_secs_f64() * 1e3);
            if let Placed::Shown(prompt) = placed {
                let tokens = |prompt: &[Message]| -> usize {
                    prompt.iter().map(|message| count(engine, &message.text())).sum()
                };
                longest = longest.max(tokens(&prompt).saturating_sub(tokens(&case.prompt)));
                prompts.insert(case.id.clone(), prompt);
            }
        }
        let key = identity
            .map(|identity| digest_json(&("lessons took", identity, agent, suite.digest())));
        let (tokens_limit, ms_limit) = lessons.limits(engine.context());
        let used = MemoryUse {
            release: lessons.release(),
            cases: prompts.len() as u64,
            tokens_max: longest as u64,
            tokens_limit: tokens_limit as u64,
            retrieval_ms_p95: kept(key, cache, slow(took)),
            retrieval_ms_limit: ms_limit as f64,
        };
        Ok(Self { prompts, used })
    }

    pub(crate) fn prompt(&self, case: &Case) -> Vec<Message> {
        self.prompts.get(&case.id).unwrap_or(&case.prompt).clone()
    }
}

fn place(
    (lessons, agent): (&Remembering, &str),
    case: &Case,
    engine: &dyn Student,
) -> Result<Placed> {
    let tools = case.tools.iter().filter_map(|tool| {
        tool.get("function").unwrap_or(tool).get("name").and_then(Value::as_str)
    });
    let asked = (case.prompt.as_slice(), Some(tools.collect()));
    lessons.prompt(agent, asked, (Some(engine.context()), &|text| count(engine, text)))
}

fn count(engine: &dyn Student, text: &str) -> usize {
    let ids = engine.tokenize(&Prompt::Text(text.to_owned()));
    ids.map_or_else(|_| estimated_tokens(text), |ids| ids.len())
}

/// What 95 % of the times stay within.
fn slow(mut took: Vec<f64>) -> f64 {
    took.sort_by(f64::total_cmp);
    let at = (took.len() as f64 * 0.95).ceil() as usize;
    took.get(at.saturating_sub(1)).copied().unwrap_or(0.0)
}

fn kept(key: Option<Digest>, cache: &mut dyn Cache, measured: f64) -> f64 {
    let Some(key) = key else { return measured };
    if let Some(before) = cache.get(&key).and_then(|text| text.parse().ok()) {
        return before;
    }
    cache.put(&key, &measured.to_string());
    measured
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_in_twenty_is_left_out() {
        assert_eq!(slow((1..=20).rev().map(f64::from).collect()), 19.0);
        assert_eq!(slow(vec![3.0]), 3.0);
        assert_eq!(slow(Vec::new()), 0.0);
    }
}
