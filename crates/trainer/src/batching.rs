//! Micro-batches: as many examples as fit a token budget, laid end to end without padding.

use std::ops::Range;

use understudy_model::{Batch, Term};

use crate::rows::{Example, Row};

/// Some examples of one optimiser step, ready for the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MicroBatch {
    pub batch: Batch,
    /// Every trained token of every row, rows in order. Token `t` is predicted by row `t − 1`.
    pub terms: Vec<Term>,
    /// For each row, its place in `terms`.
    pub terms_of_row: Vec<Range<usize>>,
}

impl MicroBatch {
    /// The last token of a row predicts nothing that is trained, so it is a target but no input.
    pub(crate) fn of<'a>(rows: impl IntoIterator<Item = &'a Row>) -> Self {
        let mut micro =
            Self { batch: Batch::default(), terms: Vec::new(), terms_of_row: Vec::new() };
        for row in rows {
            let (_, inputs) = row.ids().split_last().expect("a row has a completion");
            let start = micro.batch.push(inputs, 0).start + row.prompt_len() - 1;
            let first = micro.terms.len();
            let targets = row.completion().iter().enumerate();
            micro.terms.extend(targets.map(|(t, id)| Term { row: start + t, target: *id }));
            micro.terms_of_row.push(first..micro.terms.len());
        }
        micro
    }
}

/// Cuts examples, in order, into runs of at most `budget` tokens. An example larger than the
/// budget is a run of its own. How they are cut changes memory and speed, never the gradient.
pub(crate) fn split(examples: &[&Example], budget: usize) -> Vec<Range<usize>> {
    let mut runs = Vec::new();
    let (mut start, mut tokens) = (0, 0);
    for (index, example) in examples.iter().enumerate() {
        if index > start && tokens + example.tokens() > budget {
            runs.push(start..index);
            (start, tokens) = (index, 0);
        }
        tokens += example.tokens();
    }
    if start < examples.len() {
        runs.push(start..examples.len());
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(len: usize) -> Example {
        Example::Imitate(Row::new(&vec![1; len - 1], &[2]))
    }

    #[test]
    fn the_first_completion_token_is_predicted_by_the_last_prompt_token() {
        let rows = [Row::new(&[1, 2, 3], &[7, 8]), Row::new(&[4], &[9])];
        let micro = MicroBatch::of(&rows);
        assert_eq!(micro.batch.tokens, [1, 2, 3, 7, 4]);
        let terms: Vec<(usize, u32)> = micro.terms.iter().map(|t| (t.row, t.target)).collect();
        assert_eq!(terms, [(2, 7), (3, 8), (4, 9)]);
        assert_eq!(micro.terms_of_row, [0..2, 2..3]);
    }

    #[test]
    fn runs_stay_within_the_budget_and_cover_everything_in_order() {
        let examples: Vec<Example> = [5, 4, 3, 9, 2, 2, 2, 2, 2].map(example).into();
        let examples: Vec<&Example> = examples.iter().collect();
        let runs = split(&examples, 9);
        assert_eq!(runs, [0..2, 2..3, 3..4, 4..8, 8..9]);
    }

    #[test]
    fn an_example_larger_than_the_budget_stands_alone() {
        let examples = [3, 20, 3].map(example);
        let examples: Vec<&Example> = examples.iter().collect();
        assert_eq!(split(&examples, 4), [0..1, 1..2, 2..3]);
        assert_eq!(split(&[], 4), Vec::<Range<usize>>::new());
    }
}
