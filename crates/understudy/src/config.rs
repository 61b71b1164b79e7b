//! Raw settings (file, environment, flags) become resolved ones here, and nowhere else.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    num::NonZeroU32,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use understudy_access::Pepper;
use understudy_canary::PolicyDefaults;
use understudy_capture::Capture;
use understudy_ident::TenantName;
use understudy_manifest::{Check, Scorer};
use understudy_recognition::ModelRecogniser;
use understudy_upstream::{Endpoint, Replay, Timeouts, TokenLimitField};

use crate::{
    cli::{GenerationConfig, Global},
    meaning::AUTO,
    paths::DataDir,
};

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
    /// What compares texts: `auto`, `hashing`, a model's name, or its directory.
    embedder: Option<String>,
    device: Option<String>,
    listen: Option<SocketAddr>,
    /// Tasks to route before anything is registered for them.
    tasks: Vec<understudy_ident::TaskName>,
    /// Recipes that `serve` runs by itself, each with a `[loop]` table.
    loops: Vec<PathBuf>,
    teacher: Option<TeacherSettings>,
    /// The share of live traffic that is scored, and how.
    live: Option<LiveSettings>,
    telemetry: TelemetrySettings,
    capture: CaptureSettings,
    requests: RequestSettings,
    /// Whom `eval --judge` asks.
    judge: Option<TeacherSettings>,
    access: AccessSettings,
    tls: Option<TlsSettings>,
    fleet: Option<FleetSettings>,
    recogniser: Option<RecogniserSettings>,
    /// Names of subjects that are on record, to be masked in datasets.
    accounts: Option<PathBuf>,
    release: ReleaseSettings,
    /// How `serve` draws tokens where requests do not say.
    generation_config: GenerationConfig,
    /// How much the engine of `serve` takes on at once.
    engine: understudy_engine::Config,
}

/// What releases have in common.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ReleaseSettings {
    /// For what recipes do not say.
    policy: PolicyDefaults,
}

/// The frontier model behind the tap and behind tasks nothing has been released for yet.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TeacherSettings {
    /// An OpenAI-compatible endpoint, up to and including `/v1`.
    pub(crate) url: String,
    /// Further addresses of the same model.
    #[serde(default)]
    pub(crate) more_urls: Vec<String>,
    pub(crate) model: String,
    /// The environment variable that holds the key, so that the key is in no file.
    pub(crate) api_key_env: Option<String>,
    /// What it may cost in a UTC day; needs the two prices.
    pub(crate) usd_per_day: Option<f64>,
    /// What each tenant may spend of that, unless it is named in `tenants`.
    pub(crate) tenant_usd_per_day: Option<f64>,
    #[serde(default)]
    pub(crate) tenants: BTreeMap<TenantName, f64>,
    pub(crate) input_usd_per_million: Option<f64>,
    pub(crate) output_usd_per_million: Option<f64>,
    /// Whether personal data and secrets that patterns find leave as placeholders: unless it is
    /// turned off, because this is somebody else's machine.
    #[serde(default = "yes")]
    pub(crate) redact: bool,
    #[serde(default)]
    pub(crate) limit_field: TokenLimitField,
    #[serde(flatten)]
    pub(crate) patience: Patience,
}

fn yes() -> bool {
    true
}

impl TeacherSettings {
    pub(crate) fn limits_tenants(&self) -> bool {
        self.tenant_usd_per_day.is_some() || !self.tenants.is_empty()
    }
}

/// What of live traffic is scored, by scorers that need no expected answer.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LiveSettings {
    /// Of the trajectories, more than 0 and at most 1.
    pub(crate) share: f64,
    #[serde(default)]
    pub(crate) scorers: Vec<Scorer>,
    /// Scorers with a value, such as the schema of every reply.
    #[serde(default)]
    pub(crate) checks: Vec<Check>,
}

/// Servers that hold our base and its adapters, in place of the engine in this process.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FleetSettings {
    /// Each up to and including `/v1`.
    pub(crate) urls: Vec<String>,
    /// What the servers call the base model.
    pub(crate) model: String,
    pub(crate) api_key_env: Option<String>,
    #[serde(flatten)]
    pub(crate) patience: Patience,
}

/// A model that finds names, places and organisations in what datasets are built from.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RecogniserSettings {
    /// An OpenAI-compatible endpoint, up to and including `/v1`.
    url: String,
    model: String,
    /// The environment variable that holds the key, so that the key is in no file.
    api_key_env: Option<String>,
    /// Of one question, in seconds.
    timeout_s: Option<u64>,
}

impl RecogniserSettings {
    pub(crate) fn open(&self) -> Result<ModelRecogniser> {
        let endpoint = understudy_recognition::Endpoint {
            url: self.url.clone(),
            model: self.model.clone(),
            api_key_env: self.api_key_env.clone(),
            timeout: Duration::from_secs(self.timeout_s.unwrap_or(60).max(1)),
        };
        Ok(ModelRecogniser::new(&endpoint)?)
    }
}

/// How long to wait for what, and whether to ask again. Times are in milliseconds.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Patience {
    pub(crate) connect_ms: Option<u64>,
    pub(crate) first_token_ms: Option<u64>,
    pub(crate) between_tokens_ms: Option<u64>,
    pub(crate) total_ms: Option<u64>,
    pub(crate) attempts: Option<u32>,
    pub(crate) replay: Option<Replay>,
    /// 0 is never.
    pub(crate) hedge_after_ms: Option<u64>,
    pub(crate) concurrency: Option<usize>,
    pub(crate) waiting: Option<usize>,
}

impl Patience {
    pub(crate) fn of(self, endpoint: Endpoint) -> Endpoint {
        let ms = |given: Option<u64>, default| given.map_or(default, Duration::from_millis);
        let timeouts = Timeouts {
            connect: ms(self.connect_ms, endpoint.timeouts.connect),
            first_token: ms(self.first_token_ms, endpoint.timeouts.first_token),
            between_tokens: ms(self.between_tokens_ms, endpoint.timeouts.between_tokens),
            total: ms(self.total_ms, endpoint.timeouts.total),
        };
        let hedge_after = match self.hedge_after_ms {
            None => endpoint.hedge_after,
            Some(0) => None,
            Some(after) => Some(Duration::from_millis(after)),
        };
        Endpoint {
            timeouts,
            hedge_after,
            attempts: self.attempts.unwrap_or(endpoint.attempts),
            replay: self.replay.unwrap_or(endpoint.replay),
            concurrency: self.concurrency.unwrap_or(endpoint.concurrency),
            waiting: self.waiting.unwrap_or(endpoint.waiting),
            ..endpoint
        }
    }
}

/// What becomes of what others report.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct TelemetrySettings {
    /// How long raw bodies are kept after they were read; for ever unless given.
    keep_raw_days: Option<NonZeroU32>,
}

/// How what is served is recorded.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct CaptureSettings {
    /// Whether a reply's last byte waits until its step would survive a power failure.
    pub(crate) flush_replies: bool,
    /// How much is kept of what is said.
    pub(crate) level: Capture,
    /// And by those who are tenants, where it is another level.
    pub(crate) tenants: BTreeMap<TenantName, Capture>,
}

/// What a request may ask of `serve`.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RequestSettings {
    /// The longest that it is waited for, in seconds.
    max_timeout_s: Option<NonZeroU32>,
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
    /// As `meaning` reads it.
    pub(crate) embedder: String,
    /// What models run on, as `understudy_model::device` reads it.
    pub(crate) device: String,
    pub(crate) listen: SocketAddr,
    pub(crate) tasks: Vec<understudy_ident::TaskName>,
    pub(crate) loops: Vec<PathBuf>,
    pub(crate) teacher: Option<TeacherSettings>,
    pub(crate) judge: Option<TeacherSettings>,
    pub(crate) live: Option<LiveSettings>,
    /// How long raw bodies of telemetry are kept.
    pub(crate) keep_raw: Option<Duration>,
    pub(crate) capture: CaptureSettings,
    /// The longest that a request may ask to be waited for, in seconds.
    pub(crate) max_request_timeout: Option<NonZeroU32>,
    /// From the environment, so that it is in no file.
    pub(crate) pepper: Option<Pepper>,
    pub(crate) pepper_file: Option<PathBuf>,
    pub(crate) tls: Option<TlsSettings>,
    pub(crate) fleet: Option<FleetSettings>,
    pub(crate) recogniser: Option<RecogniserSettings>,
    pub(crate) accounts: Option<PathBuf>,
    /// What releases start from where their recipes say nothing.
    pub(crate) policy: PolicyDefaults,
    /// How `serve` draws where requests do not say.
    pub(crate) drawing: GenerationConfig,
    pub(crate) engine: understudy_engine::Config,
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
            embedder: embedder(file.embedder, home),
            device: global.device.clone().or(file.device).unwrap_or_else(|| "cpu".to_owned()),
            listen: match file.listen {
                Some(address) => address,
                None => DEFAULT_LISTEN.parse().expect("the default address is one"),
            },
            tasks: file.tasks,
            loops: file.loops.into_iter().map(|path| home.join(path)).collect(),
            teacher: file.teacher,
            judge: file.judge,
            live: file.live,
            keep_raw: file
                .telemetry
                .keep_raw_days
                .map(|days| Duration::from_hours(24 * u64::from(days.get()))),
            capture: file.capture,
            max_request_timeout: file.requests.max_timeout_s,
            pepper: pepper()?,
            pepper_file: file.access.pepper.map(|path| home.join(path)),
            tls: file
                .tls
                .map(|tls| TlsSettings { cert: home.join(tls.cert), key: home.join(tls.key) }),
            fleet: file.fleet,
            recogniser: file.recogniser,
            accounts: file.accounts.map(|path| home.join(path)),
            policy: policy(file.release.policy)?,
            drawing: file.generation_config,
            engine: engine(file.engine, |name| std::env::var(name).ok())?,
            json: global.json,
        })
    }

    /// Where the pepper is, unless the environment has it.
    pub(crate) fn pepper_file(&self) -> PathBuf {
        self.pepper_file.clone().unwrap_or_else(|| self.data.pepper())
    }
}

fn policy(defaults: PolicyDefaults) -> Result<PolicyDefaults> {
    defaults.validate().with_context(|| format!("[release.policy] of {FILE} cannot be used"))?;
    Ok(defaults)
}

/// A path is meant from where the file is.
fn embedder(from_file: Option<String>, home: &Path) -> String {
    let said = std::env::var("UNDERSTUDY_EMBEDDER").ok().filter(|text| !text.is_empty());
    match (said, from_file) {
        (Some(said), _) => said,
        (None, Some(path)) if path.contains(['/', '\\']) => home.join(path).display().to_string(),
        (None, Some(name)) => name,
        (None, None) => AUTO.to_owned(),
    }
}

/// Every key of `[engine]` may be set by the environment as well, which wins.
fn engine(
    from_file: understudy_engine::Config,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<understudy_engine::Config> {
    let mut settings = toml::Table::try_from(from_file).context("failed to read [engine]")?;
    for (key, value) in &mut settings {
        let name = format!("UNDERSTUDY_ENGINE_{}", key.to_uppercase());
        if let Some(text) = variable(&name).filter(|text| !text.is_empty()) {
            *value = if value.is_str() {
                text.into()
            } else {
                let number = text.parse::<i64>().ok().filter(|number| *number >= 0);
                let wrong = || format!("{name} is `{text}`, which is no whole number, 0 or more");
                number.with_context(wrong)?.into()
            };
        }
    }
    settings.try_into().context("the environment sets an impossible [engine]")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_is_set_by_the_file_and_then_by_the_environment() {
        let text = "[engine]\nkv_tokens = 4096\nmax_running = 4\nkeep_previous = 2\n";
        let file: File = toml::from_str(text).unwrap();
        let set = |name: &str| (name == "UNDERSTUDY_ENGINE_MAX_RUNNING").then(|| "8".to_owned());
        let settings = engine(file.engine, set).unwrap();
        assert_eq!((settings.kv_tokens, settings.max_running), (4096, 8));
        assert_eq!((settings.keep_previous, settings.max_waiting), (2, 256));
        let processed = |name: &str| {
            (name == "UNDERSTUDY_ENGINE_LOGPROBS_MODE").then(|| "processed_logprobs".to_owned())
        };
        let settings = engine(file.engine, processed).unwrap();
        assert_eq!(settings.logprobs_mode, understudy_inference::LogProbsOf::Processed);
        let half = |name: &str| processed(name).map(|mode| mode[..9].to_owned());
        let error = format!("{:#}", engine(file.engine, half).unwrap_err());
        assert!(error.contains("unknown variant `processed`"), "{error}");
        for wrong in ["many", "-1", "1.5"] {
            let error = engine(file.engine, |_| Some(wrong.to_owned())).unwrap_err().to_string();
            assert!(error.contains("UNDERSTUDY_ENGINE_") && error.contains(wrong), "{error}");
        }
        let error = toml::from_str::<File>("[engine]\nkv_token = 1\n").unwrap_err().to_string();
        assert!(error.contains("unknown field `kv_token`"), "{error}");
    }

    #[test]
    fn what_leaves_for_a_teacher_or_a_judge_is_masked_unless_that_is_turned_off() {
        for section in ["teacher", "judge"] {
            let read = |more: &str| {
                let text = format!("[{section}]\nurl = \"http://x/v1\"\nmodel = \"m\"\n{more}");
                let file: File = toml::from_str(&text).unwrap();
                file.teacher.or(file.judge).unwrap().redact
            };
            assert!(read(""), "[{section}] leaves as it is");
            assert!(!read("redact = false\n"));
        }
    }

    #[test]
    fn releases_start_from_the_file_s_rules_and_wrong_ones_are_refused_by_name() {
        let read = |text: &str| toml::from_str::<File>(&format!("[release.policy]\n{text}\n"));
        let file = read("error_slo = 0.01").unwrap();
        let defaults = policy(file.release.policy).unwrap();
        assert_eq!((defaults.error_slo, defaults.safety_slo), (0.01, 0.005));
        let wrong = policy(read("alpha_slo = 0.7").unwrap().release.policy).unwrap_err();
        let wrong = format!("{wrong:#}");
        assert!(wrong.contains("[release.policy]") && wrong.contains("`alpha_slo`"), "{wrong}");
        // What a recipe says is not for the deployment to say.
        for unknown in ["eror_slo = 0.01", "margin = 0.1"] {
            let error = read(unknown).unwrap_err().to_string();
            assert!(error.contains("unknown field"), "{error}");
        }
    }

    #[test]
    fn a_teacher_and_a_fleet_say_how_patient_one_is_with_them_and_nothing_unknown() {
        let text = "[teacher]\nurl = \"https://t.example/v1\"\nmodel = \"big\"\nusd_per_day = 2.5\n\
                    first_token_ms = 900\n[fleet]\nurls = [\"http://a/v1\"]\nmodel = \"small\"\n\
                    hedge_after_ms = 0\n";
        let file: File = toml::from_str(text).unwrap();
        let (teacher, fleet) = (file.teacher.unwrap(), file.fleet.unwrap());
        assert_eq!((teacher.usd_per_day, teacher.patience.first_token_ms), (Some(2.5), Some(900)));
        assert_eq!((fleet.urls.len(), fleet.patience.hedge_after_ms), (1, Some(0)));
        assert_eq!(file.telemetry.keep_raw_days, None);
        let kept: File = toml::from_str("[telemetry]\nkeep_raw_days = 30\n").unwrap();
        assert_eq!(kept.telemetry.keep_raw_days.map(NonZeroU32::get), Some(30));
        assert!(toml::from_str::<File>("[telemetry]\nkeep_raw_days = 0\n").is_err());
        assert!(!file.capture.flush_replies);
        let waits: File = toml::from_str("[capture]\nflush_replies = true\n").unwrap();
        assert!(waits.capture.flush_replies);
        assert_eq!(waits.capture.level, Capture::Full);
        let kept: File = toml::from_str("[capture]\nlevel = \"metadata\"\n").unwrap();
        assert_eq!(kept.capture.level, Capture::Metadata);
        assert!(toml::from_str::<File>("[capture]\nlevel = \"some\"\n").is_err());
        let apart: File = toml::from_str("[capture.tenants]\nacme = \"none\"\n").unwrap();
        assert_eq!(apart.capture.tenants.values().collect::<Vec<_>>(), [&Capture::None]);
        assert!(toml::from_str::<File>("[capture.tenants]\nAcme = \"none\"\n").is_err());
        assert_eq!(waits.requests.max_timeout_s, None);
        let held: File = toml::from_str("[requests]\nmax_timeout_s = 90\n").unwrap();
        assert_eq!(held.requests.max_timeout_s.map(NonZeroU32::get), Some(90));
        for wrong in ["max_timeout_s = 0", "max_timeout = 90"] {
            assert!(toml::from_str::<File>(&format!("[requests]\n{wrong}\n")).is_err(), "{wrong}");
        }
        for wrong in ["first_tokens_ms = 900", "price = 1"] {
            let text = text.replace("first_token_ms = 900", wrong);
            let error = toml::from_str::<File>(&text).unwrap_err().to_string();
            assert!(error.contains("unknown field"), "{error}");
        }
    }
}
