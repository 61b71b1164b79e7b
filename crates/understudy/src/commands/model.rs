//! `understudy model`: base models.

use std::path::PathBuf;

use anyhow::{Context, Result};
use understudy_hub::{Hub, Progress};

use super::Exit;
use crate::{cli::ModelCommand, config::Config, output::Out};

pub(crate) fn run(command: ModelCommand, config: &Config, out: Out) -> Result<Exit> {
    let hub = hub(config);
    match command {
        ModelCommand::Pull { name } => {
            let pulled = with_progress(out, |progress| hub.pull(&name, progress))?;
            let text = format!(
                "{name} is at {}\n  {:.1} MB from {}, sha256 {}",
                pulled.path.display(),
                pulled.bytes as f64 / 1e6,
                pulled.source,
                pulled.digest
            );
            out.either(text, &pulled)?;
        }
        ModelCommand::List => {
            let rows = hub.list();
            for row in &rows {
                out.say(format!(
                    "{:<26} {:<8} {:>7.1} MB  {}",
                    row.name,
                    if row.present { "present" } else { "absent" },
                    row.bytes as f64 / 1e6,
                    row.licence
                ));
            }
            out.value(&rows)?;
        }
        ModelCommand::Verify { name } => {
            let verified = hub.verify(&name)?;
            out.either(format!("{name} is intact, sha256 {}", verified.digest), &verified)?;
        }
    }
    Ok(Exit::Ok)
}

pub(crate) fn hub(config: &Config) -> Hub {
    let hub = Hub::new(&config.models_dir);
    match std::env::var("UNDERSTUDY_HUB_ENDPOINT") {
        Ok(endpoint) if !endpoint.is_empty() => hub.with_endpoint(endpoint),
        _ => hub,
    }
}

/// The file or directory of a base model, pulled first if need be.
pub(crate) fn obtain(config: &Config, name_or_path: &str, out: Out) -> Result<PathBuf> {
    let hub = hub(config);
    with_progress(out, |progress| hub.obtain(name_or_path, progress))
        .with_context(|| format!("failed to get the base model `{name_or_path}`"))
}

fn with_progress<T, E>(
    out: Out,
    work: impl FnOnce(&mut dyn FnMut(Progress)) -> Result<T, E>,
) -> Result<T>
where
    E: std::error::Error + Send + Sync + 'static,
{
    let bar = out.byte_bar("base model");
    let result = work(&mut |progress| match progress {
        Progress::Waiting => bar.set_message("another process is pulling it"),
        Progress::Trying { source } => bar.set_message(format!("from {source}")),
        Progress::Bytes { done, total } => {
            bar.set_length(total);
            bar.set_position(done);
        }
        Progress::Verifying => bar.set_message("checking its digest"),
        Progress::Failed { source, why } => tracing::info!(%source, %why, "source did not answer"),
        Progress::Done => {}
    });
    bar.finish_and_clear();
    Ok(result?)
}
