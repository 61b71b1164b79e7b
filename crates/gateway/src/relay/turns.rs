//! Who answers when the first one cannot, or should not have the last word.
//!
//! Three classes of failure, by what the client may have seen. Nothing was taken up: the next one is
//! asked. Something was taken up, and the client has seen nothing of it: the next one is asked as
//! well, because a reply acts on nothing by itself. The client has seen a part: it is told of the
//! failure, and nobody silently goes on in another voice.

use std::time::Instant;

use understudy_conduct::{confidence, cues, marks};
use understudy_inference::{Completion, GenerateRequest, InferenceError};
use understudy_manifest::{Cue, Escalate, Exhausted};
use understudy_trajectory::{Confidence, Marks, Step, TapMode, Tapped};

use super::{Ending, Events, Hold, Line, Said, submit};
use crate::{
    error::ApiError,
    exchange::Exchange,
    routing::{Other, Way},
    state::Gateway,
};

/// Of one reply, whoever is asked.
const MOST_ATTEMPTS: usize = 3;

/// What may still happen to a reply.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Who may step in.
    others: bool,
    escalate: Option<Escalate>,
    whole: bool,
    attempts: usize,
    /// The student's own words, when the teacher was asked to answer instead.
    pub(super) draft: Option<Draft>,
    /// Milliseconds that went by before the one who answered was asked.
    lost_ms: f64,
}

/// A student's reply that nobody was shown.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) completion: Box<Completion>,
    pub(crate) way: Way,
}

/// What follows a generation's end.
pub(super) enum Turn {
    Over(Ending),
    Another(Events),
}

/// Asks whoever is first, and the others in their order as long as nobody takes the request.
pub(super) fn open(
    gateway: &Gateway,
    exchange: Exchange,
    requests: Vec<GenerateRequest>,
) -> Result<(Exchange, Vec<Events>), ApiError> {
    let mut exchange = exchange;
    let repeatable = exchange.is_repeatable();
    let mut asked = submit(gateway, (&exchange.routing.way, exchange.bytes), requests);
    let mut first = None;
    for _ in 1..MOST_ATTEMPTS {
        let Err(error) = &asked else { break };
        let was_favour = exchange.routing.assignment.course.tap.is_some();
        if !was_favour {
            first.get_or_insert_with(|| error.clone());
        }
        let helps = repeatable && steps_in(&exchange, error);
        if !helps || !step_aside(gateway, &mut exchange, error) {
            break;
        }
        exchange = exchange.named();
        let way = (&exchange.routing.way, exchange.bytes);
        asked = submit(gateway, way, exchange.requests_of_another());
    }
    match asked {
        Ok(events) => Ok((exchange, events)),
        // What the one who was asked first said is what the client needs to know.
        Err(error) => Err(ApiError::of_generation(first.unwrap_or(error))),
    }
}

/// Whether another may do better: a request that is wrong is wrong for everybody, and what is only
/// busy is to be come back to, except where the tap would have been a favour.
fn steps_in(exchange: &Exchange, error: &InferenceError) -> bool {
    let tapped = exchange.routing.assignment.course.tap.is_some() && exchange.routing.way.teacher;
    match error {
        InferenceError::Invalid { .. }
        | InferenceError::ContextOverflow { .. }
        | InferenceError::Unsupported(_)
        | InferenceError::Busy(_)
        | InferenceError::BusyTokens(_)
        | InferenceError::Paused => tapped,
        InferenceError::TimedOut(_) => exchange.until.is_none_or(|until| until > Instant::now()),
        InferenceError::UnknownAdapter { .. }
        | InferenceError::BadAdapter { .. }
        | InferenceError::AdapterChanged { .. }
        | InferenceError::RankTooHigh { .. }
        | InferenceError::AdaptersFull { .. }
        | InferenceError::OverBudget(_)
        | InferenceError::NoTeacher
        | InferenceError::ShuttingDown
        | InferenceError::Failed(_) => true,
    }
}

/// Turns an exchange to the next in line, if there is one.
fn step_aside(gateway: &Gateway, exchange: &mut Exchange, error: &InferenceError) -> bool {
    if exchange.routing.others.is_empty() {
        return false;
    }
    let Other { way, instead } = exchange.routing.others.remove(0);
    let routing = &mut exchange.routing;
    let why = reason(error);
    tracing::warn!(task = %routing.task, arm = %routing.assignment.arm, %error, "another answers");
    if let Some(instead) = instead {
        gateway.metrics().tap_skipped(routing, TapMode::Serve, why);
        routing.assignment = instead;
    } else if routing.assignment.course.tap.is_some_and(|tap| tap.mode == TapMode::Escalate) {
        // It was only the client's wish; the student answers as it was assigned to.
        gateway.metrics().tap_skipped(routing, TapMode::Escalate, why);
        routing.assignment.course.tap = None;
        routing.assignment.course.escalation = Some(why.to_owned());
    } else {
        gateway.metrics().fell_back(routing, why);
        routing.assignment.course.fallback = Some(why.to_owned());
    }
    routing.way = way;
    true
}

/// A word for records and labels.
pub(crate) fn reason(error: &InferenceError) -> &'static str {
    match error {
        InferenceError::TimedOut(_) => "timed_out",
        InferenceError::OverBudget(_) => "budget_exhausted",
        InferenceError::Busy(_) | InferenceError::BusyTokens(_) => "busy",
        InferenceError::Paused | InferenceError::ShuttingDown => "stopped",
        InferenceError::UnknownAdapter { .. }
        | InferenceError::BadAdapter { .. }
        | InferenceError::AdapterChanged { .. }
        | InferenceError::RankTooHigh { .. }
        | InferenceError::AdaptersFull { .. } => "adapter_missing",
        InferenceError::Invalid { .. }
        | InferenceError::Unsupported(_)
        | InferenceError::ContextOverflow { .. } => "unsupported",
        InferenceError::NoTeacher => "no_teacher",
        InferenceError::Failed(_) => "failed",
    }
}

impl Turns {
    /// `lone` is whether the exchange has one choice: of several, each of which is under way, none
    /// is answered by somebody else.
    pub(super) fn of(exchange: &Exchange, lone: bool) -> Self {
        let whole = exchange.ask.stream.is_none();
        if !lone || !exchange.is_repeatable() {
            return Self { whole, ..Self::default() };
        }
        let routing = &exchange.routing;
        let support = routing.entry.as_ref().map(|entry| &entry.route.support);
        let escalate = support.and_then(|support| support.escalate.clone());
        let escalate = escalate.filter(|rules| {
            let seen = whole || rules.hold_streams;
            seen && !routing.way.teacher && !routing.untapped
        });
        Self { others: !routing.others.is_empty(), escalate, whole, ..Self::default() }
    }

    pub(super) fn hold(&self) -> Hold {
        let pending = self.escalate.is_some();
        let another = self.others || self.draft.is_some();
        if pending || (self.whole && another) {
            Hold::All
        } else if another {
            Hold::Start
        } else {
            Hold::Nothing
        }
    }

    /// A step with the time that its client really waited.
    pub(super) fn timed(&self, mut step: Step) -> Step {
        step.timing.first_token_ms += self.lost_ms;
        step.timing.total_ms += self.lost_ms;
        step
    }
}

impl Line {
    /// What follows the end of a generation.
    pub(super) fn turn(&mut self, last: Ending, said: &Said) -> Turn {
        match last {
            Ok(completion) if self.turns.draft.is_none() && !self.exchange.routing.way.teacher => {
                self.look_at(completion)
            }
            Err(Some(error)) if !said.is_told() => self.recover(error),
            last => {
                if self.turns.draft.is_some() && last.is_ok() {
                    self.escalated("answered");
                }
                Turn::Over(last)
            }
        }
    }

    /// Notes what the student's reply did, and has the teacher answer instead where that says so.
    fn look_at(&mut self, completion: Box<Completion>) -> Turn {
        let (seen, sure) = self.marks(&completion);
        let course = &mut self.exchange.routing.assignment.course;
        // What the arm itself did stands, whoever is asked afterwards.
        if course.fallback.is_none() {
            course.marks = seen;
        }
        course.confidence = sure;
        let Some(rules) = self.turns.escalate.take() else { return Turn::Over(Ok(completion)) };
        let found = cues(&rules, seen, sure, false);
        course.cues.extend(found.iter().map(Cue::to_string));
        if found.is_empty() {
            return Turn::Over(Ok(completion));
        }
        course.tap = Some(Tapped { mode: TapMode::Escalate, share: 1.0 });
        let way = std::mem::replace(&mut self.exchange.routing.way, Way::TEACHER);
        let requests = self.exchange.requests_of_another();
        let teacher = (&Way::TEACHER, self.exchange.bytes);
        match submit(&self.gateway, teacher, requests).map(|mut events| events.pop()) {
            Ok(Some(events)) => {
                self.turns.draft = Some(Draft { completion, way });
                // Headers go out with the first word; should it fail before, they say so instead.
                self.exchange.routing.assignment.course.escalation = Some("answered".to_owned());
                self.turns.lost_ms = self.exchange.opened.elapsed().as_secs_f64() * 1e3;
                Turn::Another(events)
            }
            Ok(None) => self.stand_by(way, completion, "failed"),
            Err(error @ InferenceError::OverBudget(_)) if rules.exhausted == Exhausted::Error => {
                self.exchange.routing.way = way;
                self.escalated(reason(&error));
                Turn::Over(Err(Some(error)))
            }
            Err(error) => self.stand_by(way, completion, reason(&error)),
        }
    }

    /// The next in line, or the student's own words if it was to be corrected.
    fn recover(&mut self, error: InferenceError) -> Turn {
        self.turns.attempts += 1;
        if let Some(Draft { completion, way }) = self.turns.draft.take() {
            return self.stand_by(way, completion, reason(&error));
        }
        let may = self.turns.others && self.turns.attempts < MOST_ATTEMPTS;
        if !may || !steps_in(&self.exchange, &error) {
            return Turn::Over(Err(Some(error)));
        }
        if !step_aside(&self.gateway, &mut self.exchange, &error) {
            return Turn::Over(Err(Some(error)));
        }
        self.turns.others = !self.exchange.routing.others.is_empty();
        self.turns.lost_ms = self.exchange.opened.elapsed().as_secs_f64() * 1e3;
        let way = self.exchange.routing.way.clone();
        let next = (&way, self.exchange.bytes);
        match submit(&self.gateway, next, self.exchange.requests_of_another()) {
            Ok(mut events) => match events.pop() {
                Some(events) => Turn::Another(events),
                None => Turn::Over(Err(Some(error))),
            },
            // What the one who was asked first said is what the client needs to know.
            Err(next) => match self.recover(next) {
                Turn::Over(Err(_)) => Turn::Over(Err(Some(error))),
                saved => saved,
            },
        }
    }

    fn stand_by(&mut self, way: Way, completion: Box<Completion>, why: &'static str) -> Turn {
        self.exchange.routing.way = way;
        self.turns.lost_ms = 0.0;
        self.escalated(why);
        Turn::Over(Ok(completion))
    }

    fn escalated(&mut self, what: &'static str) {
        self.gateway.metrics().escalated(&self.exchange.routing, what);
        self.exchange.routing.assignment.course.escalation = Some(what.to_owned());
    }

    fn marks(&self, completion: &Completion) -> (Marks, Option<Confidence>) {
        let reply = self.exchange.reply(self.choice, completion);
        let seen = self
            .exchange
            .asked()
            .zip(reply)
            .map(|(asked, reply)| marks(asked, &reply, completion.finish_reason));
        (seen.unwrap_or_default(), completion.tokens.as_ref().and_then(confidence))
    }
}
