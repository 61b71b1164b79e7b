//! `understudy dataset erase`: a person out of everything that was kept.

use std::collections::BTreeSet;

use anyhow::Result;
use understudy_dataset::ErasedVersion;
use understudy_intake::{Intake, Limits};
use understudy_journal::Erasure;
use understudy_registry::Change;

use super::receipt::{self, Receipt};
use crate::{
    cli::EraseArgs,
    commands::{
        Exit,
        memory::{self, ErasedMemory},
    },
    config::Config,
    exports,
    output::Out,
    wiring::Stores,
};

pub(crate) fn run(args: &EraseArgs, config: &Config, out: Out) -> Result<Exit> {
    let stores = Stores::open(&config.data)?;
    // First, so that nothing is erased that could not be signed for.
    let key = receipt::signer(args.key.as_deref(), &config.data)?;
    let spinner = out.spinner("looking for the subject");
    let intake = Intake::new(stores.journal.clone(), Limits::default());
    let holdings = stores.journal.holdings(&args.subject)?;
    let bodies = intake.bodies_of(&args.subject, &holdings)?;
    if args.dry_run {
        spinner.finish_and_clear();
        let text = format!(
            "{} steps, {} outcomes and {} raw bodies would be erased, with every row made of them",
            holdings.steps.len(),
            holdings.outcomes,
            bodies.len()
        );
        let counts = serde_json::json!({"dry_run": true, "steps": holdings.steps.len(),
            "outcomes": holdings.outcomes, "raw_bodies": bodies.len()});
        out.either(text, &counts)?;
        return Ok(if holdings.steps.is_empty() && bodies.is_empty() {
            Exit::No
        } else {
            Exit::Ok
        });
    }
    let (whose, by) = ((&*args.subject, &holdings.steps), (&*args.owner, &*args.reason));
    let memory = memory::erase(whose, &stores.journal, by, config)?;
    let erasure = stores.journal.erase(&args.subject, &bodies)?;
    spinner.set_message("dataset versions, their copies and adapters");
    let receipt = derived(&stores, config, args, (erasure, memory))?;
    spinner.finish_and_clear();
    // Written last: it says what is done.
    let written = receipt::write(&receipt, key.as_ref(), &config.data)?;
    out.either(describe(&receipt, &written.text()), &written.value(&receipt))?;
    let nothing = receipt.steps == 0 && receipt.raw_bodies == 0 && !receipt.own_lessons_forgotten;
    Ok(if nothing { Exit::No } else { Exit::Ok })
}

/// Everything that was made from the journal.
fn derived(
    stores: &Stores,
    config: &Config,
    args: &EraseArgs,
    (erasure, memory): (Erasure, ErasedMemory),
) -> Result<Receipt> {
    let name = format!("erasure of {}", &erasure.subject[..16]);
    let versions = understudy_dataset::erase(&config.data.datasets(), &erasure.steps, &name)?;
    let mut tainted = BTreeSet::new();
    for ErasedVersion { version, .. } in &versions {
        let reason = format!("{}: {name}", args.reason);
        let change = Change::new(&args.owner, &reason, &*stores.clock);
        tainted.extend(stores.registry.withdraw_data(version, change)?);
        // Withdrawn before for somebody else, while this subject was in them as well.
        for earlier in understudy_dataset::predecessors(&config.data.datasets(), version)? {
            tainted.extend(stores.registry.trained_on(&earlier)?);
        }
    }
    let (mut removed, mut left) = (Vec::new(), Vec::new());
    for copy in exports::all(&config.data)? {
        if versions.iter().any(|one| one.version == copy.version) && copy.directory.exists() {
            let place = copy.directory.display().to_string();
            if copy.remove()? { removed.push(place) } else { left.push(place) }
        }
    }
    Ok(Receipt {
        subject: erasure.subject,
        at: erasure.at,
        steps: erasure.steps.len(),
        outcomes: erasure.outcomes,
        raw_bodies: erasure.bodies,
        versions,
        tainted: tainted.into_iter().collect(),
        copies_removed: removed,
        copies_left: left,
        own_lessons_forgotten: memory.own_forgotten,
        lessons_suspended: memory.suspended,
        audit: stores.registry.audit_head()?,
    })
}

fn describe(receipt: &Receipt, written: &str) -> String {
    let mut lines = vec![format!(
        "{} steps, {} outcomes and {} raw bodies cannot be read by anybody any more",
        receipt.steps, receipt.outcomes, receipt.raw_bodies
    )];
    for ErasedVersion { version, rows, successor, .. } in &receipt.versions {
        let other = successor.as_ref().map_or_else(
            || "no row is left".to_owned(),
            |successor| format!("all others are in {successor}"),
        );
        lines.push(format!("  {version}: {rows} rows; {other}"));
    }
    for version in &receipt.tainted {
        lines.push(format!(
            "  {version} has learnt from them and is not released any more; where it serves, roll \
             it back: understudy release rollback {}",
            version.task
        ));
    }
    lines.extend(
        receipt.copies_removed.iter().map(|place| format!("  removed the copy at {place}")),
    );
    lines.extend(receipt.copies_left.iter().map(|place| {
        format!("  the copy at {place} was changed since it was made: remove it by hand")
    }));
    if receipt.own_lessons_forgotten {
        lines.push("  their own lessons are forgotten".to_owned());
    }
    lines.extend(receipt.lessons_suspended.iter().map(|id| {
        format!(
            "  {id} was learnt from them too and is shown to nobody; bring it back with `understudy \
             memory review {id} --restore`, or retire it"
        )
    }));
    lines.push(written.to_owned());
    lines.join("\n")
}
