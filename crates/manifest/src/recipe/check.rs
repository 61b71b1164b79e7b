//! What can be wrong with a recipe, said with file, line, key and the nearest valid spelling.

use crate::{
    Cue, Data, DataSource, GroupSource, Guard, LANGUAGES, MissingReward, Objective, Recipe, Release,
};

use super::locate::{line_of, line_of_key, line_of_setting};

/// A recipe that cannot be used, and where to look.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {what}")]
pub struct RecipeError {
    pub file: String,
    pub line: usize,
    /// The offending key, when one can be named.
    pub key: Option<String>,
    /// The closest valid key, when one is close.
    pub nearest: Option<String>,
    pub what: String,
}

/// Turns the parser's error into ours. The parser says ``unknown field `ranks`, expected one of
/// `rank`, `alpha` `` (or `unknown variant`), from which the nearest valid word is found.
pub(super) fn explain(file: &str, text: &str, error: &toml::de::Error) -> RecipeError {
    let line = error.span().map_or(1, |span| line_of(text, span.start));
    let message = error.message().to_owned();
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let is_unknown = message.starts_with("unknown");
    // Our own conversions name the key at fault first.
    let is_ours = message.starts_with('`');
    let key = quoted.first().filter(|_| is_unknown || is_ours || message.contains("missing field"));
    let line = match key {
        Some(key) if is_ours || is_unknown => line_of_setting(text, line, key),
        _ => line,
    };
    let nearest = key.filter(|_| is_unknown).and_then(|key| nearest(key, quoted.get(1..)?));
    let what = match &nearest {
        Some(word) => format!("{message}; did you mean `{word}`?"),
        None => message.clone(),
    };
    RecipeError {
        file: file.to_owned(),
        line,
        key: key.map(|key| (*key).to_owned()),
        nearest,
        what,
    }
}

fn nearest(word: &str, valid: &[&str]) -> Option<String> {
    let scored = valid
        .iter()
        .map(|candidate| (strsim::normalized_damerau_levenshtein(word, candidate), *candidate));
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 >= 0.5).then(|| best.1.to_owned())
}

/// Collects nothing: the first wrong value is reported with its own line.
pub(super) fn validate(file: &str, text: &str, recipe: &Recipe) -> Result<(), RecipeError> {
    let check = Check { file, text };
    if recipe.schema != Recipe::SCHEMA {
        return check.fail("", 0, "schema", "must be 1, the only version this program reads");
    }
    check.data(recipe)?;
    check.lora(recipe)?;
    check.train(recipe)?;
    check.release(recipe)?;
    check.unattended(recipe)
}

struct Check<'a> {
    file: &'a str,
    text: &'a str,
}

impl Check<'_> {
    fn data(&self, recipe: &Recipe) -> Result<(), RecipeError> {
        let data = &recipe.data;
        self.frozen(data)?;
        self.within(("data", 0, "holdout"), data.holdout, 0.0, 0.9)?;
        self.within(("data", 0, "min_reward"), data.min_reward, 0.0, 1.0)?;
        self.within(("data", 0, "memory_slot"), data.memory_slot, 0.0, 1.0)?;
        let policies = ["default", "default@1", "calibrated", "calibrated@1"];
        if !policies.contains(&data.reward.as_str()) {
            let what = format!(
                "names no reward policy `{}`; there are `default` and `calibrated`",
                data.reward
            );
            return self.fail("data", 0, "reward", &what);
        }
        self.caps(data)?;
        self.texts(data)?;
        self.card(data)?;
        match &data.since {
            Some(text) if parse_age(text).is_none() => {
                self.fail("data", 0, "since", "must be a number with d, h or m, such as \"30d\"")
            }
            _ => Ok(()),
        }
    }

    /// A frozen version is what it was built as, so that whatever else says how to build, and is not
    /// as usual, would be passed over. By `reward` a canary of it is judged all the same.
    fn frozen(&self, data: &Data) -> Result<(), RecipeError> {
        if data.source == DataSource::Journal {
            return Ok(());
        }
        let table: toml::Table = toml::from_str(self.text).unwrap_or_default();
        let stated = table.get("data").and_then(toml::Value::as_table);
        let idle = |(key, value): &(&String, &toml::Value)| {
            let alone = toml::Table::from_iter([((*key).clone(), (*value).clone())]);
            let is_usual = alone.try_into::<Data>().is_ok_and(|alone| alone == Data::default());
            !is_usual && !["source", "reward"].contains(&key.as_str())
        };
        let Some((key, _)) = stated.into_iter().flatten().find(idle) else { return Ok(()) };
        let what = "is for datasets that are built now, and `source` names a version that is \
                    frozen: leave it out, or build anew with source = \"journal\"";
        self.fail("data", 0, key, what)
    }

    fn caps(&self, data: &Data) -> Result<(), RecipeError> {
        let caps = [
            ("limit", data.limit),
            ("max_per_subject", data.max_per_subject),
            ("max_per_prompt", data.max_per_prompt),
            ("max_per_answer", data.max_per_answer),
            ("max_per_tool", data.max_per_tool),
            ("max_per_model", data.max_per_model),
        ];
        if let Some((key, _)) = caps.into_iter().find(|(_, most)| *most == Some(0)) {
            return self.fail("data", 0, key, "must be at least 1");
        }
        self.within(("data", 0, "replay"), data.replay, 0.0, 0.9)?;
        if data.replay > 0.0 && data.limit.is_none() {
            let what =
                "is a share of `limit`, which is missing: without it nothing older is left out";
            return self.fail("data", 0, "replay", what);
        }
        // Below 1 the rarer side would be cut to less than the other leaves of itself.
        self.within(("data", 0, "max_label_ratio"), data.max_label_ratio.unwrap_or(1.0), 1.0, 1e6)?;
        let share = data.max_subject_share;
        self.within(("data", 0, "max_subject_share"), share, f64::MIN_POSITIVE, 1.0)?;
        self.within(("data", 0, "holdout_newest"), data.holdout_newest, 0.0, 0.9)
    }

    fn texts(&self, data: &Data) -> Result<(), RecipeError> {
        let is_known = |code: &&String| LANGUAGES.iter().any(|(two, _)| two == code);
        if let Some(code) = data.languages.iter().find(|code| !is_known(code)) {
            let what = format!(
                "holds {code:?}, which is none of the languages that can be told: {}",
                LANGUAGES.map(|(two, _)| two).join(", ")
            );
            return self.fail("data", 0, "languages", &what);
        }
        let limits = [
            ("max_prompt_tokens", data.max_prompt_tokens),
            ("min_reply_tokens", data.min_reply_tokens),
            ("max_reply_tokens", data.max_reply_tokens),
        ];
        if let Some((key, _)) = limits.into_iter().find(|(_, limit)| *limit == Some(0)) {
            return self.fail("data", 0, key, "must be at least 1");
        }
        match (data.min_reply_tokens, data.max_reply_tokens) {
            (Some(least), Some(most)) if least > most => {
                let what = format!("is {least}, above `max_reply_tokens`, which is {most}");
                self.fail("data", 0, "min_reply_tokens", &what)
            }
            _ => Ok(()),
        }
    }

    fn card(&self, data: &Data) -> Result<(), RecipeError> {
        let fail = |(key, what)| self.fail("data.card", 0, key, what);
        data.card.check().or_else(fail)
    }

    fn lora(&self, recipe: &Recipe) -> Result<(), RecipeError> {
        if !(1..=512).contains(&recipe.lora.rank) {
            return self.fail("lora", 0, "rank", "must lie between 1 and 512");
        }
        self.within(("lora", 0, "dropout"), recipe.lora.dropout, 0.0, 0.9)?;
        let (ranks, alphas) = (&recipe.lora.rank_pattern, &recipe.lora.alpha_pattern);
        if ranks.values().any(|rank| !(1..=512).contains(rank)) {
            return self.fail("lora", 0, "rank_pattern", "holds a rank outside 1 to 512");
        }
        if alphas.values().any(|alpha| !(*alpha > 0.0 && *alpha <= 4096.0)) {
            return self.fail("lora", 0, "alpha_pattern", "holds an alpha outside 0 to 4096");
        }
        self.within(("lora", 0, "alpha"), recipe.lora.alpha, f64::MIN_POSITIVE, 4096.0)
    }

    fn train(&self, recipe: &Recipe) -> Result<(), RecipeError> {
        if recipe.train.is_empty() {
            return self.fail("", 0, "train", "needs at least one [[train]] stage");
        }
        for (nth, stage) in recipe.train.iter().enumerate() {
            let at = |key: &'static str, value, low, high| {
                self.within(("train", nth, key), value, low, high)
            };
            at("learning_rate", stage.learning_rate, f64::MIN_POSITIVE, 1.0)?;
            at("warmup", stage.warmup, 0.0, 1.0)?;
            at("weight_decay", stage.weight_decay, 0.0, 1.0)?;
            at("clip", stage.clip, f64::MIN_POSITIVE, 1e6)?;
            at("epochs", f64::from(stage.epochs), 1.0, 1000.0)?;
            at("batch_size", stage.batch_size as f64, 1.0, 65536.0)?;
            at("max_tokens", stage.max_tokens as f64, 2.0, 1e6)?;
            at("adam_beta2", stage.adam_beta2, 0.5, 0.999_999)?;
            at("loraplus_lr_ratio", stage.loraplus_lr_ratio, f64::MIN_POSITIVE, 1e4)?;
            at("min_sft_score", stage.min_sft_score, 0.0, 1.0)?;
            if let Err(wrong) = stage.objective.check() {
                return self.fail("train", nth, wrong.key, &wrong.what);
            }
            let Objective::Grpo(settings) = &stage.objective else { continue };
            let is_built = recipe.data.source == DataSource::Journal;
            if settings.source == GroupSource::Prompts && is_built && !recipe.data.prompts {
                let what = "is \"prompts\", which needs `prompts = true` in [data]";
                return self.fail("train", nth, "source", what);
            }
        }
        Ok(())
    }

    fn release(&self, recipe: &Recipe) -> Result<(), RecipeError> {
        if let Some(gate) = &recipe.gate {
            self.within(("gate", 0, "margin"), gate.margin, 0.0, 1.0)?;
            for (key, ratio) in [
                ("latency_ratio_max", gate.latency_ratio_max),
                ("latency_p95_ratio_max", gate.latency_p95_ratio_max),
                ("tokens_ratio_max", gate.tokens_ratio_max),
                ("cost_ratio_max", gate.cost_ratio_max),
            ] {
                self.within(("gate", 0, key), ratio.unwrap_or(1.0), f64::MIN_POSITIVE, 1e6)?;
            }
            if let Some(prices) = gate.prices {
                let (input, output) = (prices.input_usd_per_million, prices.output_usd_per_million);
                self.within(("gate.prices", 0, "input_usd_per_million"), input, 0.0, 1e6)?;
                self.within(("gate.prices", 0, "output_usd_per_million"), output, 0.0, 1e6)?;
            }
        }
        let Some(release) = &recipe.release else { return Ok(()) };
        if recipe.gate.is_none() {
            return self.fail("release", 0, "steps", "needs a [gate]: nothing ungated is released");
        }
        let rising = release.steps.windows(2).all(|pair| pair[0] < pair[1]);
        // Short-circuits on an empty list before looking at its first step.
        let valid = !release.steps.is_empty()
            && release.steps.iter().all(|step| (1..=100).contains(step))
            && release.steps[..1] != [100];
        if !rising || !valid {
            return self.fail(
                "release",
                0,
                "steps",
                "must be whole percentages that rise, from 1, the first below 100",
            );
        }
        self.within(("release", 0, "tap"), release.tap, 0.0, 1.0)?;
        self.within(("release", 0, "margin"), release.margin, 0.0, 1.0)?;
        for (key, limit) in [
            ("latency_slo_ms", release.latency_slo_ms),
            ("first_token_slo_ms", release.first_token_slo_ms),
        ] {
            self.within(("release", 0, key), limit.unwrap_or(1.0), 1.0, 1e9)?;
        }
        if release.min_outcomes_per_step == 0 {
            return self.fail("release", 0, "min_outcomes_per_step", "must be at least 1");
        }
        if release.max_age_s == Some(0) {
            return self.fail("release", 0, "max_age_s", "must be at least 1");
        }
        let cap = release.cost_cap.unwrap_or(1.0);
        self.within(("release", 0, "cost_cap"), cap, f64::MIN_POSITIVE, 1e9)?;
        if release.rollback_on.contains(&Guard::Cost) && release.cost_cap.is_none() {
            let what = "names cost, which needs `cost_cap`, the most tokens that count of one unit";
            return self.fail("release", 0, "rollback_on", what);
        }
        if release.long_reply_tokens == Some(0) {
            return self.fail("release", 0, "long_reply_tokens", "must be at least 1");
        }
        self.beside(release)?;
        if release.missing == MissingReward::WorstCase && release.maturation_s == 0 {
            let what = "needs `maturation_s`: without a time limit no reward is ever missing";
            return self.fail("release", 0, "missing", what);
        }
        Ok(())
    }

    fn beside(&self, release: &Release) -> Result<(), RecipeError> {
        if let Some(observe) = &release.observe {
            self.within(("release.observe", 0, "share"), observe.share, 0.0, 1.0)?;
            let on_cue = observe.share(true);
            self.within(("release.observe", 0, "on_cue"), on_cue, observe.share, 1.0)?;
        }
        if let Some(shadow) = &release.shadow {
            self.within(("release.shadow", 0, "share"), shadow.share, 0.0, 1.0)?;
        }
        let Some(escalate) = &release.escalate else { return Ok(()) };
        let fail = |key, what| self.fail("release.escalate", 0, key, what);
        if escalate.on.is_empty() {
            return fail("on", "is empty: name at least one cue, or leave the table out");
        }
        for (key, limit) in
            [("min_log_prob", escalate.min_log_prob), ("mean_log_prob", escalate.mean_log_prob)]
        {
            if limit.is_some_and(|limit| limit.is_nan() || limit > 0.0) {
                return fail(key, "must be at most 0: log-probabilities are");
            }
        }
        let limited = escalate.min_log_prob.is_some() || escalate.mean_log_prob.is_some();
        match (escalate.on.contains(&Cue::LowConfidence), limited) {
            (true, false) => {
                fail("on", "names low_confidence, which needs `min_log_prob` or `mean_log_prob`")
            }
            (false, true) => {
                fail("on", "lacks low_confidence, without which its limits decide nothing")
            }
            _ => Ok(()),
        }
    }

    fn unattended(&self, recipe: &Recipe) -> Result<(), RecipeError> {
        let Some(unattended) = &recipe.unattended else { return Ok(()) };
        if recipe.data.source != DataSource::Journal {
            let what = "waits for new outcomes, so it needs source = \"journal\" in [data]";
            return self.fail("loop", 0, "min_new", what);
        }
        unattended.check().or_else(|(key, what)| self.fail("loop", 0, key, &what))
    }

    fn within(
        &self,
        (table, nth, key): (&str, usize, &str),
        value: f64,
        low: f64,
        high: f64,
    ) -> Result<(), RecipeError> {
        if value >= low && value <= high {
            return Ok(());
        }
        let low = if low == f64::MIN_POSITIVE { "above 0".to_owned() } else { format!("{low}") };
        self.fail(table, nth, key, &format!("is {value}, which is not between {low} and {high}"))
    }

    fn fail(&self, table: &str, nth: usize, key: &str, what: &str) -> Result<(), RecipeError> {
        Err(RecipeError {
            file: self.file.to_owned(),
            line: line_of_key(self.text, table, nth, key),
            key: Some(key.to_owned()),
            nearest: None,
            what: format!("`{key}` {what}"),
        })
    }
}

/// Milliseconds in `30d`, `12h` or `45m`.
pub fn parse_age(text: &str) -> Option<i64> {
    let number: String = text.chars().take_while(char::is_ascii_digit).collect();
    let unit = match text.strip_prefix(number.as_str())? {
        "d" => 86_400_000,
        "h" => 3_600_000,
        "m" => 60_000,
        _ => return None,
    };
    number.parse::<i64>().ok()?.checked_mul(unit)
}
