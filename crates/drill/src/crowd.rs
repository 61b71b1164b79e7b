//! Everybody who asks during a soak: sessions of one to three questions, most of them judged.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    DrillError, Soak,
    audience::{Judge, User},
    script::Script,
    tally::{Tally, add, read},
};

/// Everybody who asks.
#[derive(Clone, Copy)]
pub(crate) struct Crowd<'a> {
    pub(crate) user: &'a User,
    pub(crate) script: &'a Script,
    pub(crate) tally: &'a Tally,
    /// Of sessions.
    pub(crate) numbers: &'a AtomicU64,
}

/// What was asked of the server, in requests a second.
pub(crate) struct Load {
    pub(crate) most: Option<f64>,
    pub(crate) rate: f64,
    pub(crate) reached: f64,
}

impl Crowd<'_> {
    /// Finds out how much the server takes, unless that is said, and asks for half of it until the
    /// end.
    pub(crate) fn load(self, settings: &Soak, until: Instant) -> Result<Load, DrillError> {
        let most = if settings.rate.is_none() {
            let whole = Duration::from_secs(settings.seconds);
            let trial = (whole / 5).min(Duration::from_secs(10));
            Some(self.for_a_while(settings.clients, None, Instant::now() + trial)?)
        } else {
            None
        };
        let half = most.map(|most| most / 2.0);
        let rate = settings.rate.or(half).unwrap_or(1.0).max(1.0);
        let reached = self.for_a_while(settings.clients, Some(rate), until)?;
        Ok(Load { most, rate, reached })
    }

    /// Replies a second.
    fn for_a_while(
        self,
        clients: usize,
        rate: Option<f64>,
        until: Instant,
    ) -> Result<f64, DrillError> {
        let (begun, before) = (Instant::now(), read(&self.tally.replies));
        let every = rate.map(|rate| Duration::from_secs_f64(clients as f64 / rate));
        thread::scope(|scope| {
            let asking: Vec<_> =
                (0..clients).map(|_| scope.spawn(move || self.ask_until(every, until))).collect();
            asking.into_iter().try_for_each(|client| {
                client.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
        })?;
        let replies = read(&self.tally.replies) - before;
        Ok(replies as f64 / begun.elapsed().as_secs_f64())
    }

    fn ask_until(self, every: Option<Duration>, until: Instant) -> Result<(), DrillError> {
        let mut next = Instant::now();
        while Instant::now() < until {
            let nth = self.numbers.fetch_add(1, Ordering::Relaxed);
            self.session(nth, every, &mut next)?;
        }
        Ok(())
    }

    /// One to three questions, most of them judged; some sessions judged before they begin, and now
    /// and then something said of a reply that nobody gave.
    fn session(
        self,
        nth: u64,
        every: Option<Duration>,
        next: &mut Instant,
    ) -> Result<(), DrillError> {
        let name = format!("visitor-{nth}");
        let happens = |what: &str, share: f64| self.script.chance(what, &name) < share;
        if happens("early", 0.02) {
            let event = json!({"session_id": name, "signal": "accept", "source": "implicit"});
            add(&self.tally.early, 1);
            self.say(&[event])?;
        }
        let turns = 1 + (self.script.chance("turns", &name) * 3.0) as u32;
        let mut answered = false;
        for turn in 0..turns {
            if let Some(every) = every {
                // Behind its time it asks at once, and does not catch up.
                *next = (*next + every).max(Instant::now());
                thread::sleep(*next - Instant::now().min(*next));
            }
            let stream = happens(&format!("stream {turn}"), 0.25);
            let heard = self.user.ask(&name, &Script::question(nth, turn), stream);
            let Some(heard) = heard.ok().filter(|heard| heard.response_id.is_some()) else {
                add(&self.tally.failed, 1);
                continue;
            };
            answered = true;
            add(&self.tally.replies, 1);
            add(&self.tally.streamed, u64::from(stream));
            let judged = happens(&format!("judged {turn}"), 0.9);
            let said = heard.event(Judge::User).filter(|_| judged);
            self.say(said.as_slice())?;
            if happens(&format!("astray {turn}"), 0.01) {
                let nobody = format!("chatcmpl-of-nobody-{nth}-{turn}");
                add(&self.tally.astray, 1);
                self.say(&[json!({"response_id": nobody, "signal": "accept"})])?;
            }
        }
        add(&self.tally.sessions, u64::from(answered));
        Ok(())
    }

    fn say(self, events: &[Value]) -> Result<(), DrillError> {
        add(&self.tally.outcomes, self.user.tell(events)?.len() as u64);
        Ok(())
    }
}
