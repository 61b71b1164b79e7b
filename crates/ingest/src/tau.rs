//! Results of tau-bench: each row one trial of one task, with its whole conversation and reward.

use serde_json::Value;
use understudy_ident::{OutcomeId, TaskName, Timestamp};
use understudy_manifest::digest_json;
use understudy_message::{Message, Role};
use understudy_trajectory::{Outcome, Signal, Source, Step, Target};

use crate::{
    Attempt, Row,
    example::messages,
    reading::{Recording, nth_time},
};

/// One row.
pub(crate) struct Trial {
    pub(crate) steps: Vec<Step>,
    pub(crate) outcome: Outcome,
    /// What other trials attempted as well.
    pub(crate) problem: String,
    pub(crate) attempt: Attempt,
}

/// Every message of the assistant is a step, prompted by all that came before it. The reward is a
/// verifier's, of the whole.
pub(crate) fn read(row: &Row, task: &TaskName, at: Timestamp) -> Result<Trial, String> {
    let said = messages("traj", row.get("traj").ok_or("there is no field `traj`")?)?;
    let reward = row.get("reward").and_then(Value::as_f64).ok_or("`reward` is not a number")?;
    if !(0.0..=1.0).contains(&reward) {
        return Err(format!("the reward {reward} is outside [0, 1]"));
    }
    let number = |field: &str| row.get(field).and_then(Value::as_u64);
    let problem = number("task_id").ok_or("`task_id` is not a number")?;
    let user = row.get("info").and_then(|info| info.pointer("/task/user_id")?.as_str());
    let recording = Recording {
        task,
        digest: digest_json(&(problem, number("trial"), &said)),
        subject: user.map(str::to_owned),
        session: None,
        tools: Vec::new(),
    };
    let replies = (0..said.len()).filter(|&at| said[at].role == Role::Assistant);
    let steps = replies.enumerate().map(|(place, reply)| {
        let prompt: Vec<Message> = said[..reply].to_vec();
        recording.step(place, prompt, said[reply].clone(), "imported", nth_time(at, place))
    });
    let steps: Vec<Step> = steps.collect();
    let last = steps.last().ok_or("the assistant says nothing in `traj`")?;
    let trajectory = recording.trajectory();
    let problem = format!("{problem:04}");
    let outcome = Outcome {
        id: OutcomeId::derived(&format!("tau-bench {trajectory}")),
        target: Target::Trajectory(trajectory.to_string()),
        signal: Signal::Verifier { name: "tau-bench".to_owned(), score: reward },
        source: Source::Automated,
        at: last.at,
        note: Some(Outcome::note_of_problem(&problem)),
        details: None,
    };
    let attempt = Attempt { trajectory, reward };
    Ok(Trial { steps, outcome, problem, attempt })
}
