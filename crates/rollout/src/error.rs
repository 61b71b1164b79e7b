//! Why rollouts could not be set up.

use understudy_engine::EngineError;
use understudy_environment::EnvironmentError;
use understudy_model::ModelError;
use understudy_reward::RewardError;

#[derive(Debug, thiserror::Error)]
pub enum RolloutSetupError {
    #[error("could not start the engine that samples attempts")]
    Engine(#[from] EngineError),

    #[error("could not use the recipe's rewards")]
    Reward(#[from] RewardError),

    #[error("could not use the recipe's environment")]
    Environment(#[from] EnvironmentError),

    #[error("could not render a prompt through the chat template")]
    Model(#[from] ModelError),

    #[error(
        "a prompt of {prompt} tokens and {max_new} new ones do not fit the model's context of {context}; lower max_new_tokens or max_tokens"
    )]
    TooLong { prompt: usize, max_new: usize, context: usize },
}
