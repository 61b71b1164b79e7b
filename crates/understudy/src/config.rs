//! Raw settings (file, environment, flags) become resolved ones here, and nowhere else.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use understudy_access::Pepper;

use crate::{cli::Global, paths::DataDir};

const FILE: &str = "understudy.toml";
const PEPPER: &str = "UNDERSTUDY_PEPPER";
const DEFAULT_LISTEN: &str = "127.0.0.1:8700";
pub(crate) const DEFAULT_BASE: &str = "smollm2-135m-instruct";

/// `understudy.toml`: every key optional, none unknown.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    data_dir: Option<PathBuf>,
    models_dir: Option<PathBuf>,
    base: Option<String>,
    listen: Option<SocketAddr>,
    /// Tasks to route before anything is registered for them.
    tasks: Vec<understudy_ident::TaskName>,
    teacher: Option<TeacherSettings>,
    access: AccessSettings,
    tls: Option<TlsSettings>,
}

/// The frontier model behind the tap and behind tasks nothing has been released for yet.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TeacherSettings {
    /// An OpenAI-compatible endpoint, up to and including `/v1`.
    pub(crate) url: String,
    pub(crate) model: String,
    /// The environment variable that holds the key, so that the key is in no file.
    pub(crate) api_key_env: Option<String>,
}

/// How callers are told apart.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct AccessSettings {
    /// Where the pepper of the keys' hashes lies, if not in the data directory.
    pepper: Option<PathBuf>,
}

/// What HTTPS is served with.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TlsSettings {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

/// What the program runs with.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) data: DataDir,
    pub(crate) models_dir: PathBuf,
    pub(crate) base: String,
    pub(crate) listen: SocketAddr,
    pub(crate) tasks: Vec<understudy_ident::TaskName>,
    pub(crate) teacher: Option<TeacherSettings>,
    /// From the environment, so that it is in no file.
    pub(crate) pepper: Option<Pepper>,
    pepper_file: Option<PathBuf>,
    pub(crate) tls: Option<TlsSettings>,
    pub(crate) json: bool,
}

impl Config {
    /// Looks for `understudy.toml` from the working directory upward.
    pub(crate) fn load(global: &Global) -> Result<Self> {
        let here = std::env::current_dir().context("failed to find the working directory")?;
        let found = here.ancestors().map(|dir| dir.join(FILE)).find(|path| path.is_file());
        let file = found.as_deref().map(read).transpose()?.unwrap_or_default();
        let home = found.as_deref().and_then(Path::parent).unwrap_or(&here);
        let root = global
            .data_dir
            .clone()
            .or_else(|| file.data_dir.map(|dir| home.join(dir)))
            .unwrap_or_else(|| home.join(".understudy"));
        Ok(Self {
            data: DataDir::new(root),
            models_dir: models_dir(file.models_dir.map(|dir| home.join(dir)))?,
            base: file.base.unwrap_or_else(|| DEFAULT_BASE.to_owned()),
            listen: match file.listen {
                Some(address) => address,
                None => DEFAULT_LISTEN.parse().expect("the default address is one"),
            },
            tasks: file.tasks,
            teacher: file.teacher,
            pepper: pepper()?,
            pepper_file: file.access.pepper.map(|path| home.join(path)),
            tls: file
                .tls
                .map(|tls| TlsSettings { cert: home.join(tls.cert), key: home.join(tls.key) }),
            json: global.json,
        })
    }

    /// Where the pepper is, unless the environment has it.
    pub(crate) fn pepper_file(&self) -> PathBuf {
        self.pepper_file.clone().unwrap_or_else(|| self.data.pepper())
    }
}

fn pepper() -> Result<Option<Pepper>> {
    let text = std::env::var(PEPPER).ok().filter(|text| !text.is_empty());
    Ok(text.map(|text| Pepper::parse(&text, Path::new(PEPPER))).transpose()?)
}

/// Base models are shared by every data directory of a user.
fn models_dir(from_file: Option<PathBuf>) -> Result<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    if let Some(dir) = variable("UNDERSTUDY_MODELS_DIR").or(from_file) {
        return Ok(dir);
    }
    if let Some(dir) = variable("XDG_CACHE_HOME") {
        return Ok(dir.join("understudy/models"));
    }
    match variable("HOME") {
        Some(home) => Ok(home.join(".cache/understudy/models")),
        None => {
            bail!("no HOME to keep base models under; set UNDERSTUDY_MODELS_DIR to a directory")
        }
    }
}

fn read(path: &Path) -> Result<File> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("failed to read {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("failed to understand {}", path.display()))
}
