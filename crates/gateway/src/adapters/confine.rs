//! Where an adapter may be read from: nowhere but under the allowed roots, whatever links say.

use std::path::{Path, PathBuf};

use understudy_manifest::AdapterManifest;
use understudy_openai::ErrorReply;

use crate::error::ApiError;

/// The files an adapter is read from; each could be a link to somewhere else.
const FILES: [&str; 3] =
    ["adapter_config.json", "adapter_model.safetensors", AdapterManifest::FILE];

/// The real directory behind `path`.
pub(super) fn directory(alias: &str, path: &str, roots: &[PathBuf]) -> Result<PathBuf, ApiError> {
    let real = |path: &Path| path.canonicalize();
    // A root that does not exist allows nothing.
    let roots: Vec<PathBuf> = roots.iter().filter_map(|root| real(root).ok()).collect();
    let inside = |path: &Path| roots.iter().any(|root| path.starts_with(root));
    let forbidden = || {
        let why = format!(
            "Loading lora {alias} failed: {path} lies outside the directories adapters may be \
             loaded from"
        );
        let reply = ErrorReply::new(403, why).about("lora_path");
        ApiError(reply.because("adapter_path_forbidden"))
    };
    let Some(directory) = real(Path::new(path)).ok().filter(|path| path.is_dir()) else {
        let why = format!("Loading lora {alias} failed: No adapter found for {path}");
        return Err(ApiError(ErrorReply::new(404, why).about("lora_path")));
    };
    if !inside(&directory) {
        return Err(forbidden());
    }
    for file in FILES {
        if real(&directory.join(file)).is_ok_and(|file| !inside(&file)) {
            return Err(forbidden());
        }
    }
    Ok(directory)
}
