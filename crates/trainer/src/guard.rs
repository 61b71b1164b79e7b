//! Refuses to train when a tensor would silently stay as it is.
//!
//! An operation without a backward pass does not fail, it just yields no gradient; and an adapter
//! of which one half never moves still lowers the loss. So the first gradient of every run is
//! looked at, tensor by tensor.

use understudy_model::{Lora, LoraGrads};

use crate::error::{Result, TrainError};

/// Every tensor's gradient must be finite, and not all zero, except A's while its B is zero: the
/// adapter's output does not depend on A yet.
pub(crate) fn check(lora: &Lora, grads: &LoraGrads) -> Result<()> {
    for (parameter, gradient) in grads.tensors() {
        let broken =
            |what| Err(TrainError::BrokenGradient { tensor: parameter.name.clone(), what });
        if gradient.iter().any(|value| !value.is_finite()) {
            return broken("a gradient that is not finite");
        }
        let depends = parameter.is_b || partner_moves(lora, parameter.layer, parameter.module);
        if depends && gradient.iter().all(|value| *value == 0.0) {
            return broken("no gradient");
        }
    }
    Ok(())
}

fn partner_moves(lora: &Lora, layer: usize, module: understudy_model::Module) -> bool {
    lora.tensors().any(|(other, values)| {
        other.is_b
            && other.layer == layer
            && other.module == module
            && values.iter().any(|value| *value != 0.0)
    })
}

#[cfg(test)]
mod tests {
    use understudy_model::{Family, LoraSpec, ModelConfig};

    use super::*;

    fn fresh() -> Lora {
        let config = ModelConfig::tiny(Family::Llama);
        Lora::init(&config, &LoraSpec { rank: 2, ..LoraSpec::standard() }, 1).unwrap()
    }

    /// A gradient of ones for every tensor `moves` accepts, else zeros.
    fn gradient(lora: &Lora, moves: impl Fn(&str) -> bool) -> LoraGrads {
        let mut grads = lora.zero_grads();
        for parameter in lora.layout().parameters() {
            if moves(&parameter.name) {
                grads.values_mut()[parameter.range.clone()].fill(1.0);
            }
        }
        grads
    }

    fn refusal(lora: &Lora, grads: &LoraGrads) -> String {
        check(lora, grads).unwrap_err().to_string()
    }

    #[test]
    fn a_fresh_adapter_needs_a_gradient_for_every_b_but_no_a() {
        let lora = fresh();
        check(&lora, &gradient(&lora, |name| name.ends_with("lora_B"))).unwrap();
        let missing = "layers.1.mlp.down_proj.lora_B";
        let text = refusal(&lora, &gradient(&lora, |name| name != missing));
        assert!(text.contains(missing), "{text}");
    }

    #[test]
    fn once_b_moved_its_a_must_move_too() {
        let mut lora = fresh();
        lora.values_mut().fill(0.5);
        check(&lora, &gradient(&lora, |_| true)).unwrap();
        let missing = "layers.0.self_attn.k_proj.lora_A";
        let text = refusal(&lora, &gradient(&lora, |name| name != missing));
        assert!(text.contains(missing), "{text}");
    }

    #[test]
    fn a_gradient_that_is_not_finite_names_its_tensor() {
        let lora = fresh();
        let mut grads = gradient(&lora, |_| true);
        let parameter = lora.layout().parameters()[3].clone();
        grads.values_mut()[parameter.range.start] = f32::NAN;
        let text = refusal(&lora, &grads);
        assert!(text.contains(&parameter.name) && text.contains("not finite"), "{text}");
    }
}
