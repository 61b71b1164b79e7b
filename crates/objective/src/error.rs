/// Why a row has no loss. Each names what is wrong with the row, or missing from it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ObjectiveError {
    #[error(
        "cannot compute the {what}: it is measured against a reference, and the row has none; \
         evaluate the reference model on it first"
    )]
    NoReference { what: &'static str },
    #[error(
        "cannot compute the {what}: it is measured against the sampler, and the row has no \
         log-probabilities of it; record them, recompute them, or turn the feature off"
    )]
    NoSampler { what: &'static str },
    #[error(
        "cannot compute a loss: the row has {expected} log-probabilities, but {found} values of \
         its {what}; they must be of the same tokens"
    )]
    Length { what: &'static str, expected: usize, found: usize },
    #[error(
        "cannot compute a loss: the {what} of token {position} is not a finite number; leave \
         the row out, and look at what produced it"
    )]
    NotFinite { what: &'static str, position: usize },
}
