//! One completion's way through its grammar.

use std::{
    fmt, mem,
    sync::mpsc::{Receiver, Sender, channel},
};

use llguidance::{Matcher, toktrie::SimpleVob};
use understudy_inference::InferenceError;

/// Follows a completion and says which tokens may come next.
pub(crate) struct Guide {
    state: State,
    errands: Sender<Errand>,
}

enum State {
    Here(Box<Matcher>),
    /// Its mask is being computed.
    Away(Receiver<Errand>),
    Lost,
}

/// A matcher on its way to the thread that computes masks, and back with one.
pub(super) struct Errand {
    matcher: Box<Matcher>,
    mask: Option<Result<SimpleVob, String>>,
    back: Sender<Errand>,
}

impl Errand {
    pub(super) fn run(mut self) {
        self.mask = Some(self.matcher.compute_mask_or_eos().map_err(|error| error.to_string()));
        let back = self.back.clone();
        // Nobody waits any more for the mask of a request that has ended.
        let _: Result<(), _> = back.send(self);
    }
}

impl Guide {
    pub(super) fn new(matcher: Matcher, errands: Sender<Errand>) -> Self {
        Self { state: State::Here(Box::new(matcher)), errands }
    }

    /// Begins to compute the next mask.
    pub(crate) fn look_ahead(&mut self) {
        let State::Here(matcher) = mem::replace(&mut self.state, State::Lost) else { return };
        if matcher.is_stopped() {
            self.state = State::Here(matcher);
            return;
        }
        let (back, returning) = channel();
        self.state = match self.errands.send(Errand { matcher, mask: None, back }) {
            Ok(()) => State::Away(returning),
            Err(unsent) => State::Here(unsent.0.matcher),
        };
    }

    /// The tokens that may come next.
    pub(crate) fn mask(&mut self) -> Result<SimpleVob, InferenceError> {
        let mask = match mem::replace(&mut self.state, State::Lost) {
            State::Away(returning) => {
                let Errand { matcher, mask, .. } = returning.recv().map_err(|_| lost())?;
                self.state = State::Here(matcher);
                mask
            }
            here => {
                self.state = here;
                None
            }
        };
        let mask = match mask {
            Some(mask) => mask,
            None => self.matcher()?.compute_mask_or_eos().map_err(|error| error.to_string()),
        };
        mask.map_err(|why| failed(&why))
    }

    /// Goes on by a token of the mask.
    pub(crate) fn take(&mut self, token: u32) -> Result<(), InferenceError> {
        self.matcher()?.consume_token(token).map_err(|error| failed(&error.to_string()))
    }

    /// Goes on by as many of the tokens as must come next as `wanted` accepts, and returns them.
    pub(crate) fn force(
        &mut self,
        most: usize,
        mut wanted: impl FnMut(u32) -> bool,
    ) -> Result<Vec<u32>, InferenceError> {
        let matcher = self.matcher()?;
        let mut forced = matcher.compute_ff_tokens();
        forced.truncate(most);
        let refused = forced.iter().position(|token| !wanted(*token));
        forced.truncate(refused.unwrap_or(forced.len()));
        matcher.consume_tokens(&forced).map_err(|error| failed(&error.to_string()))?;
        Ok(forced)
    }

    /// Whether nothing can follow.
    pub(crate) fn is_over(&self) -> bool {
        matches!(&self.state, State::Here(matcher) if matcher.is_stopped())
    }

    fn matcher(&mut self) -> Result<&mut Matcher, InferenceError> {
        if let State::Away(returning) = &self.state {
            let errand = returning.recv().map_err(|_| lost())?;
            self.state = State::Here(errand.matcher);
        }
        match &mut self.state {
            State::Here(matcher) => Ok(matcher),
            State::Away(_) | State::Lost => Err(lost()),
        }
    }
}

fn failed(why: &str) -> InferenceError {
    let why = super::source::shortened(why);
    InferenceError::Failed(format!("the constraint could not be followed: {why}"))
}

fn lost() -> InferenceError {
    InferenceError::Failed("the thread that follows constraints has ended".to_owned())
}

impl fmt::Debug for Guide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guide").field("is_over", &self.is_over()).finish_non_exhaustive()
    }
}
