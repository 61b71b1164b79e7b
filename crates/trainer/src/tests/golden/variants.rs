//! One step of every algorithm variant: loss, the gradient of every tensor of the adapter, and
//! how far AdamW moves it.
//!
//! Torch ran every row by itself. Here what rows share runs once, so that each of these also says
//! that sharing changes nothing.

use std::collections::BTreeMap;

use understudy_manifest::SftExample;
use understudy_model::{Lora, LoraGrads};

use super::{
    Model, Step, assert_close,
    digest::Digest,
    fixture::{Case, Fixture},
};
use crate::{
    batching::split,
    gradient::temperature,
    reference::{Anchor, rows_mut},
    rows::{Example, Examples, Kind},
    tests::fixtures::origin,
};

/// More than all rows of a fixture have.
const EVERYTHING: usize = 1 << 20;

/// Every family that cases of a fixture are about.
fn models(fixture: &Fixture) -> BTreeMap<&str, Model> {
    let families = fixture.cases.iter().map(|case| &case.family[..]);
    families.map(|family| (family, Model::load(family))).collect()
}

fn assert_all(method: &str) {
    let fixture = Fixture::load(method);
    let models = models(&fixture);
    for case in &fixture.cases {
        let model = &models[&case.family[..]];
        let examples = anchored(model, &fixture, case);
        // Once as a whole, and once cut into as many parts as it has examples that do not fit
        // beside the largest.
        let largest = examples.iter().map(Example::tokens).max().unwrap();
        let budgets = [EVERYTHING, largest];
        let parts = budgets.map(|budget| split(&examples.iter().collect::<Vec<_>>(), budget).len());
        assert!(parts[0] == 1 && parts[1] > 1, "{}: {parts:?}", case.name);
        let mut compared = 0;
        for (budget, parts) in budgets.into_iter().zip(parts) {
            if case.micro_batches.is_none_or(|count| count == parts) {
                assert_step(model, case, &examples, budget);
                compared += 1;
            }
        }
        assert!(compared > 0, "{} matches neither cut", case.name);
    }
}

/// The examples of a case with what the reference, the adapter switched off, says of them; which
/// must be what torch recorded.
fn anchored(model: &Model, fixture: &Fixture, case: &Case) -> Vec<Example> {
    let mut examples = fixture.examples(case);
    let Some(known) = fixture.known(case) else { return examples };
    let temperature = temperature(&case.stage().objective);
    let anchor = Anchor { base: &model.base, lora: None, temperature };
    let reference = anchor.log_probs(&examples, 100, &mut |_| Ok(())).unwrap();
    assert_eq!(reference.len(), known.reference.len());
    for (found, expected) in reference.iter().zip(&known.reference) {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert_close(f64::from(*found), f64::from(*expected), 1e-4, "reference");
        }
    }
    rows_mut(&mut examples).zip(reference).for_each(|(row, lps)| row.known.reference = lps);
    examples
}

fn take(model: &Model, case: &Case, examples: &[Example], budget: usize) -> Step {
    let stage = case.stage();
    let anchor = Anchor { base: &model.base, lora: None, temperature: 1.0 };
    Step::take(model, &stage, anchor, (examples, budget), stage.learning_rate)
}

fn assert_step(model: &Model, case: &Case, examples: &[Example], budget: usize) {
    let step = take(model, case, examples, budget);
    let what = format!("{} on {} within {budget} tokens", case.name, case.family);
    assert_close(step.loss, case.loss, 1e-4, &what);
    assert_close(step.grad_norm, case.grad_norm, 1e-4, &what);
    assert_eq!(step.gradient.tensors().count(), case.tensors.len());
    for (parameter, gradient) in step.gradient.tensors() {
        let expected = &case.tensors[&parameter.name];
        let of = |lora: &Lora| lora.values()[parameter.range.clone()].to_vec();
        let moved = of(&step.stepped).into_iter().zip(of(&model.start));
        let movement: Vec<f32> = moved.map(|(stepped, start)| stepped - start).collect();
        for (values, expected) in
            [(gradient, expected.gradient), (&movement[..], expected.movement)]
        {
            let distance = Digest::of(values).distance(expected);
            assert!(distance <= 1e-4, "{what}: {} is off by {distance}", parameter.name);
        }
    }
}

/// ‖a − b‖ / ‖b‖
fn distance(a: &LoraGrads, b: &LoraGrads) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f32>| {
        values.map(|value| f64::from(value).powi(2)).sum::<f64>().sqrt()
    };
    let differences = &mut a.values().iter().zip(b.values()).map(|(a, b)| a - b);
    norm(differences) / norm(&mut b.values().iter().copied())
}

#[test]
fn imitation_is_that_of_transformers() {
    assert_all("imitation");
}

#[test]
fn every_preference_loss_is_that_of_trl() {
    assert_all("preference");
}

#[test]
fn every_loss_on_labels_is_that_of_trl() {
    assert_all("label");
}

#[test]
fn every_policy_loss_is_that_of_trl_or_of_its_formula() {
    assert_all("policy");
}

#[test]
fn a_policy_step_has_the_tensors_of_torch_element_by_element() {
    let fixture = Fixture::load("policy");
    let case = &fixture.cases[0];
    let model = Model::load(&case.family);
    let examples = anchored(&model, &fixture, case);
    take(&model, case, &examples, EVERYTHING).assert_tensors("variants/policy.safetensors");
}

#[test]
fn conversations_with_tools_become_the_rows_that_torch_imitated() {
    let fixture = Fixture::load("imitation");
    let model = Model::load("llama");
    let expected = fixture.examples(&fixture.cases[0]);
    let conversations = fixture.conversations().map(|(nth, messages)| SftExample {
        prompt: messages.prompt.clone(),
        completion: messages.completion.clone(),
        tools: Vec::new(),
        origin: origin(nth),
    });
    let conversations: Vec<SftExample> = conversations.collect();
    let found = Examples::of_sft(&model.base, &conversations, 256).unwrap();
    assert_eq!(found.kept, expected);
    let heard = |example: &Example| {
        let row = &example.rows[0];
        row.trained_tokens() < row.ids().len() - row.prompt_len()
    };
    assert!(expected.iter().any(heard), "some of it must not be imitated");
}

#[test]
fn attempts_that_share_their_prompt_have_the_gradient_of_attempts_apart() {
    let fixture = Fixture::load("policy");
    let models = models(&fixture);
    for case in &fixture.cases {
        let model = &models[&case.family[..]];
        let together = anchored(model, &fixture, case);
        let apart: Vec<Example> = together.iter().flat_map(each_row_alone).collect();
        assert!(together.iter().all(|group| group.shared() >= 20));
        assert!(apart.iter().all(|row| row.shared() == 0));
        let [together, apart] =
            [together, apart].map(|examples| take(model, case, &examples, EVERYTHING));
        let name = &case.name;
        assert!((together.loss - apart.loss).abs() <= 1e-5 * apart.loss.abs().max(0.1), "{name}");
        assert!(distance(&together.gradient, &apart.gradient) < 1e-5, "{name}");
    }
}

fn each_row_alone(group: &Example) -> Vec<Example> {
    let Kind::Compare { advantages } = &group.kind else { panic!("a group of attempts") };
    let rows = group.rows.iter().zip(advantages).map(|(row, advantage)| Example {
        rows: vec![row.clone()],
        kind: Kind::Compare { advantages: vec![advantage.clone()] },
    });
    rows.collect()
}
