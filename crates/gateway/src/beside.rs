//! Replies beside the one that was given: a teacher that observes, a candidate in the shadow, and a
//! student's draft that the teacher's answer took the place of.
//!
//! They are asked for after the reply is recorded, never wait in a queue, and delay nobody: where
//! there is no room they are dropped, and counted. Nothing acts on them; a shadow makes one step of
//! the same context and no tool is ever called.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Semaphore, time::timeout};
use understudy_ident::OutcomeId;
use understudy_inference::{Completion, Event, InferenceError};
use understudy_message::Message;
use understudy_router::Target;
use understudy_trajectory::{
    Arm, Course, Outcome, Signal, Source, Step, TapMode, Tapped, Target as About,
};

use crate::{
    exchange::Exchange,
    relay::{self, Draft, Events},
    routing::Way,
    state::Gateway,
};

/// Of each kind, at once.
const AT_ONCE: usize = 32;
/// Longer than this a reply beside another is not waited for.
const PATIENCE: Duration = Duration::from_mins(2);
/// Behind everybody who waits for an answer.
const LAST: i32 = i32::MAX;

/// Room for replies beside others.
#[derive(Debug)]
pub(crate) struct Room {
    observers: Arc<Semaphore>,
    shadows: Arc<Semaphore>,
}

impl Default for Room {
    fn default() -> Self {
        let room = || Arc::new(Semaphore::new(AT_ONCE));
        Self { observers: room(), shadows: room() }
    }
}

/// Whether anything may be asked beside a reply of this exchange.
pub(crate) fn may_follow(exchange: &Exchange) -> bool {
    let support = exchange.routing.entry.as_ref().map(|entry| &entry.route.support);
    let somebody =
        support.is_some_and(|support| support.observe.is_some() || support.shadow.is_some());
    somebody && exchange.is_repeatable()
}

/// Draws the lots of a reply that has just been recorded; `told` is what it said.
pub(crate) fn after(gateway: &Gateway, exchange: &Exchange, choice: usize, told: Message) {
    let Some(entry) = &exchange.routing.entry else { return };
    let (support, course) = (&entry.route.support, &exchange.routing.assignment.course);
    let reply = exchange.step_id(choice).as_str();
    if let Some(observe) = &support.observe
        && !exchange.routing.way.teacher
        && !exchange.routing.untapped
        && let Some(share) = observe.draw(reply, !course.cues.is_empty())
    {
        let tap = Some(Tapped { mode: TapMode::Observe, share });
        let course = Course { tap, ..Course::default() };
        let aside = exchange.beside(choice, Arm::Teacher, course);
        ask(gateway, aside, Way::TEACHER, told.clone());
    }
    if let Some(shadow) = &support.shadow
        && exchange.routing.assignment.arm == Arm::Stable
        && shadow.draw(reply)
    {
        let aside = exchange.beside(choice, Arm::Shadow, Course::default());
        ask_shadow(gateway, aside, &shadow.target, told);
    }
}

fn ask_shadow(gateway: &Gateway, aside: Exchange, target: &Target, told: Message) {
    let stats = gateway.student.stats();
    if stats.waiting > 0 {
        return gateway.metrics().beside_dropped(&aside.routing, "busy");
    }
    ask(gateway, aside, Way::to(target), told);
}

fn ask(gateway: &Gateway, aside: Exchange, way: Way, told: Message) {
    let room = gateway.room();
    let room = if way.teacher { &room.observers } else { &room.shadows };
    let Ok(permit) = Arc::clone(room).try_acquire_owned() else {
        return gateway.metrics().beside_dropped(&aside.routing, "no_room");
    };
    let mut aside = aside;
    aside.until = None;
    aside.routing.way = way;
    let mut requests = aside.requests_of_another();
    requests.truncate(1);
    for request in &mut requests {
        request.admission.timeout = Some(PATIENCE);
        if !aside.routing.way.teacher {
            request.admission.priority = LAST;
        }
    }
    let events = relay::submit(gateway, (&aside.routing.way, aside.bytes), requests);
    match events.map(|mut events| events.pop()) {
        Ok(Some(events)) => {
            let gateway = gateway.clone();
            tokio::spawn(async move {
                listen(&gateway, &aside, events, &told).await;
                drop(permit);
            });
        }
        Ok(None) => {}
        Err(error) => gateway.metrics().beside_dropped(&aside.routing, relay::reason(&error)),
    }
}

async fn listen(gateway: &Gateway, aside: &Exchange, mut events: Events, told: &Message) {
    let ending = async {
        while let Some(event) = events.recv().await {
            match event {
                Event::Started(_) | Event::Delta(_) => {}
                Event::Finished(completion) => return Ok(completion),
                Event::Failed(error) => return Err(error),
            }
        }
        Err(InferenceError::ShuttingDown)
    };
    let ending = timeout(PATIENCE, ending).await;
    let ending = ending.unwrap_or(Err(InferenceError::TimedOut(PATIENCE.as_millis() as u64)));
    match ending {
        Ok(completion) => {
            let step = aside.finished(0, &completion).map(|step| marked(aside, step));
            if let Some(step) = &step {
                let same = understudy_conduct::agrees(&step.reply, told);
                gateway.metrics().compared(&aside.routing, same);
            }
            keep(gateway, aside, step);
        }
        Err(error) => {
            gateway.metrics().beside_dropped(&aside.routing, relay::reason(&error));
            keep(gateway, aside, aside.broken(0, "", None, error.to_string()));
        }
    }
}

/// What it did, so that a shadow can be compared without an outcome.
fn marked(aside: &Exchange, mut step: Step) -> Step {
    let marks = aside
        .asked()
        .map(|asked| understudy_conduct::marks(asked, &step.reply, step.finish_reason));
    if let (Some(assignment), Some(marks)) = (&mut step.assignment, marks) {
        assignment.course.marks = marks;
        assignment.course.confidence =
            step.tokens.as_ref().and_then(understudy_conduct::confidence);
    }
    step
}

/// The student's own words, and that others were used in their stead: to those who build datasets
/// that is a pair.
pub(crate) fn keep_draft(gateway: &Gateway, exchange: &Exchange, draft: &Draft) {
    let Draft { completion, way } = draft;
    let arm = exchange.routing.assignment.arm;
    let marks = exchange.routing.assignment.course.marks;
    let mut aside = exchange.beside(0, arm, Course { marks, ..Course::default() });
    aside.routing.way = way.clone();
    let completion: &Completion = completion;
    let Some(step) = aside.finished(0, completion) else { return };
    let regenerated = Outcome {
        id: OutcomeId::derived(&format!("escalated {}", step.id))
            .within(step.task.tenant().as_ref()),
        target: About::Response(step.response_id.clone()),
        signal: Signal::Regenerate { kept: Some(exchange.response_id().to_owned()) },
        source: Source::Automated,
        at: gateway.clock.now(),
        note: Some("the teacher answered instead".to_owned()),
        details: None,
    };
    keep(gateway, &aside, Some(step));
    let Some(regenerated) = gateway.capture().outcome(regenerated) else { return };
    if let Err(why) = gateway.journal.append_outcome(regenerated) {
        tracing::warn!(%why, "an escalation's outcome was dropped");
        gateway.metrics().beside_dropped(&aside.routing, "unrecorded");
    }
}

/// Nobody waits for it, so it is dropped rather than waited with when the journal is full.
fn keep(gateway: &Gateway, aside: &Exchange, step: Option<Step>) {
    let Some(step) = step.and_then(|step| gateway.capture().step(step)) else { return };
    let failed = step.error.is_some();
    match gateway.journal.append_step(step) {
        Ok(_) if failed => {}
        Ok(_) => gateway.metrics().beside_kept(&aside.routing),
        Err(why) => {
            tracing::warn!(%why, "a reply beside another was dropped");
            gateway.metrics().beside_dropped(&aside.routing, "unrecorded");
        }
    }
}
