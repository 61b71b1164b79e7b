//! One loop at a time, announced in one word that everybody watches.
//!
//! The word holds the loop's number, whether it may still be entered, and how many helpers are
//! inside. A helper enters by raising that count while the loop is open; the caller closes the loop
//! when no index is left, and waits only for those who are inside. A helper that the system has put
//! aside before it entered keeps nobody waiting.
//!
//! Every thread begins with a part of its own, the same share of every loop, because what it made in
//! the loop before is still in its cache; who is done with it helps with the parts of others. Indices
//! are taken several at a time at first, and one by one towards the end of a part.

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

/// One thread takes at most this share of what is left of a part at once.
const OF_A_PART: usize = 4;

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

/// Alone in its lines of memory, of which processors fetch two at a time.
#[derive(Default)]
#[repr(align(128))]
struct Next(AtomicUsize);

struct Shared {
    taken: AtomicBool,
    word: AtomicU64,
    /// The next index of every thread's own part; the caller's is the first.
    next: Vec<Next>,
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
            taken: AtomicBool::new(false),
            word: AtomicU64::new(0),
            next: (0..=helpers).map(|_| Next::default()).collect(),
            job: UnsafeCell::new(None),
            panic: Mutex::new(None),
            waiting: AtomicBool::new(false),
            caller: Mutex::new(None),
        });
        let helpers = (1..=helpers).filter_map(|own| Helper::start(&shared, own).ok()).collect();
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
        shared.deal(count);
        let number = (shared.word.load(Ordering::Relaxed) >> NUMBER).wrapping_add(1);
        shared.word.store(number << NUMBER | OPEN, Ordering::SeqCst);
        self.helpers.iter().for_each(Helper::wake);

        shared.visit(0, count, each);
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
    fn start(shared: &Arc<Shared>, own: usize) -> io::Result<Self> {
        let (shared, asleep) = (Arc::clone(shared), Arc::new(AtomicBool::new(false)));
        let mine = Arc::clone(&asleep);
        let help = move || {
            let mut last = 0;
            loop {
                last = shared.next_loop(last, &mine);
                shared.help(own, last);
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
    /// Where a part begins, and so where the one before it ends.
    fn begin(&self, part: usize, count: usize) -> usize {
        count * part / self.next.len()
    }

    fn deal(&self, count: usize) {
        for (part, next) in self.next.iter().enumerate() {
            next.0.store(self.begin(part, count), Ordering::Relaxed);
        }
    }

    /// Takes indices until none is left, of one's own part first. A panic is kept for the caller, and
    /// ends the loop.
    fn visit(&self, own: usize, count: usize, each: &Each<'_>) {
        let visited = catch_unwind(AssertUnwindSafe(|| {
            for part in (own..self.next.len()).chain(0..own) {
                self.visit_part(part, count, each);
            }
        }));
        if let Err(panic) = visited {
            self.next.iter().for_each(|next| next.0.store(count, Ordering::Relaxed));
            lock(&self.panic).get_or_insert(panic);
        }
    }

    fn visit_part(&self, part: usize, count: usize, each: &Each<'_>) {
        let (next, end) = (&self.next[part].0, self.begin(part + 1, count));
        loop {
            // Looked at first, since most parts of others are done and looking disturbs nobody.
            let left = end.saturating_sub(next.load(Ordering::Relaxed));
            if left == 0 {
                return;
            }
            let some = left.div_ceil(OF_A_PART);
            let first = next.fetch_add(some, Ordering::Relaxed);
            (first..end.min(first + some)).for_each(each);
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
    fn help(&self, own: usize, number: u64) {
        let enter = |word: u64| (word >> NUMBER == number && word & OPEN != 0).then_some(word + 1);
        if self.word.fetch_update(Ordering::Acquire, Ordering::Relaxed, enter).is_err() {
            return;
        }
        // SAFETY: the loop was open when this thread was counted in, so its caller has written the
        // job before, and neither changes it nor lets go of what it borrows until this one is out.
        if let Some(job) = unsafe { *self.job.get() } {
            // SAFETY: as above.
            self.visit(own, job.count, unsafe { &*job.each });
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
