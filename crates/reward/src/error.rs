//! Why there is no score. A wrong answer is not one of these: it scores 0.

use std::time::Duration;

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RewardError {
    #[error("could not read the pattern of reward `{reward}`: {why}; correct the regex")]
    Pattern { reward: String, why: String },
    #[error(
        "could not read the schema of reward `{reward}`: {why}; correct it, with every `$ref` \
         inside, because none is fetched"
    )]
    Schema { reward: String, why: String },
    #[error("two rewards are called `{0}`; give one of them a `name`")]
    Duplicate(String),
    #[error(
        "could not compare with the expected answer, which is not JSON ({0}); correct the data"
    )]
    ExpectedNotJson(String),
    #[error("could not use the score {0} of a reward: it is not a finite number")]
    NotFinite(f64),
    #[error("could not match a reward's scores to the attempts of a group: it gave too few")]
    TooFewScores,
    #[error("could not find the program `{0}`; give its path, or install it on {PATH}")]
    NoProgram(String),
    #[error("could not set up the sandbox: {0}")]
    Sandbox(String),
    #[error(
        "could not take the network from `{program}` ({why}); allow user namespaces here, or say \
         `isolate = false` to run it with the network"
    )]
    NotIsolated { program: String, why: String },
    #[error("could not start `{program}` in the sandbox: {why}")]
    Start { program: String, why: String },
    #[error("could not use `{line}` as a reward; the last line must be like `reward: 0.5`, 0 to 1")]
    RewardLine { line: String },
    #[error("`{url}` is not a judge's endpoint: {why}; give one like https://host/v1")]
    Endpoint { url: String, why: &'static str },
    #[error("could not read the judge's API key: set the environment variable `{0}`")]
    NoKey(String),
    #[error("the judge at {url} did not answer within {0} s", .within.as_secs_f64())]
    JudgeTimeout { url: String, within: Duration },
    #[error("could not get a score from the judge at {url}: {why}")]
    Judge { url: String, why: String },
}

/// Where programs are looked for, also inside the sandbox.
pub(crate) const PATH: &str = "/usr/local/bin:/usr/bin:/bin";
