//! What all requests for tokens have in common.

use serde_json::Value;
use understudy_inference::{
    AdapterChoice, Admission, GenerateRequest, LogProbsOf, Prompt, Returns, Sampling,
    SamplingDefaults,
};

use crate::{error::RequestError, fields::Fields, sampling::sampling};

/// More choices than this of one prompt are a mistake.
const MOST_CHOICES: u32 = 128;
const MOST_ALTERNATIVES: u32 = 20;
/// vLLM's limit on tokens that are named to be scored.
const MOST_NAMED: usize = 128;
const NAMED: &str = "logprob_token_ids";
/// The longest name of a request or a session, which travels in headers and records.
const LONGEST_NAME: usize = 256;

/// One request, whatever its prompt is.
#[derive(Debug, Clone, PartialEq)]
pub struct Ask {
    /// A task, an adapter alias or the base; every endpoint that needs one checks that it is there.
    pub model: Option<String>,
    /// An adapter by alias or by exact generation, instead of the one `model` stands for.
    pub adapter: Option<AdapterChoice>,
    /// With OpenAI's defaults for what was left out.
    pub sampling: Sampling,
    /// Which of [`SamplingDefaults::FIELDS`] were left out, so that a model's own may stand in.
    pub left_out: Vec<&'static str>,
    pub returns: Returns,
    pub admission: Admission,
    /// Completions of each prompt.
    pub n: u32,
    /// `None` is one whole reply.
    pub stream: Option<StreamOptions>,
    pub show: Show,
    /// Whose request it is.
    pub user: Option<String>,
    pub request_id: Option<String>,
    /// What is the same for all requests of one conversation.
    pub session: Option<String>,
    /// Keep only this many of the prompt's last tokens; -1 is as many as fit.
    pub truncate: Option<i64>,
}

/// How usage is told in a stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StreamOptions {
    /// In a chunk of its own at the end.
    pub usage: bool,
    /// In every chunk.
    pub continuous: bool,
}

/// What a reply shows beside the text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Show {
    pub log_probs: bool,
    pub token_ids: bool,
    /// Tokens are written `token_id:7` in log-probabilities.
    pub tokens_as_ids: bool,
    pub weight_versions: bool,
    pub prompt_text: bool,
    pub prompt_log_probs: bool,
}

impl Ask {
    /// Reads what does not differ between endpoints. `limit` is the most tokens the request names,
    /// `top` how many alternatives it wants beside each token.
    pub(crate) fn read(
        fields: &Fields,
        limit: Option<u32>,
        otherwise: u32,
        top: Option<u32>,
    ) -> Result<Self, RequestError> {
        let stream = stream(fields)?;
        let prompt_top = fields.count("prompt_logprobs")?;
        if prompt_top.is_some() && stream.is_some() {
            return Err(fields.wrong("prompt_logprobs", "cannot be streamed; set stream to false"));
        }
        for (name, count) in [("top_logprobs", top), ("prompt_logprobs", prompt_top)] {
            if count.is_some_and(|count| count > MOST_ALTERNATIVES) {
                return Err(fields.wrong(name, format!("must be at most {MOST_ALTERNATIVES}")));
            }
        }
        let token_ids = fields.flag("return_token_ids")?;
        let named = named(fields)?;
        Ok(Self {
            model: fields.text("model")?,
            adapter: adapter(fields)?,
            sampling: sampling(fields, limit.unwrap_or(otherwise))?,
            left_out: left_out(fields, limit),
            returns: Returns {
                top: top.map(|top| top as usize),
                prompt_top: prompt_top.map(|top| top as usize),
                log_probs: log_probs_of(fields)?,
                named,
            },
            admission: Admission {
                priority: priority(fields)?,
                must_fit: limit.is_some(),
                cache_salt: cache_salt(fields)?,
                ..Admission::default()
            },
            n: choices(fields)?,
            stream,
            show: Show {
                log_probs: top.is_some(),
                token_ids,
                tokens_as_ids: fields.flag("return_tokens_as_token_ids")?,
                weight_versions: fields.flag("return_weight_versions")?,
                prompt_text: fields.flag("return_prompt_text")?,
                prompt_log_probs: prompt_top.is_some(),
            },
            user: fields.text("user")?,
            request_id: name(fields, "request_id")?,
            session: name(fields, "session_id")?,
            truncate: truncate(fields)?,
        })
    }

    /// Refuses tokens named to be scored where the reply would have no place for their scores.
    pub(crate) fn check_named(&self, fields: &Fields) -> Result<(), RequestError> {
        if self.returns.named.is_empty() || self.show.log_probs {
            return Ok(());
        }
        Err(fields.wrong(NAMED, "needs `logprobs`, beside which they are told"))
    }

    /// The same with what a model's makers suggest where the request says nothing.
    #[must_use]
    pub fn with_defaults(mut self, defaults: &SamplingDefaults) -> Self {
        defaults.fill(&mut self.sampling, &self.left_out);
        self
    }

    /// One generation per choice. A seed counts on from choice to choice, so that each choice can
    /// be had again alone.
    pub fn requests(
        &self,
        prompt: &Prompt,
        adapter: Option<AdapterChoice>,
    ) -> Vec<GenerateRequest> {
        let choice = |index: u32| {
            let seed = self.sampling.seed.map(|seed| seed.wrapping_add(u64::from(index)));
            GenerateRequest {
                prompt: prompt.clone(),
                adapter: adapter.clone(),
                sampling: Sampling { seed, ..self.sampling.clone() },
                returns: self.returns.clone(),
                admission: self.admission.clone(),
            }
        };
        (0..self.n).map(choice).collect()
    }
}

/// A limit on tokens has more than one name, so the caller says whether there is one.
fn left_out(fields: &Fields, limit: Option<u32>) -> Vec<&'static str> {
    let is_left_out = |name: &&str| match *name {
        "max_tokens" => limit.is_none(),
        name => fields.named(name).is_none(),
    };
    SamplingDefaults::FIELDS.into_iter().filter(is_left_out).collect()
}

fn stream(fields: &Fields) -> Result<Option<StreamOptions>, RequestError> {
    let on = fields.flag("stream")?;
    let given = fields.object("stream_options")?.is_some();
    let options = fields.inner("stream_options", "stream_options.")?;
    let usage = options.flag("include_usage")?;
    let continuous = options.flag("continuous_usage_stats")?;
    if options.flag("include_obfuscation")? {
        return Err(options.refused("include_obfuscation"));
    }
    if given && !on {
        return Err(fields.wrong("stream_options", "only applies with `stream: true`"));
    }
    Ok(on.then_some(StreamOptions { usage, continuous: usage && continuous }))
}

fn adapter(fields: &Fields) -> Result<Option<AdapterChoice>, RequestError> {
    match fields.get("adapter") {
        None => Ok(None),
        Some(Value::String(alias)) => Ok(Some(AdapterChoice::Alias(alias.clone()))),
        Some(value) => match value.get("generation").and_then(Value::as_str) {
            Some(digest) => Ok(Some(AdapterChoice::Generation(digest.to_owned()))),
            None => Err(fields.wrong("adapter", "must be an alias or {\"generation\": digest}")),
        },
    }
}

fn log_probs_of(fields: &Fields) -> Result<Option<LogProbsOf>, RequestError> {
    match fields.text("logprobs_mode")?.as_deref() {
        None => Ok(None),
        Some("raw_logprobs") => Ok(Some(LogProbsOf::Raw)),
        Some("processed_logprobs") => Ok(Some(LogProbsOf::Processed)),
        Some(_) => Err(fields.wrong("logprobs_mode", "must be raw_logprobs or processed_logprobs")),
    }
}

/// Tokens to be scored at each place, whatever else may be likelier.
fn named(fields: &Fields) -> Result<Vec<u32>, RequestError> {
    let named = fields.ids(NAMED)?.unwrap_or_default();
    if named.len() > MOST_NAMED {
        return Err(fields.wrong(NAMED, format!("must hold at most {MOST_NAMED} ids")));
    }
    Ok(named)
}

fn priority(fields: &Fields) -> Result<i32, RequestError> {
    let priority = fields.integer("priority")?.unwrap_or(0);
    i32::try_from(priority).map_err(|_| fields.wrong("priority", "must fit in 32 bits"))
}

fn cache_salt(fields: &Fields) -> Result<Option<String>, RequestError> {
    match fields.text("cache_salt")? {
        Some(salt) if salt.is_empty() => Err(fields.wrong("cache_salt", "must not be empty")),
        salt => Ok(salt),
    }
}

fn choices(fields: &Fields) -> Result<u32, RequestError> {
    match fields.count("n")?.unwrap_or(1) {
        n if (1..=MOST_CHOICES).contains(&n) => Ok(n),
        _ => Err(fields.wrong("n", format!("must lie between 1 and {MOST_CHOICES}"))),
    }
}

fn name(fields: &Fields, field: &'static str) -> Result<Option<String>, RequestError> {
    match fields.text(field)? {
        Some(name)
            if name.len() > LONGEST_NAME || !name.bytes().all(|b| (32..127).contains(&b)) =>
        {
            let why = format!("must be at most {LONGEST_NAME} printable ASCII characters");
            Err(fields.wrong(field, why))
        }
        name => Ok(name),
    }
}

fn truncate(fields: &Fields) -> Result<Option<i64>, RequestError> {
    match fields.integer("truncate_prompt_tokens")? {
        Some(count) if count == 0 || count < -1 => {
            Err(fields.wrong("truncate_prompt_tokens", "must be at least 1, or -1 for what fits"))
        }
        count => Ok(count),
    }
}
