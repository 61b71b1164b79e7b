//! `understudy doctor`: what is here, what is missing, and what to do about it.

use std::process::Command;

use anyhow::Result;
use serde_json::json;
use understudy_model::{
    Precision::{Bf16, F32, Int8},
    instructions,
};

use super::{Exit, model};
use crate::{config::Config, meaning, output::Out, wiring::Stores};

struct Finding {
    what: &'static str,
    good: bool,
    detail: String,
}

pub(crate) fn run(config: &Config, out: Out) -> Result<Exit> {
    let findings = [
        processor(),
        python(),
        base(config),
        embedder(config),
        data(config),
        access(config),
        teacher(config),
        engine(config),
    ];
    for Finding { what, good, detail } in &findings {
        out.say(format!("{} {what:<14} {detail}", if *good { "ok  " } else { "look" }));
    }
    let rows: Vec<_> = findings
        .iter()
        .map(|f| json!({"what": f.what, "ok": f.good, "detail": f.detail}))
        .collect();
    out.value(&rows)?;
    Ok(if findings.iter().all(|finding| finding.good) { Exit::Ok } else { Exit::No })
}

fn processor() -> Finding {
    let count = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    let products = [("f32", F32), ("bf16", Bf16), ("int8", Int8)].map(|(name, precision)| {
        instructions(precision)
            .map_or_else(|| format!("no {name}"), |made_of| format!("{name} by {made_of}"))
    });
    let detail = format!("{count} threads; {}", products.join(", "));
    Finding { what: "processor", good: true, detail }
}

fn python() -> Finding {
    let asked = Command::new("python3").args(["-m", "pip", "--version"]).output();
    match asked {
        Ok(output) if output.status.success() => {
            let detail = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            Finding { what: "python", good: true, detail }
        }
        _ => Finding {
            what: "python",
            good: false,
            detail: "python3 with pip is the second source of base models; install it".to_owned(),
        },
    }
}

fn base(config: &Config) -> Finding {
    let hub = model::hub(config);
    let (good, detail) = match hub.path_if_present(&config.base) {
        Ok(Some(path)) => (true, format!("{} at {}", config.base, path.display())),
        Ok(None) => (false, format!("absent; run `understudy model pull {}`", config.base)),
        Err(error) => (false, format!("{error}")),
    };
    Finding { what: "base model", good, detail }
}

/// That there is none is no fault: lessons are found by spelling then.
fn embedder(config: &Config) -> Finding {
    let (good, detail) = match meaning::embedder(config) {
        Ok(embedder) => {
            (true, format!("texts are compared by {}", meaning::described(embedder.name())))
        }
        Err(error) => (false, format!("{error:#}")),
    };
    Finding { what: "embedder", good, detail }
}

fn access(config: &Config) -> Finding {
    let (good, detail) = match super::key::open(config) {
        Err(error) => (false, format!("{error}")),
        Ok(keys) if !keys.is_locked() => {
            let detail = "no API key: this machine is answered without one, and no other is";
            (true, detail.to_owned())
        }
        Ok(keys) => match (keys.active(), keys.list().len()) {
            (0, _) => {
                let detail = "every API key has ended, so that nobody is let in; run `understudy \
                              key create`";
                (false, detail.to_owned())
            }
            (active, all) => (true, format!("{active} of {all} API keys open something")),
        },
    };
    Finding { what: "access", good, detail }
}

fn data(config: &Config) -> Finding {
    let root = config.data.root();
    if !root.exists() {
        let detail =
            format!("{} will be created by the first command that needs it", root.display());
        return Finding { what: "data", good: true, detail };
    }
    let counted = Stores::open(&config.data).and_then(|stores| {
        stores.registry.verify_audit(None)?;
        Ok(stores.journal.counts()?)
    });
    match counted {
        Ok(counts) => {
            let detail = format!(
                "{}: {} exchanges, {} outcomes ({} pending), audit chain whole",
                root.display(),
                counts.steps,
                counts.outcomes,
                counts.pending_outcomes
            );
            Finding { what: "data", good: true, detail }
        }
        Err(error) => Finding { what: "data", good: false, detail: format!("{error:#}") },
    }
}

fn teacher(config: &Config) -> Finding {
    let detail = match &config.teacher {
        Some(teacher) => format!("{} at {}", teacher.model, teacher.url),
        None => "none configured; tasks without a release are answered by the base".to_owned(),
    };
    Finding { what: "teacher", good: true, detail }
}

fn engine(config: &Config) -> Finding {
    let settings = &config.engine;
    let (good, detail) = match settings.check() {
        Ok(()) => {
            let (running, kv) = (settings.max_running, settings.kv_tokens);
            (true, format!("{running} sequences at once, {kv} tokens of keys and values"))
        }
        Err(error) => (false, format!("[engine] of understudy.toml: {error}")),
    };
    Finding { what: "engine", good, detail }
}
