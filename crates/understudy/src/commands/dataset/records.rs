//! `understudy dataset records`: what the journal holds, as `understudy import` reads it.

use anyhow::Result;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use understudy_journal::{Journal, Query};

use crate::{cli::RecordsArgs, commands::Exit, config::Config, output::Out, wiring::Stores};

/// One JSON object a line, whatever was asked for: a step, then each outcome that is linked to it.
pub(super) fn run(args: &RecordsArgs, config: &Config) -> Result<Exit> {
    let stores = Stores::open(&config.data)?;
    let task = args.task.as_deref().map(str::parse).transpose()?;
    let mut any = false;
    for trajectory in stores.journal.scan(&Query { task, ..Query::default() })? {
        for judged in trajectory?.steps {
            any = true;
            let mut step = json!({"step": judged.step});
            restore_media(&mut step, &stores.journal)?;
            Out::row(&step.to_string());
            for outcome in judged.outcomes {
                Out::row(&json!({"outcome": outcome}).to_string());
            }
        }
    }
    Ok(if any { Exit::Ok } else { Exit::No })
}

/// Puts the bytes of media beside their digests: what reads this has no journal to look them up in.
fn restore_media(value: &mut Value, journal: &Journal) -> Result<()> {
    match value {
        Value::Array(items) => items.iter_mut().try_for_each(|item| restore_media(item, journal)),
        Value::Object(fields) => {
            let digest = fields.get("digest").and_then(Value::as_str).map(str::to_owned);
            let is_medium = fields.get("type").is_some_and(|kind| kind == "media");
            if let Some(digest) = digest.filter(|_| is_medium)
                && let Some(bytes) = journal.media(&digest.parse()?)?
            {
                fields.insert("data".to_owned(), json!(BASE64_STANDARD.encode(bytes)));
            }
            fields.values_mut().try_for_each(|field| restore_media(field, journal))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use understudy_ident::Digest;

    use super::*;

    #[test]
    fn the_bytes_of_media_are_put_beside_their_digests() {
        let directory = tempfile::tempdir().unwrap();
        let config = understudy_journal::Config::default();
        let journal = Journal::open(&directory.path().join("j.db"), config).unwrap();
        let digest = Digest::of(&[1, 2, 3]);
        journal.keep_media(Some("ada"), vec![(digest, vec![1, 2, 3])]).unwrap();
        let part = json!({"type": "media", "mime": "image/png", "bytes": 3, "digest": digest});
        let gone = json!({"type": "media", "digest": Digest::of(b"gone")});
        let mut step = json!({"step": {"prompt": [{"content": [part, gone]}], "digest": "x"}});
        let before = step.clone();
        restore_media(&mut step, &journal).unwrap();
        assert_eq!(step["step"]["prompt"][0]["content"][0]["data"], "AQID");
        step["step"]["prompt"][0]["content"][0].as_object_mut().unwrap().remove("data");
        assert_eq!(step, before, "and nothing else");
    }
}
