//! Models behind somebody's endpoint: teacher, judge and fleet, with keys and what they may cost.

use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use tokio::runtime::Handle;
use understudy_ident::{Clock, SystemClock};
use understudy_inference::{Backend, Student};
use understudy_storage::atomic;
use understudy_teacher::{Ledger, Limits, Metered, MicroUsd, Price, Redacted};
use understudy_upstream::{ApiKey, Endpoint, Fleet, Upstream};

use crate::config::{Config, TeacherSettings};

/// The configured teacher, if any, within what it may cost.
pub(crate) fn teacher(config: &Config) -> Result<Option<Arc<dyn Backend>>> {
    teacher_on(config, None)
}

/// The same for whoever asks on these threads, and does not wait there.
pub(crate) fn teacher_on(
    config: &Config,
    threads: Option<&Handle>,
) -> Result<Option<Arc<dyn Backend>>> {
    let Some(settings) = &config.teacher else { return Ok(None) };
    paid(config, settings, ("the teacher", "teacher"), threads).map(Some)
}

/// The configured judge of evaluations.
pub(crate) fn judge(config: &Config) -> Result<(Arc<dyn Backend>, &TeacherSettings)> {
    let settings = config.judge.as_ref().context(
        "no judge is configured: name an OpenAI-compatible endpoint as `url` and `model` under \
         [judge] in understudy.toml",
    )?;
    Ok((paid(config, settings, ("the judge", "judge"), None)?, settings))
}

/// A model of somebody else's, within what it may cost; the section is where its settings are.
fn paid(
    config: &Config,
    settings: &TeacherSettings,
    (role, section): (&'static str, &str),
    threads: Option<&Handle>,
) -> Result<Arc<dyn Backend>> {
    let key = api_key(settings.api_key_env.as_deref())?;
    let mut endpoint = Endpoint::new(settings.url.as_str(), settings.model.as_str(), key);
    endpoint.role = role;
    endpoint.urls.extend(settings.more_urls.iter().cloned());
    endpoint.limit_field = settings.limit_field;
    endpoint.threads = threads.cloned();
    let mut teacher: Arc<dyn Backend> = Arc::new(Upstream::new(settings.patience.of(endpoint))?);
    if settings.redact {
        teacher = Arc::new(Redacted::new(teacher, understudy_redact::Policy::Standard));
    }
    let prices = (settings.input_usd_per_million, settings.output_usd_per_million);
    let (per_day, price) = match (settings.usd_per_day, prices) {
        (None, (None, None)) if !settings.limits_tenants() => return Ok(teacher),
        (Some(per_day), (Some(input), Some(output))) => {
            let price =
                Price { input_per_million: dollars(input)?, output_per_million: dollars(output)? };
            (dollars(per_day)?, price)
        }
        _ => bail!(
            "[{section}] needs all of usd_per_day, input_usd_per_million and output_usd_per_million, \
             or none of them and no budgets of tenants: a budget means nothing without prices"
        ),
    };
    atomic::create_dir(config.data.root())?;
    let clock = Arc::new(SystemClock);
    let path = config.data.root().join(format!("{section}-spend.json"));
    let tenants = settings.tenants.iter().map(|(name, usd)| Ok((name.to_string(), dollars(*usd)?)));
    let limits = Limits {
        per_day,
        per_tenant: settings.tenant_usd_per_day.map(dollars).transpose()?,
        tenants: tenants.collect::<Result<_>>()?,
    };
    let (ledger, budget) = Ledger::open(&path, limits, clock.now())?;
    Ok(Arc::new(Metered::new(teacher, price, budget, clock).kept_in(ledger)))
}

/// The configured fleet, if any.
pub(crate) fn fleet(config: &Config) -> Result<Option<Arc<dyn Student>>> {
    let Some(settings) = &config.fleet else { return Ok(None) };
    let key = api_key(settings.api_key_env.as_deref())?;
    let endpoint = Endpoint::fleet(settings.urls.clone(), settings.model.as_str(), key);
    Ok(Some(Arc::new(Fleet::start(settings.patience.of(endpoint))?)))
}

fn api_key(variable: Option<&str>) -> Result<Option<ApiKey>> {
    let Some(variable) = variable else { return Ok(None) };
    let text = std::env::var(variable)
        .with_context(|| format!("an API key should be in the variable {variable}"))?;
    Ok(Some(ApiKey::parse(&text)?))
}

fn dollars(usd: f64) -> Result<MicroUsd> {
    ensure!((0.0..=1e9).contains(&usd), "{usd} is no amount of dollars: say 0 or more");
    Ok(MicroUsd::new((usd * 1e6).round() as u64))
}
