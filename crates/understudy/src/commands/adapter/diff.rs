//! What differs between two adapters.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::Value;
use understudy_manifest::AdapterManifest;
use understudy_model::{ModelConfig, Moved, read_peft};
use understudy_registry::Registry;

use crate::{commands::model, config::Config, output::Out, worker};

/// How many of the maps that moved most are named in the text.
const NAMED: usize = 8;

#[derive(Serialize)]
struct Difference {
    before: String,
    after: String,
    digests: [String; 2],
    /// Keys of the manifests whose values differ, with both; none where a manifest is missing.
    lineage: Vec<(String, Value, Value)>,
    /// ‖ΔW after − ΔW before‖ over ‖ΔW before‖, all maps together.
    moved: f64,
    maps: Vec<Map>,
}

#[derive(Serialize)]
struct Map {
    path: String,
    before: f64,
    after: f64,
    change: f64,
}

pub(super) fn run(
    [before, after]: [&str; 2],
    registry: &Registry,
    config: &Config,
    out: Out,
) -> Result<()> {
    let directories = [place(before, registry)?, place(after, registry)?];
    let base = match worker::manifest(&directories[0]) {
        Ok(manifest) => manifest.base,
        Err(_) => config.base.clone(),
    };
    let shape = ModelConfig::of(&model::obtain(config, &base, out)?)?;
    let read = |directory: &PathBuf| {
        read_peft(directory, &shape)
            .with_context(|| format!("failed to read the adapter {}", directory.display()))
    };
    let [old, new] = [read(&directories[0])?, read(&directories[1])?];
    let maps: Vec<Map> = new.lora.moved_from(&old.lora).into_iter().map(Map::from).collect();
    let whole = |of: fn(&Map) -> f64| maps.iter().map(|map| of(map).powi(2)).sum::<f64>().sqrt();
    let difference = Difference {
        before: before.to_owned(),
        after: after.to_owned(),
        digests: [old.digest, new.digest],
        lineage: lineage(&directories),
        moved: whole(|map| map.change) / whole(|map| map.before),
        maps,
    };
    out.either(difference.text(), &difference)
}

fn place(name: &str, registry: &Registry) -> Result<PathBuf> {
    match name.parse() {
        Ok(version) => Ok(registry.verify(&version)?),
        Err(_) => Ok(PathBuf::from(name)),
    }
}

/// What is said of both and not the same; how long training took is no difference.
fn lineage(directories: &[PathBuf; 2]) -> Vec<(String, Value, Value)> {
    let told = |directory: &PathBuf| -> Option<Value> {
        let manifest: AdapterManifest = worker::manifest(directory).ok()?;
        let mut told = serde_json::to_value(manifest).ok()?;
        told.as_object_mut()?.remove("attestation");
        for stage in told["stages"].as_array_mut()? {
            stage.as_object_mut()?.remove("seconds");
            stage.as_object_mut()?.remove("peak_memory_bytes");
        }
        Some(told)
    };
    let (Some(old), Some(new)) = (told(&directories[0]), told(&directories[1])) else {
        return Vec::new();
    };
    let mut differing = Vec::new();
    compare("", &old, &new, &mut differing);
    differing
}

/// Down to the values, so that one changed setting is one line.
fn compare(path: &str, old: &Value, new: &Value, into: &mut Vec<(String, Value, Value)>) {
    match (old, new) {
        (Value::Object(a), Value::Object(b)) => {
            let keys = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key)));
            for key in keys {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                compare(&path, &old[key], &new[key], into);
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            for index in 0..a.len().max(b.len()) {
                // One that is there on one side only differs from nothing.
                let [a, b] = [a, b].map(|all| all.get(index).unwrap_or(&Value::Null));
                compare(&format!("{path}[{index}]"), a, b, into);
            }
        }
        _ if old == new => {}
        _ => into.push((path.to_owned(), old.clone(), new.clone())),
    }
}

/// The beginning of a value, for people; `--json` has all of it.
fn short(value: &Value) -> String {
    const MOST: usize = 100;
    let text = match value {
        Value::Null => "nothing".to_owned(),
        value => value.to_string(),
    };
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

impl From<Moved> for Map {
    fn from(moved: Moved) -> Self {
        let Moved { path, before, after, change } = moved;
        Self { path, before, after, change }
    }
}

impl Difference {
    fn text(&self) -> String {
        let mut lines = vec![if self.digests[0] == self.digests[1] {
            format!("{} and {} are the same bytes", self.before, self.after)
        } else {
            format!(
                "from {} ({:.12}…) to {} ({:.12}…): what the adapter adds moved by {:.1} % of what it was",
                self.before,
                self.digests[0],
                self.after,
                self.digests[1],
                100.0 * self.moved
            )
        }];
        for (key, old, new) in &self.lineage {
            lines.push(format!("  {key}: {} → {}", short(old), short(new)));
        }
        let mut most: Vec<&Map> = self.maps.iter().filter(|map| map.change > 0.0).collect();
        most.sort_by(|a, b| b.change.total_cmp(&a.change));
        if !most.is_empty() {
            lines.push(
                "  moved most (norms of the update before, after, and of the difference):".into(),
            );
        }
        for map in most.iter().take(NAMED) {
            lines.push(format!(
                "    {:<32} {:>8.3} {:>8.3} {:>8.3}",
                map.path, map.before, map.after, map.change
            ));
        }
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn one_changed_setting_is_one_line() {
        let old = json!({"a": {"b": 1, "c": [1, 2]}, "d": "x"});
        let new = json!({"a": {"b": 1, "c": [1, 3]}, "e": 5});
        let mut found = Vec::new();
        compare("", &old, &new, &mut found);
        let keys: Vec<&str> = found.iter().map(|(key, ..)| key.as_str()).collect();
        assert_eq!(keys, ["a.c[1]", "d", "e"]);
        assert_eq!((&found[0].1, &found[0].2), (&json!(2), &json!(3)));
        let (old, new) =
            (json!([{"method": "sft"}]), json!([{"method": "sft"}, {"method": "dpo"}]));
        let mut found = Vec::new();
        compare("stages", &old, &new, &mut found);
        assert_eq!(found, [("stages[1]".to_owned(), Value::Null, json!({"method": "dpo"}))]);
        assert_eq!(short(&found[0].1), "nothing");
        assert!(short(&json!("é".repeat(300))).chars().count() < 110);
    }
}
