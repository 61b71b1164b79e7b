//! vLLM's adapter lifecycle, and what we add to it.

use serde_json::{Value, json};
use understudy_inference::{AdapterInfo, Expected, LoadedAdapter};

use crate::{error::RequestError, fields::Fields};

/// The longest alias, in bytes.
const LONGEST_ALIAS: usize = 256;

/// `POST /v1/load_lora_adapter`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadBody {
    pub name: String,
    pub path: String,
    pub expected: Expected,
    /// The digest the content must have.
    pub generation: Option<String>,
    pub pinned: bool,
    pub keep_previous: Option<usize>,
    pub on_demand: bool,
}

impl LoadBody {
    pub fn parse(body: &[u8]) -> Result<Self, RequestError> {
        let fields = Fields::parse(body)?;
        for name in ["ttl_s", "revision", "drain_timeout_s"] {
            if fields.named(name).is_some() {
                return Err(fields.refused(name));
            }
        }
        match fields.text("wait")?.as_deref() {
            None | Some("published") => {}
            Some(_) => return Err(fields.wrong("wait", "can only be published")),
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
            keep_previous: fields.count("keep_previous")?.map(|count| count as usize),
            on_demand: fields.flag("on_demand")?,
        })
    }
}

/// `POST /v1/unload_lora_adapter`; vLLM's `lora_int_id` means nothing here and may be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnloadBody {
    pub name: String,
}

impl UnloadBody {
    pub fn parse(body: &[u8]) -> Result<Self, RequestError> {
        Ok(Self { name: alias(&Fields::parse(body)?)? })
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
        "leases": adapter.leases,
        "previous": adapter.previous,
    })
}
