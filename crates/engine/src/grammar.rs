//! Constraints as masks over the vocabulary, through llguidance.
//!
//! A constraint is compiled on the thread of whoever submits it, within limits on size, depth and
//! work, so that a hostile schema costs its sender an error and nobody else anything. Masks are
//! computed on a thread of their own while the model runs.

mod guide;
mod source;
mod vocabulary;

use std::{
    collections::VecDeque,
    sync::{
        Mutex, PoisonError,
        mpsc::{Sender, channel},
    },
    thread,
};

use llguidance::{Matcher, ParserFactory, toktrie::InferenceCapabilities};
use understudy_inference::{Constraint, InferenceError};
use understudy_model::Tokenizer;

use guide::Errand;
pub(crate) use guide::Guide;
use vocabulary::Vocabulary;

/// About a kilobyte each: what one constraint may hold in memory.
const MOST_LEXER_STATES: usize = 50_000;

/// Compiled constraints kept for those who ask the same again, as several completions of one prompt
/// and most clients do.
const MOST_KEPT: usize = 8;

/// Compilers recurse over what they read. Only what is used of a stack takes up memory.
const DEEP_STACK: usize = 256 << 20;

/// Everything grammars of one vocabulary share.
pub(crate) struct Grammars {
    factory: ParserFactory,
    /// To the thread that computes masks; it ends when all that could send have gone.
    errands: Sender<Errand>,
    /// The latest asked for first.
    kept: Mutex<VecDeque<(Constraint, Matcher)>>,
}

impl Grammars {
    pub(crate) fn new(tokenizer: &Tokenizer) -> Result<Self, InferenceError> {
        let failed = |why: String| InferenceError::Failed(format!("no constraints: {why}"));
        let vocabulary = Vocabulary::new(tokenizer.clone())?.into_env();
        let slices = llguidance::earley::SlicedBiasComputer::general_slices();
        let mut factory =
            ParserFactory::new(&vocabulary, InferenceCapabilities::default(), &slices)
                .map_err(|error| failed(error.to_string()))?;
        factory.quiet();
        let limits = factory.limits_mut();
        limits.max_lexer_states = MOST_LEXER_STATES;
        // What a client wrote and what the model said so far are no part of an error's text.
        limits.verbose_errors = false;
        let (errands, incoming) = channel();
        thread::Builder::new()
            .name("masks".to_owned())
            .stack_size(DEEP_STACK)
            .spawn(move || incoming.into_iter().for_each(Errand::run))
            .map_err(|error| failed(error.to_string()))?;
        Ok(Self { factory, errands, kept: Mutex::default() })
    }

    /// A way through what a constraint allows, from its beginning.
    pub(crate) fn guide(&self, constraint: &Constraint) -> Result<Guide, InferenceError> {
        let matcher = match self.recall(constraint) {
            Some(matcher) => matcher,
            None => self.keep(constraint, self.compile(constraint)?),
        };
        Ok(Guide::new(matcher, self.errands.clone()))
    }

    fn recall(&self, constraint: &Constraint) -> Option<Matcher> {
        // Whoever panicked while holding it left a list of whole entries.
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let at = kept.iter().position(|(known, _)| known == constraint)?;
        let entry = kept.remove(at)?;
        let matcher = entry.1.deep_clone();
        kept.push_front(entry);
        Some(matcher)
    }

    fn keep(&self, constraint: &Constraint, matcher: Matcher) -> Matcher {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_front((constraint.clone(), matcher.deep_clone()));
        kept.truncate(MOST_KEPT);
        matcher
    }

    fn compile(&self, constraint: &Constraint) -> Result<Matcher, InferenceError> {
        let refuse = |why: String| Err(InferenceError::invalid("constraint", why));
        let grammar = match source::grammar(constraint) {
            Ok(grammar) => grammar,
            Err(why) => return refuse(why),
        };
        let compile = || -> Result<Matcher, String> {
            let mut matcher = Matcher::new(self.factory.create_parser(grammar));
            match matcher.get_error() {
                Some(error) => Err(error),
                // A grammar nothing satisfies is found out here and not in the middle.
                None => matcher.compute_mask_or_eos().map(|_| matcher).map_err(|e| e.to_string()),
            }
        };
        let compiled = thread::scope(|scope| {
            let deep = thread::Builder::new().name("grammar".to_owned()).stack_size(DEEP_STACK);
            deep.spawn_scoped(scope, compile).map(thread::ScopedJoinHandle::join)
        });
        let compiled = compiled.map_err(|error| {
            InferenceError::Failed(format!("no thread to compile a constraint on: {error}"))
        })?;
        match compiled {
            Ok(Ok(matcher)) => Ok(matcher),
            Ok(Err(why)) => refuse(format!("cannot be followed: {}", source::shortened(&why))),
            Err(_) => refuse("cannot be followed: its compiler gave up".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests;
