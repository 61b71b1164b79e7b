//! Micro-batches: as many examples as fit a token budget, laid end to end without padding.

use std::ops::Range;

use understudy_model::{Batch, Term};

use crate::rows::Example;

/// Some examples of one optimiser step, ready for the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MicroBatch {
    pub batch: Batch,
    /// Every trained token of every row, rows in order. Token `t` is predicted by token `t − 1`.
    pub terms: Vec<Term>,
    /// For each row, its place in `terms`.
    pub terms_of_row: Vec<Range<usize>>,
}

impl MicroBatch {
    pub(crate) fn of<'a>(examples: impl IntoIterator<Item = &'a Example>) -> Self {
        let mut micro =
            Self { batch: Batch::default(), terms: Vec::new(), terms_of_row: Vec::new() };
        for example in examples {
            micro.push(example);
        }
        micro
    }

    /// What the rows of an example begin with runs once, as a trunk its rows branch from.
    fn push(&mut self, example: &Example) {
        let shared = example.shared();
        let trunk = (shared > 0).then(|| {
            let start = self.batch.push(&example.rows[0].ids()[..shared], 0).start;
            (start, self.batch.spans.len() - 1)
        });
        for row in &example.rows {
            // The last token of a row predicts nothing that is trained, so it is no input.
            let own = &row.ids()[shared..row.ids().len() - 1];
            let start = match trunk {
                // All of its inputs are the trunk's.
                _ if own.is_empty() => self.batch.rows(),
                Some((_, index)) => self.batch.branch(own, index).start,
                None => self.batch.push(own, 0).start,
            };
            let first = self.terms.len();
            let place = |position: usize| match trunk {
                Some((trunk, _)) if position < shared => trunk + position,
                _ => start + position - shared,
            };
            self.terms
                .extend(row.trained().map(|at| Term { row: place(at - 1), target: row.ids()[at] }));
            self.terms_of_row.push(first..self.terms.len());
        }
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
    use crate::rows::Row;

    fn example(len: usize) -> Example {
        Example::imitate(vec![Row::new(&vec![1; len - 1], &[2])])
    }

    #[test]
    fn the_first_completion_token_is_predicted_by_the_last_prompt_token() {
        let rows = [Row::new(&[1, 2, 3], &[7, 8]), Row::new(&[4], &[9])];
        let micro = MicroBatch::of(&rows.map(|row| Example::imitate(vec![row])));
        assert_eq!(micro.batch.tokens, [1, 2, 3, 7, 4]);
        let terms: Vec<(usize, u32)> = micro.terms.iter().map(|t| (t.row, t.target)).collect();
        assert_eq!(terms, [(2, 7), (3, 8), (4, 9)]);
        assert_eq!(micro.terms_of_row, [0..2, 2..3]);
    }

    #[test]
    fn what_a_pair_shares_runs_once_and_its_last_token_predicts_both_sides() {
        let prompt = [1, 2, 3, 4, 5];
        let (chosen, rejected) = (Row::new(&prompt, &[7, 8, 9]), Row::new(&prompt, &[6]));
        let micro = MicroBatch::of(&[Example::prefer(chosen, rejected)]);
        // The rejected side has no input of its own: its one token follows the prompt.
        assert_eq!(micro.batch.tokens, [1, 2, 3, 4, 5, 7, 8]);
        assert_eq!(micro.batch.spans.len(), 2);
        let terms: Vec<(usize, u32)> = micro.terms.iter().map(|t| (t.row, t.target)).collect();
        assert_eq!(terms, [(4, 7), (5, 8), (6, 9), (4, 6)]);
        assert_eq!(micro.terms_of_row, [0..3, 3..4]);
    }

    #[test]
    fn only_what_the_model_said_is_a_target() {
        let mut row = Row::new(&[1, 2], &[7, 8]);
        row.hear(&[3, 4]);
        row.say(&[9]);
        let micro = MicroBatch::of(&[Example::imitate(vec![row])]);
        let terms: Vec<(usize, u32)> = micro.terms.iter().map(|t| (t.row, t.target)).collect();
        assert_eq!(terms, [(1, 7), (2, 8), (5, 9)]);
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
