//! Their side: llama.cpp's own benchmark on files of the same weights.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::{super::worker::last_words, HeldIn, Load, Rates};

/// A folder of llama.cpp's programs, and the file all others are made from.
#[derive(Debug)]
pub(super) struct Llama {
    folder: PathBuf,
    base: PathBuf,
    description: String,
}

/// What a line of `llama-batched-bench --output-format jsonl` says.
#[derive(Debug, Deserialize)]
struct Line {
    pl: usize,
    speed_pp: f64,
    speed_tg: f64,
}

impl Llama {
    pub(super) fn find(folder: &Path, base: &Path) -> Result<Self> {
        for program in ["llama-batched-bench", "llama-quantize"] {
            ensure!(
                folder.join(program).is_file(),
                "{} has no {program}; build it with scripts/build-llama-bench.sh",
                folder.display()
            );
        }
        let base = gguf(base)?;
        let description = format!("llama-batched-bench of {}", folder.display());
        Ok(Self { folder: folder.to_owned(), base, description })
    }

    pub(super) fn describe(&self) -> &str {
        &self.description
    }

    /// The same weights in their format nearest to ours; the four-bit file is the one as shipped.
    pub(super) fn file(&self, held_in: HeldIn, folder: &Path) -> Result<PathBuf> {
        let kind = match held_in {
            HeldIn::F32 => "F32",
            HeldIn::Bf16 => "BF16",
            HeldIn::Int8 => "Q8_0",
            HeldIn::Int4 => return Ok(self.base.clone()),
        };
        let file = folder.join(format!("{kind}.gguf"));
        let output = Command::new(self.folder.join("llama-quantize"))
            .arg("--allow-requantize")
            .args([&self.base, &file])
            .arg(kind)
            .output()
            .context("failed to run llama-quantize")?;
        ensure!(
            output.status.success() && file.is_file(),
            "llama-quantize did not write {kind}: {}",
            last_words(&output.stderr)
        );
        Ok(file)
    }

    pub(super) fn measure(&self, file: &Path, load: Load) -> Result<Rates> {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        let context = load.batch * (load.prompt + load.tokens);
        let output = Command::new(self.folder.join("llama-batched-bench"))
            .arg("-m")
            .arg(file)
            .args(["-c", &context.to_string(), "-npp", &load.prompt.to_string()])
            .args(["-ntg", &load.tokens.to_string(), "-npl", &load.batch.to_string()])
            .args(["-t", &threads.to_string(), "--output-format", "jsonl"])
            .output()
            .context("failed to run llama-batched-bench")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let line = text.lines().find_map(|line| serde_json::from_str::<Line>(line).ok());
        match line {
            Some(line) if output.status.success() && line.pl == load.batch => {
                Ok(Rates { prefill: line.speed_pp, decode: line.speed_tg })
            }
            _ => bail!(
                "llama-batched-bench gave no figure ({}): {}",
                output.status,
                last_words(&output.stderr)
            ),
        }
    }
}

/// Removes a file that was made for one section; the base stays.
pub(super) fn forget(file: &Path, folder: &Path) -> Result<()> {
    if file.starts_with(folder) {
        fs::remove_file(file).with_context(|| format!("failed to remove {}", file.display()))?;
    }
    Ok(())
}

/// The GGUF file that a base is, or that lies in its directory.
fn gguf(base: &Path) -> Result<PathBuf> {
    let is_gguf = |path: &Path| path.extension().is_some_and(|extension| extension == "gguf");
    if is_gguf(base) {
        return Ok(base.to_owned());
    }
    let entries =
        fs::read_dir(base).with_context(|| format!("failed to read {}", base.display()))?;
    let mut files = entries.filter_map(Result::ok).map(|entry| entry.path());
    files.find(|path| is_gguf(path)).with_context(|| {
        format!("{} holds no GGUF file for llama.cpp to read; name one with --base", base.display())
    })
}
