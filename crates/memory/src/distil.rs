//! A finding as a sentence: deterministic, and made of nothing but the catalogue's names.

use understudy_inference::InferenceError;

use crate::{
    Catalogue, Declared, ErrorSignature, KeyIx, Keyed, Kind, Parameter, Shape, Tactic, ToolIx,
    contrast::{Feature, Finding},
};

/// A lesson before anybody has checked its text. It has no word of a user in it, whoever writes the
/// final text: this, and only this, is what a teacher is shown.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    pub kind: Kind,
    pub situation: String,
    pub strategy: String,
    pub(crate) tools: Vec<ToolIx>,
    pub(crate) prefer: Vec<ToolIx>,
    pub(crate) avoid: Vec<ToolIx>,
    pub(crate) order: Vec<ToolIx>,
    pub(crate) parallel: Vec<ToolIx>,
    pub(crate) parameters: Vec<Parameter<Declared>>,
    /// The argument it is about.
    pub(crate) argument: Option<(ToolIx, KeyIx)>,
    pub(crate) error: Option<ErrorSignature>,
    /// The one place it was seen at.
    pub(crate) target: Option<Keyed>,
    pub(crate) tactic: Option<Tactic>,
}

/// Whoever writes the two sentences of a lesson.
pub trait Distil {
    /// A situation and a strategy, from a draft.
    fn write(&self, draft: &Draft) -> Result<(String, String), InferenceError>;
}

const BECAUSE: &str = "because runs that did so succeeded more often.";

impl Draft {
    /// The template's sentences for a finding. `dead_ends` are failures only losers ran into: a way
    /// around one is a recovery, to be found again when it happens.
    pub(crate) fn of(
        finding: &Finding,
        dead_ends: &[(ToolIx, ErrorSignature, u64)],
        catalogue: &Catalogue,
    ) -> Self {
        let error_of = |tool: ToolIx| {
            dead_ends.iter().find(|(at, ..)| *at == tool).map(|(_, error, _)| *error)
        };
        match finding.feature {
            Feature::Used(tool) => Self::of_use(tool, finding.helps, catalogue),
            Feature::Before(first, then) => Self::of_order(first, then, error_of(then), catalogue),
            Feature::Parallel(a, b) => Self::of_batch(a, b, catalogue),
            Feature::Given(tool, key, _) | Feature::Passed(tool, key) => {
                let shape = match finding.feature {
                    Feature::Given(.., shape) => Some(shape),
                    _ => None,
                };
                let error = error_of(tool).filter(|_| finding.helps);
                Self::of_argument((tool, key, shape), finding.helps, error, catalogue)
            }
            Feature::Within(most) => Self::of_length(most, finding.helps),
            Feature::Recovered(tool, error, target, next) => {
                Self { target, ..Self::of_recovery(tool, error, next, catalogue) }
            }
        }
    }

    fn of_use(tool: ToolIx, helps: bool, catalogue: &Catalogue) -> Self {
        let name = &catalogue.schema(tool).name;
        let situation = format!("When `{name}` is available for a task of this kind");
        let draft = Self { situation, tools: vec![tool], ..Self::empty() };
        if helps {
            let strategy = format!("prefer calling `{name}`, {BECAUSE}");
            return Self { strategy, prefer: vec![tool], ..draft };
        }
        let strategy = format!("avoid `{name}`, because runs without it succeeded more often.");
        Self { kind: Kind::Avoid, strategy, avoid: vec![tool], ..draft }
    }

    fn of_order(
        first: ToolIx,
        then: ToolIx,
        error: Option<ErrorSignature>,
        catalogue: &Catalogue,
    ) -> Self {
        let name = |tool: ToolIx| catalogue.schema(tool).name.as_str();
        Self {
            kind: error.map_or(Kind::Strategy, |_| Kind::Recovery),
            situation: format!("When a task needs `{}`", name(then)),
            strategy: format!("prefer calling `{}` first, {BECAUSE}", name(first)),
            tools: vec![first, then],
            prefer: vec![first],
            order: vec![first, then],
            error,
            tactic: error.map(|_| Tactic::FallbackPath),
            ..Self::empty()
        }
    }

    fn of_batch(a: ToolIx, b: ToolIx, catalogue: &Catalogue) -> Self {
        let name = |tool: ToolIx| catalogue.schema(tool).name.as_str();
        Self {
            situation: format!("When a task needs both `{}` and `{}`", name(a), name(b)),
            strategy: format!("prefer calling them in parallel, {BECAUSE}"),
            tools: vec![a, b],
            parallel: vec![a, b],
            ..Self::empty()
        }
    }

    fn of_argument(
        (tool, key, shape): (ToolIx, KeyIx, Option<Shape>),
        helps: bool,
        error: Option<ErrorSignature>,
        catalogue: &Catalogue,
    ) -> Self {
        let argument = catalogue.argument(tool, key);
        let value = shape.map(|shape| match shape {
            Shape::Declared(at) => {
                let value = argument.values.get(usize::from(at));
                value.map(|value| format!(" = `{value}`")).unwrap_or_default()
            }
            other => format!(" = {}", other.placeholder()),
        });
        let given = format!("`{}`{}", argument.name, value.unwrap_or_default());
        let strategy = if helps {
            format!("prefer passing {given}, {BECAUSE}")
        } else {
            format!("avoid passing {given}, because runs without it succeeded more often.")
        };
        let kind = match error {
            Some(_) => Kind::Recovery,
            None if helps => Kind::Strategy,
            None => Kind::Avoid,
        };
        Self {
            kind,
            situation: format!("When calling `{}`", catalogue.schema(tool).name),
            strategy,
            tools: vec![tool],
            parameters: shape
                .filter(|_| helps)
                .and_then(|shape| parameter(catalogue, tool, &argument.name, shape))
                .into_iter()
                .collect(),
            argument: Some((tool, key)),
            error,
            tactic: error.map(|_| Tactic::RetryVariation),
            ..Self::empty()
        }
    }

    /// How long runs are that succeed, where nothing they called tells them from others.
    fn of_length(most: u32, helps: bool) -> Self {
        let calls = if most == 1 { "call" } else { "calls" };
        let draft =
            Self { situation: "When a task of this kind begins".to_owned(), ..Self::empty() };
        if helps {
            let strategy = format!("prefer a plan of at most {most} {calls}, {BECAUSE}");
            return Self { strategy, ..draft };
        }
        let strategy = format!(
            "avoid ending after only {most} {calls}, because runs that took more succeeded more often."
        );
        Self { kind: Kind::Avoid, strategy, ..draft }
    }

    fn of_recovery(
        tool: ToolIx,
        error: ErrorSignature,
        next: ToolIx,
        catalogue: &Catalogue,
    ) -> Self {
        let name = |tool: ToolIx| catalogue.schema(tool).name.as_str();
        let (how, tactic) = if next == tool {
            ("again", Tactic::RetryVariation)
        } else {
            ("instead", Tactic::AlternativeTool)
        };
        Self {
            kind: Kind::Recovery,
            situation: format!("When `{}` fails {}", name(tool), error.class.phrase()),
            strategy: format!("prefer calling `{}` {how}, {BECAUSE}", name(next)),
            tools: vec![tool, next],
            prefer: vec![next],
            error: Some(error),
            tactic: Some(tactic),
            ..Self::empty()
        }
    }

    /// A failure that no run got past.
    pub(crate) fn of_dead_end(tool: ToolIx, error: ErrorSignature, catalogue: &Catalogue) -> Self {
        let name = &catalogue.schema(tool).name;
        Self {
            kind: Kind::Avoid,
            situation: format!("When `{name}` fails {}", error.class.phrase()),
            strategy: format!(
                "avoid calling `{name}` again and escalate, because no run that went on succeeded."
            ),
            tools: vec![tool],
            error: Some(error),
            tactic: Some(Tactic::Escalate),
            ..Self::empty()
        }
    }

    /// Steps that winners take in a row.
    pub(crate) fn of_workflow(steps: &[ToolIx], catalogue: &Catalogue) -> Self {
        let names: Vec<String> =
            steps.iter().map(|tool| format!("`{}`", catalogue.schema(*tool).name)).collect();
        Self {
            kind: Kind::Workflow,
            situation: "When a task of this kind begins".to_owned(),
            strategy: format!("prefer the workflow {}, {BECAUSE}", names.join(" then ")),
            tools: steps.to_vec(),
            prefer: steps.to_vec(),
            order: steps.to_vec(),
            ..Self::empty()
        }
    }

    fn empty() -> Self {
        Self {
            kind: Kind::Strategy,
            situation: String::new(),
            strategy: String::new(),
            tools: Vec::new(),
            prefer: Vec::new(),
            avoid: Vec::new(),
            order: Vec::new(),
            parallel: Vec::new(),
            parameters: Vec::new(),
            argument: None,
            error: None,
            target: None,
            tactic: None,
        }
    }
}

fn parameter(
    catalogue: &Catalogue,
    tool: ToolIx,
    key: &str,
    shape: Shape,
) -> Option<Parameter<Declared>> {
    let key = Declared::find(catalogue, key)?;
    Some(Parameter { tool: Declared::tool(catalogue, tool), key, shape })
}
