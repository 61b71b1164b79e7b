//! `understudy init`: something to start from, which runs as it is.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::json;
use understudy_ident::TaskName;
use understudy_storage::atomic;

use super::Exit;
use crate::{cli::InitArgs, config::Config, output::Out};

pub(crate) fn run(args: &InitArgs, config: &Config, out: Out) -> Result<Exit> {
    let task: TaskName = args.task.parse()?;
    let recipe = format!("recipes/{task}.toml");
    let files = [
        ("understudy.toml", configuration(&task, &args.base)),
        (&recipe, recipe_text(&task, args)),
    ];
    if let Some((path, _)) = files.iter().find(|(path, _)| Path::new(path).exists()) {
        bail!("{path} exists already; nothing was written");
    }
    for (path, text) in &files {
        atomic::create_dir(
            Path::new(path)
                .parent()
                .filter(|p| !p.as_os_str().is_empty())
                .unwrap_or(Path::new(".")),
        )?;
        atomic::write(Path::new(path), text.as_bytes())
            .with_context(|| format!("failed to write {path}"))?;
    }
    let text = format!(
        "wrote understudy.toml and {recipe}\n\n\
         Next:\n  understudy serve                         your application sends model = \"{task}\"\n  \
         understudy suite import cases.jsonl …    held-out cases; see --help\n  \
         understudy run {recipe} --dry-run"
    );
    let data = json!({"files": ["understudy.toml", recipe], "data_dir": config.data.root()});
    out.either(text, &data)?;
    Ok(Exit::Ok)
}

fn configuration(task: &TaskName, base: &str) -> String {
    format!(
        "# Settings of this project; every key has a default.\n\
         base = \"{base}\"\n\
         listen = \"127.0.0.1:8700\"\n\
         tasks = [\"{task}\"]\n\n\
         # The frontier model that answers until something better is released. Its key stays in\n\
         # the environment.\n\
         # [teacher]\n\
         # url = \"https://api.example.com/v1\"\n\
         # model = \"frontier-large\"\n\
         # api_key_env = \"TEACHER_API_KEY\"\n\
         # usd_per_day = 20\n\
         # input_usd_per_million = 2.5\n\
         # output_usd_per_million = 10\n"
    )
}

fn recipe_text(task: &TaskName, args: &InitArgs) -> String {
    format!(
        "schema = 1\n\
         task = \"{task}\"\n\
         base = \"{}\"\n\n\
         [data]\n\
         source = \"journal\"\n\
         since = \"30d\"\n\
         holdout = 0.2\n\
         min_verified = 64\n\n\
         [[train]]\n\
         method = \"sft\"\n\
         epochs = 2\n\n\
         [[train]]\n\
         method = \"dpo\"\n\
         beta = 0.1\n\n\
         [gate]\n\
         suite = \"{task}\"\n\
         verdict = \"better\"\n\n\
         [release]\n\
         steps = [1, 5, 25, 50, 100]\n\
         min_outcomes_per_step = 50\n\
         tap = 0.05\n\n\
         # As a table, not as comments, it lets `understudy serve --loop` run this recipe by itself.\n\
         # [loop]\n\
         # min_new = 64\n\
         # min_interval = \"6h\"\n",
        args.base
    )
}
