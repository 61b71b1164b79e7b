//! `understudy key`: who is let in. A running server follows within a second.

use std::sync::Arc;

use anyhow::{Result, bail};
use serde_json::{Value, json};
use understudy_access::{KeyRecord, Keyring, Limits, NewKey, Role, Scope, Scopes};
use understudy_ident::{Clock as _, SystemClock, TenantName, Timestamp};
use understudy_registry::{Change, KeyNote, Registry, RegistryError};

use super::{Exit, complain};
use crate::{
    cli::{KeyCommand, KeyCreateArgs, KeyRevokeArgs},
    config::Config,
    output::Out,
};

pub(crate) fn run(command: KeyCommand, config: &Config, out: Out) -> Result<Exit> {
    let keys = open(config)?;
    match command {
        KeyCommand::Create(args) => create(&args, &keys, config, out),
        KeyCommand::List => list(&keys, out),
        KeyCommand::Revoke(args) => revoke(&args, &keys, config, out),
    }
}

/// The keys of a data directory.
pub(crate) fn open(config: &Config) -> Result<Keyring> {
    let (database, pepper) = (config.data.access(), config.pepper_file());
    Ok(Keyring::open(&database, &pepper, config.pepper.clone(), Arc::new(SystemClock))?)
}

fn registry(config: &Config) -> Result<Registry> {
    Ok(Registry::open(&config.data.registry(), &config.data.adapters())?)
}

fn create(args: &KeyCreateArgs, keys: &Keyring, config: &Config, out: Out) -> Result<Exit> {
    let tenant: Option<TenantName> = args.tenant.as_deref().map(str::parse).transpose()?;
    let new = NewKey {
        owner: args.owner.clone(),
        note: args.note.clone(),
        scopes: scopes(args, tenant.is_some())?,
        tenant,
        user: args.user.clone(),
        limits: Limits {
            requests_per_minute: args.requests_per_minute,
            tokens_per_minute: args.tokens_per_minute,
            max_tokens: args.max_tokens,
            concurrent: args.concurrent,
            feedback_per_minute: args.feedback_per_minute,
        },
        expires_at: args.expires_in.as_deref().map(after).transpose()?,
    };
    let registry = registry(config)?;
    let (key, record) = keys.create(new)?;
    let change = Change::new(&args.by, &args.reason, &SystemClock);
    if let Err(why) = registry.note_key_created(&note(&record), change) {
        // Nobody has seen it, and nobody will.
        keys.revoke(&record.id, &args.by, "it could not be noted in the audit chain")?;
        let is_a_no = matches!(why, RegistryError::NotPermitted { .. });
        let why = anyhow::Error::from(why).context("the key was not made");
        if is_a_no {
            complain(&why);
            return Ok(Exit::No);
        }
        return Err(why);
    }
    let whole = key.expose();
    out.say(format!("{}\n\n{whole}\n", line(&record)));
    out.say("It is shown this once; what is kept is a hash of it. Clients send it as");
    out.say("`authorization: Bearer us_…`, which is what OpenAI's do with OPENAI_API_KEY.");
    let mut value = shown(&record);
    value["key"] = json!(whole);
    out.value(&value)?;
    Ok(Exit::Ok)
}

fn list(keys: &Keyring, out: Out) -> Result<Exit> {
    let records = keys.list();
    if records.is_empty() {
        out.say("no key was ever made: this machine is answered without one, and no other is");
    }
    for record in &records {
        out.say(line(record));
    }
    out.value(&records.iter().map(shown).collect::<Vec<_>>())?;
    Ok(Exit::Ok)
}

fn revoke(args: &KeyRevokeArgs, keys: &Keyring, config: &Config, out: Out) -> Result<Exit> {
    // Whoever pastes the whole key means the same, and it is over in any case.
    let id = args.id.strip_prefix("us_").unwrap_or(&args.id);
    let id = id.split('_').next().unwrap_or(id).parse()?;
    let record = keys.revoke(&id, &args.owner, &args.reason)?;
    let change = Change::new(&args.owner, &args.reason, &SystemClock);
    registry(config)?.note_key_revoked(&note(&record), change)?;
    out.either(line(&record), &shown(&record))?;
    Ok(Exit::Ok)
}

fn scopes(args: &KeyCreateArgs, of_tenant: bool) -> Result<Scopes> {
    let mut all: Vec<Scope> = Vec::new();
    for role in &args.roles {
        let scopes = role.parse::<Role>()?.scopes(of_tenant);
        if scopes.is_empty() {
            bail!("the role {role} has nothing that a tenant's key may have; leave --tenant out");
        }
        all.extend(scopes.iter().cloned());
    }
    for scope in &args.scopes {
        all.push(scope.parse()?);
    }
    Ok(all.into_iter().collect())
}

fn note(record: &KeyRecord) -> KeyNote {
    KeyNote {
        id: record.id.to_string(),
        holder: record.owner.clone(),
        tenant: record.tenant.clone(),
        scopes: record.scopes.iter().map(ToString::to_string).collect(),
        expires_at: record.expires_at,
    }
}

fn shown(record: &KeyRecord) -> Value {
    let mut value = json!(record);
    value["state"] = json!(record.state(SystemClock.now()));
    value
}

fn line(record: &KeyRecord) -> String {
    let KeyRecord { id, owner, tenant, user, scopes, note, .. } = record;
    let whose = tenant.as_ref().map_or_else(String::new, |tenant| format!(" of {tenant}"));
    let end = match (&record.revoked, record.expires_at) {
        (Some(end), _) => format!("  revoked by {}: {}", end.owner, end.reason),
        (None, Some(at)) if at <= SystemClock.now() => format!("  expired {at}"),
        (None, Some(at)) => format!("  until {at}"),
        (None, None) => String::new(),
    };
    let note = if note.is_empty() { String::new() } else { format!("  ({note})") };
    let user = user.as_ref().map_or_else(String::new, |user| format!("  for {user} alone"));
    format!("{id}  {owner}{whose}{user}  {scopes}{note}{end}")
}

/// The time after so many days, hours or minutes.
fn after(text: &str) -> Result<Timestamp> {
    let (number, minutes) = match text.char_indices().next_back() {
        Some((at, 'd')) => (&text[..at], 24 * 60),
        Some((at, 'h')) => (&text[..at], 60),
        Some((at, 'm')) => (&text[..at], 1),
        _ => ("", 1),
    };
    let Some(minutes) = number.parse::<u32>().ok().map(|number| i64::from(number) * minutes) else {
        bail!("{text:?} is no time: write it as 90d, 12h or 45m");
    };
    let now = SystemClock.now().as_millisecond();
    Ok(Timestamp::from_millisecond(now.saturating_add(minutes * 60_000))?)
}
