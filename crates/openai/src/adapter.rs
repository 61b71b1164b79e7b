//! vLLM's adapter lifecycle, and what we add to it.

use std::time::Duration;

use serde_json::{Value, json};
use understudy_inference::{AdapterInfo, Expected, LoadedAdapter};

use crate::{error::RequestError, fields::Fields};

/// The longest alias, in bytes.
const LONGEST_ALIAS: usize = 256;

/// How long an unload waits for requests in flight where it does not say, and the most it may say, in
/// seconds.
const DRAIN: u32 = 60;
const LONGEST_DRAIN: u32 = 3600;

/// `POST /v1/load_lora_adapter`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadBody {
    pub name: String,
    pub path: String,
    pub expected: Expected,
    /// The digest the content must have.
    pub generation: Option<String>,
    pub pinned: bool,
    /// How long the alias means anything; `None` is for ever.
    pub ttl: Option<Duration>,
    pub keep_previous: Option<usize>,
    pub on_demand: bool,
}

impl LoadBody {
    pub fn parse(body: &[u8]) -> Result<Self, RequestError> {
        let fields = Fields::parse(body)?;
        for name in ["revision", "drain_timeout_s"] {
            if fields.named(name).is_some() {
                return Err(fields.refused(name));
            }
        }
        match fields.text("wait")?.as_deref() {
            None | Some("published") => {}
            Some(_) => {
                let why = "can only be published here; an unload can wait until it is drained";
                return Err(fields.wrong("wait", why));
            }
        }
        let in_place = fields.flag("load_inplace")?;
        let expected = match fields.text("expected_generation")? {
            Some(generation) => Expected::Generation(generation),
            None if in_place => Expected::Anything,
            None => Expected::Nothing,
        };
        if fields.named("sha256").is_some() {
            let why = "is not how contents are named here; give `generation`, a BLAKE3 digest";
            return Err(fields.wrong("sha256", why));
        }
        Ok(Self {
            name: alias(&fields)?,
            path: fields.required_text("lora_path")?,
            expected,
            generation: fields.text("generation")?,
            pinned: fields.flag("pinned")?,
            ttl: ttl(&fields)?,
            keep_previous: fields.count("keep_previous")?.map(|count| count as usize),
            on_demand: fields.flag("on_demand")?,
        })
    }
}

/// `POST /v1/unload_lora_adapter`; vLLM's `lora_int_id` means nothing here and may be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnloadBody {
    pub name: String,
    /// How long to wait until the requests in flight are over; `None` is not at all.
    pub drain: Option<Duration>,
}

impl UnloadBody {
    pub fn parse(body: &[u8]) -> Result<Self, RequestError> {
        let fields = Fields::parse(body)?;
        Ok(Self { name: alias(&fields)?, drain: drain(&fields)? })
    }
}

/// `POST /v1/rollback_lora_adapter`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RollbackBody {
    pub name: String,
    /// The one before, unless named.
    pub to: Option<String>,
}

impl RollbackBody {
    pub fn parse(body: &[u8]) -> Result<Self, RequestError> {
        let fields = Fields::parse(body)?;
        Ok(Self { name: alias(&fields)?, to: fields.text("to_generation")? })
    }
}

fn ttl(fields: &Fields) -> Result<Option<Duration>, RequestError> {
    match fields.count("ttl_s")? {
        Some(0) => Err(fields.wrong("ttl_s", "must be at least 1")),
        seconds => Ok(seconds.map(|seconds| Duration::from_secs(seconds.into()))),
    }
}

fn drain(fields: &Fields) -> Result<Option<Duration>, RequestError> {
    let limit = fields.count("drain_timeout_s")?;
    match (fields.text("wait")?.as_deref(), limit) {
        (None, None) => Ok(None),
        (None, Some(_)) => {
            Err(fields.wrong("drain_timeout_s", "only applies with `wait: \"drained\"`"))
        }
        (Some("drained"), limit) if (1..=LONGEST_DRAIN).contains(&limit.unwrap_or(DRAIN)) => {
            Ok(Some(Duration::from_secs(limit.unwrap_or(DRAIN).into())))
        }
        (Some("drained"), _) => {
            let why = format!("must lie between 1 and {LONGEST_DRAIN}");
            Err(fields.wrong("drain_timeout_s", why))
        }
        (Some(_), _) => Err(fields.wrong("wait", "can only be drained; without it nobody waits")),
    }
}

fn alias(fields: &Fields) -> Result<String, RequestError> {
    let name = fields.required_text("lora_name")?;
    if name.len() > LONGEST_ALIAS || name.chars().any(char::is_control) {
        let why = format!("must be at most {LONGEST_ALIAS} bytes without control characters");
        return Err(fields.wrong("lora_name", why));
    }
    Ok(name)
}

/// The JSON answer to a load, for clients that accept JSON.
pub fn loaded_adapter(loaded: &LoadedAdapter) -> Value {
    let mut answer = adapter_status(&loaded.adapter);
    answer["replaced"] = json!(loaded.replaced);
    answer["load_ms"] = json!(loaded.timing);
    answer
}

/// One adapter of `GET /v1/lora_adapters`.
pub fn adapter_status(adapter: &AdapterInfo) -> Value {
    json!({
        "object": "lora_adapter",
        "alias": adapter.alias,
        "generation": adapter.generation,
        "source": adapter.directory,
        "rank": adapter.rank,
        "bytes": adapter.bytes,
        "resident": adapter.resident,
        "pinned": adapter.pinned,
        "expires": adapter.expires,
        "leases": adapter.leases,
        "previous": adapter.previous,
    })
}
