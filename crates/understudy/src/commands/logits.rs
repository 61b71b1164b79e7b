//! `understudy logits`: the next-token scores of a prompt, to compare with other implementations.

use anyhow::Result;
use serde_json::json;
use understudy_model::{BaseModel, Batch, device, read_peft};
use understudy_storage::atomic;

use super::{Exit, model};
use crate::{cli::LogitsArgs, config::Config, output::Out};

pub(crate) fn run(args: &LogitsArgs, config: &Config, out: Out) -> Result<Exit> {
    let name = args.base.clone().unwrap_or_else(|| config.base.clone());
    let path = model::obtain(config, &name, out)?;
    let base = BaseModel::load(&path, &device(&config.device)?)?;
    let adapter = args
        .adapter
        .as_deref()
        .map(|directory| read_peft(directory, base.decoder.config()))
        .transpose()?;
    let ids = base.tokenizer.encode(&args.prompt)?;
    let lora = adapter.as_ref().map(|adapter| &adapter.lora);
    let rows = |lora| -> Result<Vec<Vec<f32>>> {
        let hidden = base.decoder.hidden(&Batch::of(&[&ids]), lora)?;
        Ok(base.decoder.logits(&hidden)?.to_vec2::<f32>()?)
    };
    // The form `tests/golden/check_peft_roundtrip.py` reads.
    let mut value = json!({"sequences": [ids], "logits": [rows(lora)?]});
    if lora.is_some() {
        value["base_logits"] = json!([rows(None)?]);
    }
    atomic::write(&args.out, value.to_string().as_bytes())?;
    let text = format!("logits of {} tokens are in {}", ids.len(), args.out.display());
    out.either(text, &json!({"tokens": ids.len(), "file": args.out}))?;
    Ok(Exit::Ok)
}
