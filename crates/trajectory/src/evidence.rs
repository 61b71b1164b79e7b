//! Whether those who judged a reply leave it open what it is worth: people in so many words, users by
//! what they did, and programs, each taken for one witness.
//!
//! Every witness is as sure as the mean of what they said, and never surer than nine in ten. The
//! log-odds add up, which takes witnesses for independent; behaviour counts for as much as the policy
//! lets it. What is left open is a posterior with more than [`OPEN`] bits of entropy.

use crate::{Outcome, RewardPolicy, Signal, Source};

/// As sure as one witness can make anybody.
const SUREST: f64 = 0.9;
/// In bits: a posterior between 0.316 and 0.684.
const OPEN: f64 = 0.9;

impl RewardPolicy {
    /// Whether some speak for a reply and others against it, and neither outweighs the other. One
    /// witness alone may be undecided, which is no conflict.
    ///
    /// Whoever edits says that the reply was nearly right, and what is said beside that may be about
    /// either text; a program that judges a whole attempt judges none of its replies.
    pub fn is_left_open(self, outcomes: &[Outcome]) -> bool {
        if outcomes.iter().any(|outcome| matches!(outcome.signal, Signal::Edit { .. })) {
            return false;
        }
        let witnesses = [Source::Explicit, Source::Implicit, Source::Automated];
        let said = witnesses.map(|witness| self.log_odds(witness, outcomes));
        let disagree = said.iter().any(|odds| *odds > 0.0) && said.iter().any(|odds| *odds < 0.0);
        disagree && entropy(said.iter().sum()) > OPEN
    }

    /// How far a witness speaks for the reply, or against it; 0 of one who says nothing.
    fn log_odds(self, witness: Source, outcomes: &[Outcome]) -> f64 {
        let own = outcomes.iter().filter(|one| one.source == witness && one.attempt().is_none());
        let said = own.map(|outcome| self.component("", outcome)).filter(|one| one.weight > 0.0);
        let (mut sum, mut count, mut weight) = (0.0_f64, 0.0, 0.0_f64);
        for one in said {
            (sum, count, weight) = (sum + one.value, count + 1.0, weight.max(one.weight));
        }
        if count == 0.0 {
            return 0.0;
        }
        let sure = (sum / count).clamp(1.0 - SUREST, SUREST);
        weight * (sure / (1.0 - sure)).ln()
    }
}

/// Of one bit that is set with these log-odds, in bits.
fn entropy(log_odds: f64) -> f64 {
    let one = 1.0 / (1.0 + (-log_odds).exp());
    -[one, 1.0 - one].into_iter().filter(|p| *p > 0.0).map(|p| p * p.log2()).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use understudy_ident::{OutcomeId, Timestamp};

    use super::*;
    use crate::Target;

    fn said(source: Source, signal: Signal) -> Outcome {
        Outcome {
            id: OutcomeId::derived(&format!("{source:?} {signal:?}")),
            target: Target::Response("r".to_owned()),
            signal,
            source,
            at: Timestamp::from_millisecond(0).unwrap(),
            note: None,
            details: None,
        }
    }

    fn rated(value: f64) -> Outcome {
        said(Source::Explicit, Signal::Rating { value })
    }

    fn checked(score: f64) -> Outcome {
        said(Source::Automated, Signal::Verifier { name: "tests".to_owned(), score })
    }

    fn did(signal: Signal) -> Outcome {
        said(Source::Implicit, signal)
    }

    #[test]
    fn entropy_is_one_bit_where_nothing_is_known_and_crosses_its_limit_where_the_formula_says() {
        assert_eq!(entropy(0.0), 1.0);
        let at = |p: f64| entropy((p / (1.0 - p)).ln());
        assert!(at(0.683) > OPEN && at(0.685) < OPEN && at(0.317) > OPEN && at(0.315) < OPEN);
        assert!(entropy(1000.0) < 1e-9);
    }

    #[test]
    fn witnesses_that_balance_each_other_leave_it_open_and_one_that_outweighs_the_rest_does_not() {
        let open = |outcomes: &[Outcome]| RewardPolicy::DefaultV1.is_left_open(outcomes);
        assert!(open(&[rated(0.7), checked(0.3)]));
        assert!(open(&[rated(0.6), did(Signal::Abandon)]), "a weak word and weak behaviour");
        assert!(!open(&[rated(1.0), did(Signal::Abandon)]), "behaviour is weak");
        assert!(!open(&[rated(1.0), checked(0.4)]));
        assert!(!open(&[rated(0.7), checked(0.8)]), "they agree");
        assert!(!open(&[rated(0.5)]) && !open(&[rated(0.5), checked(0.6)]), "nobody is against it");
        // One witness who says two things has one opinion between them.
        assert!(!open(&[checked(1.0), checked(0.0)]));
        assert!(!open(&[]));
    }

    #[test]
    fn what_is_about_another_text_or_a_whole_attempt_is_no_evidence() {
        let edited = said(Source::Explicit, Signal::Edit { text: "better".to_owned() });
        let open = |outcomes: &[Outcome]| RewardPolicy::DefaultV1.is_left_open(outcomes);
        assert!(!open(&[edited, rated(0.7), checked(0.3)]));
        let mut whole = checked(0.3);
        whole.note = Some(Outcome::note_of_problem("p"));
        assert!(!open(&[rated(0.7), whole]));
    }

    /// A policy that counts behaviour only as far as it was found to tell takes it for no witness.
    #[test]
    fn behaviour_counts_for_as_much_as_the_policy_lets_it() {
        let outcomes = [rated(0.6), did(Signal::Abandon)];
        assert!(!RewardPolicy::CalibratedV1.is_left_open(&outcomes));
        assert!(RewardPolicy::CalibratedV1.is_left_open(&[rated(0.7), checked(0.3)]));
    }
}
