//! Who follows the routes, as the running server says: the registry's file cannot know it.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{cli::ReleaseStatusArgs, config::Config};

/// A server on this machine answers at once.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the server tells of the servers that follow it; none where no server runs, and that was not
/// asked for by name.
pub(super) fn told(args: &ReleaseStatusArgs, config: &Config) -> Result<Option<Value>> {
    let base = match &args.server {
        Some(url) => url.trim_end_matches('/').to_owned(),
        None => format!("http://{}", config.listen),
    };
    let url = format!("{base}/api/v1/watch/nodes");
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(PATIENCE))
        .http_status_as_error(false)
        .build()
        .into();
    let mut request = agent.get(&url);
    if let Some(variable) = &args.key_env {
        let key = std::env::var(variable).with_context(|| {
            format!("the key for {base} should be in the environment variable {variable}")
        })?;
        request = request.header("authorization", format!("Bearer {key}"));
    }
    let mut response = match request.call() {
        Ok(response) => response,
        Err(_) if args.server.is_none() => return Ok(None),
        Err(why) => return Err(why).with_context(|| format!("failed to ask {url}")),
    };
    let status = response.status().as_u16();
    let text = response.body_mut().read_to_string().unwrap_or_default();
    match status {
        200 => Ok(serde_json::from_str(&text).ok()),
        // Another program may have the port.
        _ if args.server.is_none() && status != 401 && status != 403 => Ok(None),
        401 | 403 if args.server.is_none() => {
            tracing::info!("the server at {base} asks for a key: give --key-env");
            Ok(None)
        }
        _ => bail!("{url} answered {status}: {text}; a key with `read` goes into --key-env"),
    }
}

/// A line a server.
pub(super) fn lines(told: &Value) -> Vec<String> {
    let nodes = told["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
    if nodes.is_empty() {
        return vec!["no other server follows the one that runs here".to_owned()];
    }
    let head = format!(
        "{} of {} servers that follow have acknowledged the present routes",
        told["acknowledged"],
        nodes.len()
    );
    let line = |node: &Value| {
        let name = node["node"].as_str().unwrap_or_default();
        let is_current = node["is_current"].as_bool().unwrap_or_default();
        let what = if is_current { "acknowledged" } else { "behind" };
        let lease = match node["lease_left_ms"].as_u64() {
            Some(0) | None => "its lease is over, so it serves what is stable alone".to_owned(),
            Some(left) => format!("its lease has {left} ms left"),
        };
        let took = node["took_ms"].as_f64().unwrap_or_default();
        format!("  {name}: {what}, in force {took:.1} ms after it asked; {lease}")
    };
    std::iter::once(head).chain(nodes.iter().map(line)).collect()
}
