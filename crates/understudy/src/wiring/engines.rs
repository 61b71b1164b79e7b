//! Engines: over a base model, of a server, and without a model.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use understudy_engine::Engine;
use understudy_ident::Digest;
use understudy_inference::{LogProbsOf, MockConfig, MockEngine, Student};
use understudy_model::{BaseModel, device};
use understudy_storage::atomic;

use crate::held::{self, HeldIn};

/// Loads a base model and starts the engine over it.
pub(crate) fn engine(base: &Path, name: &str, how: (HeldIn, &str)) -> Result<Arc<dyn Student>> {
    Ok(known_engine(base, name, how)?.0)
}

/// The same, with a digest of everything but the adapter that decides what it answers: the files of
/// the base, how they are held, on what, and by which version of this program.
pub(crate) fn known_engine(
    base: &Path,
    name: &str,
    (held, on): (HeldIn, &str),
) -> Result<(Arc<dyn Student>, Digest)> {
    let model = load(base, (held, on))?;
    let engine = Engine::start(model, name.to_owned(), understudy_engine::Config::default())?;
    let identity = engine.identity().context("the engine does not say what it is")?;
    let digest = Digest::of_parts([&*identity, on, env!("CARGO_PKG_VERSION")].map(str::as_bytes));
    Ok((Arc::new(engine), digest))
}

/// The engine of a server: as large as its settings say, and with every alias meaning what it meant
/// when the server last ran.
pub(crate) fn serving_engine(
    base: &Path,
    name: &str,
    (held, on): (HeldIn, &str),
    (settings, aliases): (understudy_engine::Config, &Path),
) -> Result<Arc<dyn Student>> {
    let model = load(base, (held, on))?;
    if let Some(folder) = aliases.parent() {
        atomic::create_dir(folder)?;
    }
    let (engine, missing) = Engine::restore(model, name.to_owned(), settings, aliases)
        .context("failed to start the engine")?;
    for (alias, why) in missing {
        tracing::warn!("the adapter {alias} of the last run is not served: {why}");
    }
    Ok(Arc::new(engine))
}

fn load(base: &Path, (held, on): (HeldIn, &str)) -> Result<BaseModel> {
    let model = BaseModel::load_with(base, &device(on)?, held.precision())
        .with_context(|| format!("failed to load the base model {}", base.display()))?;
    if let Some(remark) = held::remark(held, &model.decoder.products()) {
        tracing::warn!("{remark}");
    }
    Ok(model)
}

/// An engine without a model, as slow as it is told to be.
pub(crate) fn mock_engine(
    base: Option<&str>,
    step_ms: u64,
    logprobs_mode: LogProbsOf,
) -> Result<Arc<dyn Student>> {
    let (base, step) = (base.unwrap_or("mock").to_owned(), Duration::from_millis(step_ms));
    let config = MockConfig { base, step, logprobs_mode, ..MockConfig::default() };
    Ok(Arc::new(MockEngine::start(config)?))
}
