//! The loss of one pair, by name.

use understudy_manifest::{PreferenceLoss, PreferenceSettings};

use crate::logistic::{log1m_exp, neg_log_sigmoid, sigmoid};

/// The odds of a reply of probability 1 are infinite. Its mean log-probability is taken to be at
/// most this, which is as close to 0 as an `f32` log-probability is trusted to be.
const CERTAIN: f64 = -1e-7;

/// Log-probabilities of a pair's replies, each summed over its tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PairScores {
    /// c
    pub chosen: f64,
    /// r
    pub rejected: f64,
    /// c₀; 0 for a loss without a reference.
    pub chosen_reference: f64,
    /// r₀; 0 for a loss without a reference.
    pub rejected_reference: f64,
    /// |c|, at least 1
    pub chosen_tokens: f64,
    /// |r|, at least 1
    pub rejected_tokens: f64,
}

impl PairScores {
    /// ORPO's `(c̄ − r̄) − (log(1 − e^c̄) − log(1 − e^r̄))`, with c̄ and r̄ per token.
    pub(super) fn log_odds(&self) -> f64 {
        let (chosen, rejected) = self.held_means();
        (chosen - rejected) - (log1m_exp(chosen) - log1m_exp(rejected))
    }

    fn held_means(&self) -> (f64, f64) {
        let chosen = self.chosen / self.chosen_tokens;
        let rejected = self.rejected / self.rejected_tokens;
        (chosen.min(CERTAIN), rejected.min(CERTAIN))
    }
}

/// One pair's loss and its derivatives by the two summed log-probabilities of the policy.
///
/// With `C = c − c₀`, `R = r − r₀`, `Δ = C − R`, `u = βΔ` and label smoothing ε:
///
/// | loss | formula |
/// | --- | --- |
/// | `sigmoid` | `−log σ(u)` |
/// | `cdpo` | `−(1−ε) log σ(u) − ε log σ(−u)` |
/// | `robust` | `(−(1−ε) log σ(u) + ε log σ(−u)) / (1−2ε)` |
/// | `hinge` | `max(0, 1 − u)` |
/// | `ipo` | `(C/\|c\| − R/\|r\| − 1/(2β))²` |
/// | `sigmoid_norm` | `−log σ(β(C/\|c\| − R/\|r\|))` |
/// | `apo_zero` | `1 − σ(βC) + σ(βR)` |
/// | `apo_down` | `σ(βC) + 1 − σ(u)` |
/// | `bco_pair` | `−log σ(βC) − log σ(−βR)` |
/// | `nca_pair` | `−log σ(βC) − ½ log σ(−βC) − ½ log σ(−βR)` |
/// | `sppo_hard` | `(C − 1/(2β))² + (R + 1/(2β))²` |
/// | `exo_pair` | `σ(u)(log σ(u) − log(1−ε)) + σ(−u)(log σ(−u) − log ε)` |
/// | `discopop` | `(1−s)(−log σ(u)) + s·e⁻ᵘ` with `s = σ(u/τ)` |
/// | `simpo` | `cdpo` of `β(c/\|c\| − r/\|r\|) − γ` |
/// | `cpo` | `cdpo` of `β(c − r)` |
/// | `orpo` | `−β log σ(log odds)` |
///
/// Source of names and signs: TRL's DPO, CPO and ORPO trainers; the papers are named there. TRL
/// adds to CPO and ORPO the imitation of prompt and reply; here it is of the reply alone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PairLoss {
    pub loss: f64,
    /// `∂loss/∂c`
    pub by_chosen: f64,
    /// `∂loss/∂r`
    pub by_rejected: f64,
}

impl PairLoss {
    pub fn of(settings: &PreferenceSettings, scores: &PairScores) -> Self {
        use PreferenceLoss as Loss;
        let (beta, smoothing) = (settings.beta, settings.label_smoothing);
        let chosen = scores.chosen - scores.chosen_reference;
        let rejected = scores.rejected - scores.rejected_reference;
        let by_sum = Margin { value: chosen - rejected, by_chosen: 1.0, by_rejected: -1.0 };
        let by_mean = Margin {
            value: chosen / scores.chosen_tokens - rejected / scores.rejected_tokens,
            by_chosen: 1.0 / scores.chosen_tokens,
            by_rejected: -1.0 / scores.rejected_tokens,
        };
        match settings.loss {
            Loss::Sigmoid => by_sum.scaled(beta).through(|u| smoothed(u, 0.0)),
            Loss::Cdpo | Loss::Cpo => by_sum.scaled(beta).through(|u| smoothed(u, smoothing)),
            Loss::Robust => by_sum.scaled(beta).through(|u| robust(u, smoothing)),
            Loss::Hinge => by_sum.scaled(beta).through(hinge),
            Loss::Ipo => by_mean.through(|u| square(u - 0.5 / beta)),
            Loss::SigmoidNorm => by_mean.scaled(beta).through(|u| smoothed(u, 0.0)),
            Loss::ExoPair => by_sum.scaled(beta).through(|u| exo(u, smoothing)),
            Loss::Discopop => by_sum.scaled(beta).through(|u| discopop(u, settings.discopop_tau)),
            Loss::Simpo => {
                by_mean.scaled(beta).through(|u| smoothed(u - settings.gamma, smoothing))
            }
            Loss::Orpo => orpo(beta, scores),
            Loss::ApoZero => each(
                scaled(beta, chosen, |x| falling(sigmoid_of(x))),
                scaled(beta, rejected, sigmoid_of),
            ),
            Loss::ApoDown => {
                let pair = by_sum.scaled(beta).through(|u| falling(sigmoid_of(u)));
                pair.plus(each(scaled(beta, chosen, sigmoid_of), (0.0, 0.0)))
            }
            Loss::BcoPair => each(
                scaled(beta, chosen, |x| smoothed(x, 0.0)),
                scaled(beta, rejected, |x| smoothed(x, 1.0)),
            ),
            Loss::NcaPair => {
                let (lost, by_rejected) = scaled(beta, rejected, |x| smoothed(x, 1.0));
                let chosen = scaled(beta, chosen, |x| {
                    let (up, down) = (smoothed(x, 0.0), smoothed(x, 1.0));
                    (up.0 + 0.5 * down.0, up.1 + 0.5 * down.1)
                });
                each(chosen, (0.5 * lost, 0.5 * by_rejected))
            }
            Loss::SppoHard => each(square(chosen - 0.5 / beta), square(rejected + 0.5 / beta)),
        }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            loss: self.loss + other.loss,
            by_chosen: self.by_chosen + other.by_chosen,
            by_rejected: self.by_rejected + other.by_rejected,
        }
    }
}

/// A number that compares the two sides, and its derivatives by c and r.
#[derive(Clone, Copy)]
struct Margin {
    value: f64,
    by_chosen: f64,
    by_rejected: f64,
}

impl Margin {
    fn scaled(self, by: f64) -> Self {
        Self {
            value: by * self.value,
            by_chosen: by * self.by_chosen,
            by_rejected: by * self.by_rejected,
        }
    }

    /// Applies a function that gives its value and its derivative.
    fn through(self, function: impl Fn(f64) -> (f64, f64)) -> PairLoss {
        let (loss, slope) = function(self.value);
        PairLoss { loss, by_chosen: slope * self.by_chosen, by_rejected: slope * self.by_rejected }
    }
}

/// The sum of a loss of the chosen side and one of the rejected side, each `(value, derivative)`.
fn each(chosen: (f64, f64), rejected: (f64, f64)) -> PairLoss {
    PairLoss { loss: chosen.0 + rejected.0, by_chosen: chosen.1, by_rejected: rejected.1 }
}

/// `f(βx)` and its derivative by x.
fn scaled(beta: f64, x: f64, function: impl Fn(f64) -> (f64, f64)) -> (f64, f64) {
    let (value, slope) = function(beta * x);
    (value, beta * slope)
}

/// `−(1−ε) log σ(u) − ε log σ(−u)`; with ε = 0 the logistic loss, with ε = 1 its mirror image.
fn smoothed(u: f64, epsilon: f64) -> (f64, f64) {
    let loss = (1.0 - epsilon) * neg_log_sigmoid(u) + epsilon * neg_log_sigmoid(-u);
    (loss, epsilon * sigmoid(u) - (1.0 - epsilon) * sigmoid(-u))
}

fn robust(u: f64, epsilon: f64) -> (f64, f64) {
    let loss = (1.0 - epsilon) * neg_log_sigmoid(u) - epsilon * neg_log_sigmoid(-u);
    let slope = -(1.0 - epsilon) * sigmoid(-u) - epsilon * sigmoid(u);
    (loss / (1.0 - 2.0 * epsilon), slope / (1.0 - 2.0 * epsilon))
}

fn hinge(u: f64) -> (f64, f64) {
    if u < 1.0 { (1.0 - u, -1.0) } else { (0.0, 0.0) }
}

fn square(x: f64) -> (f64, f64) {
    (x * x, 2.0 * x)
}

fn sigmoid_of(u: f64) -> (f64, f64) {
    (sigmoid(u), sigmoid(u) * sigmoid(-u))
}

/// One minus a function.
fn falling((value, slope): (f64, f64)) -> (f64, f64) {
    (1.0 - value, -slope)
}

/// The divergence of `(σ(u), σ(−u))` from the smoothed label `(1−ε, ε)`.
fn exo(u: f64, epsilon: f64) -> (f64, f64) {
    let (win, lose) = (sigmoid(u), sigmoid(-u));
    let surplus = -neg_log_sigmoid(u) - (-epsilon).ln_1p();
    let deficit = -neg_log_sigmoid(-u) - epsilon.ln();
    (win * surplus + lose * deficit, win * lose * (surplus - deficit))
}

/// `s·e⁻ᵘ` is one exponential of a sum, because `0·∞` is what its factors make for very negative u.
fn discopop(u: f64, tau: f64) -> (f64, f64) {
    let (s, t) = (sigmoid(u / tau), sigmoid(-u / tau));
    let logistic = neg_log_sigmoid(u);
    let exponential = (-u - neg_log_sigmoid(u / tau)).exp();
    let slope = -t * sigmoid(-u) - exponential + t / tau * (exponential - s * logistic);
    (t * logistic + exponential, slope)
}

/// `d log_odds/dc̄ = 1 + e^c̄/(1 − e^c̄) = 1/(1 − e^c̄)`, and minus the same of r̄.
fn orpo(beta: f64, scores: &PairScores) -> PairLoss {
    let (chosen, rejected) = scores.held_means();
    let odds = scores.log_odds();
    let slope = -beta * sigmoid(-odds);
    PairLoss {
        loss: beta * neg_log_sigmoid(odds),
        by_chosen: slope / -chosen.exp_m1() / scores.chosen_tokens,
        by_rejected: -slope / -rejected.exp_m1() / scores.rejected_tokens,
    }
}
