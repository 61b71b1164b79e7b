//! Which of the findings about one kind of task are said, and which another one says already.

use crate::{
    Catalogue, Contrast, Draft, Kind, Skeleton, ToolIx,
    contrast::{self, Feature, Finding},
};

/// What may become lessons, strongest first.
pub(super) struct Drafts {
    pub(super) drafts: Vec<(Draft, Option<Finding>)>,
    /// How many differences there were.
    pub(super) findings: usize,
}

pub(super) fn drafts(
    winners: &[&Skeleton],
    losers: &[&Skeleton],
    settings: &Contrast,
    catalogue: &Catalogue,
) -> Drafts {
    let found = contrast::findings(winners, losers, settings);
    let dead_ends = contrast::dead_ends(winners, losers, settings.min_support);
    let findings = found.len();
    let mut drafts: Vec<(Draft, Option<Finding>)> = Vec::new();
    for finding in &found {
        if is_said_better(finding, &found) || is_explained(finding, &found, !dead_ends.is_empty()) {
            continue;
        }
        let draft = Draft::of(finding, &dead_ends, catalogue);
        if !drafts.iter().any(|(other, _)| says_as_much(other, &draft)) {
            drafts.push((draft, Some(finding.clone())));
        }
    }
    for (tool, error, _) in &dead_ends {
        if !drafts.iter().any(|(draft, _)| draft.error == Some(*error)) {
            drafts.push((Draft::of_dead_end(*tool, *error, catalogue), None));
        }
    }
    for (steps, _) in contrast::workflows(winners, settings.workflow_support) {
        if !losers.iter().any(|skeleton| takes(skeleton, &steps)) {
            drafts.push((Draft::of_workflow(&steps, catalogue), None));
        }
    }
    Drafts { drafts, findings }
}

/// Whether another finding tells whoever follows it this one and more.
fn is_said_better(finding: &Finding, all: &[Finding]) -> bool {
    let mut others = all.iter().filter(|other| other.helps == finding.helps);
    match finding.feature {
        // "Use it" is no lesson where "use it first", or "use it when the other fails", is one.
        Feature::Used(tool) => {
            finding.helps
                && others.any(|other| match other.feature {
                    Feature::Before(first, _) => first == tool,
                    Feature::Recovered(.., next) => next == tool,
                    _ => false,
                })
        }
        // "Pass it" is none where passing it so tells winners from losers as well, and where it does
        // not, nobody need pass it so.
        Feature::Passed(tool, key) => others.any(|other| {
            let same = matches!(other.feature, Feature::Given(t, k, _) if (t, k) == (tool, key));
            same && other.lift() >= finding.lift()
        }),
        Feature::Given(tool, key, _) => others.any(|other| {
            other.feature == Feature::Passed(tool, key) && other.lift() > finding.lift()
        }),
        // What all runs that did it did at one place is a lesson about that place, and of no others.
        Feature::Recovered(tool, error, None, next) => others.any(|other| {
            let place = matches!(
                other.feature,
                Feature::Recovered(t, e, Some(_), n) if (t, e, n) == (tool, error, next)
            );
            let did = |finding: &Finding| (finding.winners.did, finding.losers.did);
            place && did(other) == did(finding)
        }),
        _ => false,
    }
}

/// Whether a number of calls is only what something else comes to. Whoever asks first takes a call
/// more, and whoever meets a dead end takes fewer: the number is a lesson where nothing that was
/// called tells winners from losers, and then the one that tells them best.
fn is_explained(finding: &Finding, all: &[Finding], dead_ends: bool) -> bool {
    if !matches!(finding.feature, Feature::Within(_)) {
        return false;
    }
    let first = all.iter().find(|other| matches!(other.feature, Feature::Within(_)));
    dead_ends
        || first != Some(finding)
        || all.iter().any(|other| !matches!(other.feature, Feature::Within(_)))
}

/// Whether a lesson is in another one already: "use it first" says "use it", asking for one tool in two
/// shapes is one lesson, and so is passing an argument and avoiding it otherwise.
fn says_as_much(known: &Draft, new: &Draft) -> bool {
    let used_in_order = new.order.is_empty()
        && !new.prefer.is_empty()
        && new.error.is_none()
        && new.prefer.iter().all(|tool| known.order.contains(tool));
    let contradicts = new.avoid.iter().any(|tool| known.prefer.contains(tool))
        || new.prefer.iter().any(|tool| known.avoid.contains(tool));
    let here = known.target.is_none() || known.target == new.target;
    let same = here && known.situation == new.situation && known.strategy == new.strategy;
    let opposite = new.argument.is_some()
        && new.argument == known.argument
        && new.kind == Kind::Avoid
        && known.kind != Kind::Avoid;
    used_in_order || contradicts || same || opposite
}

/// Whether a run tried these steps in a row, with success or without.
fn takes(skeleton: &Skeleton, steps: &[ToolIx]) -> bool {
    let tools: Vec<_> = skeleton.moves.iter().map(|call| call.tool).collect();
    tools.windows(steps.len()).any(|part| part == steps)
}
