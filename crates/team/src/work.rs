//! One loop at a time, announced in one word that everybody watches.
//!
//! The word holds the loop's number, whether it may still be entered, and how many helpers are
//! inside. A helper enters by raising that count while the loop is open; the caller closes the loop
//! when no index is left, and waits only for those who are inside. A helper that the system has put
//! aside before it entered keeps nobody waiting.
//!
//! Indices are taken several at a time at first, and one by one towards the end: whoever takes some
//! fetches a line of memory from another processor for it, and neighbours often lie side by side.

#![expect(unsafe_code, reason = "a loop that borrows from its caller's stack is run by others")]

use std::{
    any::Any,
    cell::UnsafeCell,
    hint::spin_loop,
    io, mem,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread::{self, Thread},
};

/// How often one looks before sleeping: about a tenth of a millisecond, longer than what lies
/// between two loops of a step, and much shorter than a time slice.
const LOOKS: usize = 5_000;

/// One thread takes at most this part of its fair share of what is left at once.
const OF_A_SHARE: usize = 4;

const OPEN: u64 = 1 << 31;
const INSIDE: u64 = OPEN - 1;
const NUMBER: u32 = 32;

pub(crate) type Each<'a> = dyn Fn(usize) + Sync + 'a;
type Panic = Box<dyn Any + Send>;

/// The caller of a loop and its helpers.
pub(crate) struct Team {
    shared: Arc<Shared>,
    helpers: Vec<Helper>,
}

struct Helper {
    thread: Thread,
    asleep: Arc<AtomicBool>,
}

#[derive(Clone, Copy)]
struct Job {
    each: *const Each<'static>,
    count: usize,
}

struct Shared {
    threads: usize,
    taken: AtomicBool,
    word: AtomicU64,
    next: AtomicUsize,
    /// Written by the caller while the loop is closed and nobody is inside; read by those inside.
    job: UnsafeCell<Option<Job>>,
    panic: Mutex<Option<Panic>>,
    /// The caller, when it has waited so long for the last helper that it sleeps.
    waiting: AtomicBool,
    caller: Mutex<Option<Thread>>,
}

// SAFETY: `job` is only written while nobody else may read it, as it says; all else is `Sync`.
unsafe impl Sync for Shared {}
// SAFETY: the pointer in `job` is to something `Sync`, and is only followed while it is borrowed.
unsafe impl Send for Shared {}

impl Team {
    /// A caller and as many helpers as the system gives, at most `helpers`.
    pub(crate) fn of(helpers: usize) -> Self {
        let shared = Arc::new(Shared {
            threads: helpers + 1,
            taken: AtomicBool::new(false),
            word: AtomicU64::new(0),
            next: AtomicUsize::new(0),
            job: UnsafeCell::new(None),
            panic: Mutex::new(None),
            waiting: AtomicBool::new(false),
            caller: Mutex::new(None),
        });
        let helpers = (0..helpers).filter_map(|_| Helper::start(&shared).ok()).collect();
        Self { shared, helpers }
    }

    /// How many share a loop.
    pub(crate) fn size(&self) -> usize {
        self.helpers.len() + 1
    }

    /// Runs a loop, unless the team is at work on another: then it does nothing and says so.
    pub(crate) fn run(&self, count: usize, each: &Each<'_>) -> bool {
        let shared = &self.shared;
        if shared.taken.swap(true, Ordering::Acquire) {
            return false;
        }
        // SAFETY: only the lifetime changes. Helpers follow the pointer while they are inside, and
        // this function does not return, nor unwind, before they have left.
        let each_of = unsafe { mem::transmute::<&Each<'_>, &'static Each<'static>>(each) };
        // SAFETY: the loop before is closed and everybody has left it.
        unsafe { *shared.job.get() = Some(Job { each: each_of, count }) };
        shared.next.store(0, Ordering::Relaxed);
        let number = (shared.word.load(Ordering::Relaxed) >> NUMBER).wrapping_add(1);
        shared.word.store(number << NUMBER | OPEN, Ordering::SeqCst);
        self.helpers.iter().for_each(Helper::wake);

        shared.visit(count, each);
        shared.word.fetch_and(!OPEN, Ordering::SeqCst);
        shared.wait_for_those_inside();
        let panic = lock(&shared.panic).take();
        shared.taken.store(false, Ordering::Release);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
        true
    }
}

impl Helper {
    fn start(shared: &Arc<Shared>) -> io::Result<Self> {
        let (shared, asleep) = (Arc::clone(shared), Arc::new(AtomicBool::new(false)));
        let mine = Arc::clone(&asleep);
        let help = move || {
            let mut last = 0;
            loop {
                last = shared.next_loop(last, &mine);
                shared.help(last);
            }
        };
        let thread = thread::Builder::new().name("team".to_owned()).spawn(help)?;
        Ok(Self { thread: thread.thread().clone(), asleep })
    }

    fn wake(&self) {
        if self.asleep.swap(false, Ordering::SeqCst) {
            self.thread.unpark();
        }
    }
}

impl Shared {
    /// Takes indices until none is left. A panic is kept for the caller, and ends the loop.
    fn visit(&self, count: usize, each: &Each<'_>) {
        let visited = catch_unwind(AssertUnwindSafe(|| {
            loop {
                let left = count.saturating_sub(self.next.load(Ordering::Relaxed));
                let some = (left / (OF_A_SHARE * self.threads)).max(1);
                let first = self.next.fetch_add(some, Ordering::Relaxed);
                if first >= count {
                    return;
                }
                (first..count.min(first + some)).for_each(each);
            }
        }));
        if let Err(panic) = visited {
            self.next.store(count, Ordering::Relaxed);
            lock(&self.panic).get_or_insert(panic);
        }
    }

    /// Waits for an open loop other than the last; returns its number.
    fn next_loop(&self, last: u64, asleep: &AtomicBool) -> u64 {
        let open = |order| {
            let word = self.word.load(order);
            (word & OPEN != 0 && word >> NUMBER != last).then_some(word >> NUMBER)
        };
        for _ in 0..LOOKS {
            if let Some(number) = open(Ordering::Relaxed) {
                return number;
            }
            spin_loop();
        }
        loop {
            // Said before the last look, so that whoever opens a loop after it wakes this thread.
            asleep.store(true, Ordering::SeqCst);
            if let Some(number) = open(Ordering::SeqCst) {
                asleep.store(false, Ordering::SeqCst);
                return number;
            }
            thread::park();
        }
    }

    /// Takes part in a loop, if it is still open.
    fn help(&self, number: u64) {
        let enter = |word: u64| (word >> NUMBER == number && word & OPEN != 0).then_some(word + 1);
        if self.word.fetch_update(Ordering::Acquire, Ordering::Relaxed, enter).is_err() {
            return;
        }
        // SAFETY: the loop was open when this thread was counted in, so its caller has written the
        // job before, and neither changes it nor lets go of what it borrows until this one is out.
        if let Some(job) = unsafe { *self.job.get() } {
            // SAFETY: as above.
            self.visit(job.count, unsafe { &*job.each });
        }
        self.word.fetch_sub(1, Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) {
            lock(&self.caller).take().inspect(Thread::unpark);
        }
    }

    fn wait_for_those_inside(&self) {
        let nobody = || self.word.load(Ordering::SeqCst) & INSIDE == 0;
        for _ in 0..LOOKS {
            if nobody() {
                return;
            }
            spin_loop();
        }
        loop {
            *lock(&self.caller) = Some(thread::current());
            self.waiting.store(true, Ordering::SeqCst);
            if nobody() {
                break;
            }
            thread::park();
        }
        self.waiting.store(false, Ordering::SeqCst);
    }
}

/// What these mutexes guard is whole at any time.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
