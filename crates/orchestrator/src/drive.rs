//! Carries a run from wherever it stands to its end.

use understudy_manifest::Recipe;

use crate::{
    Fact, OrchestratorError, PortError, Ports, Run, RunStore, Turn,
    fact::turn_of,
    plan::{Finish, Next, next},
};

/// Who is told what happens, as it happens.
pub trait Observer {
    fn begins(&mut self, step: &Next);
    fn happened(&mut self, fact: &Fact);
    /// Called while live evidence has not decided; returns when it is time to look again.
    fn waits(&mut self);
}

/// The end of a run.
pub type Ending = Finish;

/// Runs every step that is still to do. Each fact is durable before the next step begins.
pub fn drive(
    store: &RunStore,
    run: &Run,
    ports: &dyn Ports,
    observer: &mut dyn Observer,
) -> Result<Ending, OrchestratorError> {
    let recipe = &run.recipe;
    let mut facts = store.facts(&run.id)?;
    loop {
        let step = next(recipe, &facts);
        if let Next::Finished(ending) = step {
            store.finish(&run.id, &ending)?;
            return Ok(ending);
        }
        observer.begins(&step);
        let fact = loop {
            if let Some(fact) = take(&step, run, turn_of(&facts), ports)? {
                break fact;
            }
            observer.waits();
        };
        store.add(&run.id, &fact)?;
        observer.happened(&fact);
        facts.push(fact);
    }
}

/// Takes one step; `None` while it has to be waited for.
pub(crate) fn take(
    step: &Next,
    run: &Run,
    turn: Option<&Turn>,
    ports: &dyn Ports,
) -> Result<Option<Fact>, OrchestratorError> {
    let (step, result) = perform(step, run, &run.recipe, turn, ports);
    result.map_err(|source| OrchestratorError::Step { step, source })
}

fn perform(
    step: &Next,
    run: &Run,
    recipe: &Recipe,
    turn: Option<&Turn>,
    ports: &dyn Ports,
) -> (&'static str, Result<Option<Fact>, PortError>) {
    let (name, result) = match step {
        Next::BuildDataset => ("building the dataset", ports.build_dataset(run, recipe, turn)),
        Next::Train { stage, dataset, from } => {
            ("training", ports.train(run, recipe, *stage, dataset, from.as_deref()))
        }
        Next::Skip { stage, why } => {
            ("skipping a stage", Ok(Fact::StageSkipped { stage: *stage, why: why.clone() }))
        }
        Next::Select { stage, why } => {
            ("selecting a stage", Ok(Fact::Selected { stage: *stage, why: why.clone() }))
        }
        Next::Register { directory } => ("registering", ports.register(run, recipe, directory)),
        Next::Evaluate { version } => ("evaluating", ports.evaluate(run, recipe, version)),
        Next::StartRelease { version } => {
            ("starting the release", ports.start_release(run, recipe, version))
        }
        Next::AwaitRelease { release } => {
            return ("waiting for live evidence", ports.release_end(run, release));
        }
        // The caller returns before it gets here; an error beats a panic if it ever does not.
        Next::Finished(_) => ("finishing", Err("a finished run has no next step".into())),
    };
    (name, result.map(Some))
}
