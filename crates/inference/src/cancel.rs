//! How whoever asked says that the answer is no longer wanted, also while there is no event that
//! could be refused.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// Shared by whoever asked and whoever answers. The default can never be cancelled.
#[derive(Clone, Default)]
pub struct CancelToken(Option<Arc<State>>);

#[derive(Default)]
struct State {
    is_cancelled: AtomicBool,
    wakers: Mutex<Vec<Waker>>,
}

type Waker = Box<dyn Fn() + Send>;

impl CancelToken {
    /// One that can be cancelled.
    pub fn armed() -> Self {
        Self(Some(Arc::default()))
    }

    /// From now on nobody wants the answer.
    pub fn cancel(&self) {
        let Some(state) = &self.0 else { return };
        if state.is_cancelled.swap(true, Ordering::AcqRel) {
            return;
        }
        let wakers =
            std::mem::take(&mut *state.wakers.lock().unwrap_or_else(PoisonError::into_inner));
        for wake in wakers {
            wake();
        }
    }

    pub fn is_cancelled(&self) -> bool {
        self.0.as_ref().is_some_and(|state| state.is_cancelled.load(Ordering::Acquire))
    }

    /// Calls `wake` when it is cancelled, unless that has happened already. It is called by whoever
    /// cancels, so it must not block.
    pub fn on_cancel(&self, wake: impl Fn() + Send + 'static) {
        let Some(state) = &self.0 else { return };
        state.wakers.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(wake));
    }
}

/// Who may take a request back is no part of what it asks: requests that ask the same are equal.
impl PartialEq for CancelToken {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for CancelToken {}

impl fmt::Debug for CancelToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelToken")
            .field("can_be_cancelled", &self.0.is_some())
            .field("is_cancelled", &self.is_cancelled())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn everybody_who_asked_is_woken_once() {
        let (token, woken) = (CancelToken::armed(), Arc::new(AtomicUsize::new(0)));
        for _ in 0..2 {
            let woken = Arc::clone(&woken);
            token.on_cancel(move || {
                woken.fetch_add(1, Ordering::Relaxed);
            });
        }
        let other = token.clone();
        assert!(!other.is_cancelled());
        token.cancel();
        token.cancel();
        assert!(other.is_cancelled());
        assert_eq!(woken.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn the_default_is_never_cancelled() {
        let token = CancelToken::default();
        token.cancel();
        assert!(!token.is_cancelled());
        assert_eq!(token, CancelToken::armed(), "they ask the same");
    }
}
