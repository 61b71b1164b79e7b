//! Carries a run from wherever it stands to its end.

use understudy_manifest::Recipe;

use crate::{
    Fact, OrchestratorError, PortError, Ports, Run, RunStore,
    plan::{Finish, Next, next},
};

/// Who is told what happens, as it happens.
pub trait Observer {
    fn begins(&mut self, step: &Next);
    fn happened(&mut self, fact: &Fact);
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
            store.finish(&run.id, &format!("{ending:?}"))?;
            return Ok(ending);
        }
        observer.begins(&step);
        let (name, result) = perform(&step, run, recipe, ports);
        let fact = result.map_err(|source| OrchestratorError::Step { step: name, source })?;
        store.add(&run.id, &fact)?;
        observer.happened(&fact);
        facts.push(fact);
    }
}

fn perform(
    step: &Next,
    run: &Run,
    recipe: &Recipe,
    ports: &dyn Ports,
) -> (&'static str, Result<Fact, PortError>) {
    match step {
        Next::BuildDataset => ("building the dataset", ports.build_dataset(run, recipe)),
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
            ("waiting for live evidence", ports.await_release(run, release))
        }
        // The caller returns before it gets here; an error beats a panic if it ever does not.
        Next::Finished(_) => ("finishing", Err("a finished run has no next step".into())),
    }
}
