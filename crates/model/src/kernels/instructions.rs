//! How wide the processor's instructions may be.

use std::{fmt, str::FromStr, sync::OnceLock};

use crate::error::{ModelError, Result, refuse};

/// Kinds of instructions that loops are written for, each on top of those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Instructions {
    /// What every processor has.
    Plain,
    /// Vectors of 256 bits with fused multiply-add.
    Avx2,
    /// The dot product of bytes in vectors of 256 bits.
    AvxVnni,
    /// Vectors of 512 bits, with the dot products of bytes and of bf16 where there are any.
    Avx512,
    /// The matrix unit.
    Amx,
}

impl fmt::Display for Instructions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "plain",
            Self::Avx2 => "avx2",
            Self::AvxVnni => "avx-vnni",
            Self::Avx512 => "avx512",
            Self::Amx => "amx",
        })
    }
}

impl FromStr for Instructions {
    type Err = ModelError;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "plain" => Ok(Self::Plain),
            "avx2" => Ok(Self::Avx2),
            "avx-vnni" => Ok(Self::AvxVnni),
            "avx512" => Ok(Self::Avx512),
            "amx" => Ok(Self::Amx),
            _ => Err(refuse!(
                Device,
                "no instructions are called {name:?}: plain, avx2, avx-vnni, avx512, amx"
            )),
        }
    }
}

/// Weights are laid out for it, and so the first who asks settles it.
static WIDEST: OnceLock<Instructions> = OnceLock::new();

/// Lets products and attention use no wider instructions than these, to see what another processor
/// would do. Must be called before anything is laid out or multiplied.
pub fn limit_instructions(widest: Instructions) -> Result<()> {
    if *WIDEST.get_or_init(|| widest) == widest {
        Ok(())
    } else {
        Err(refuse!(Device, "instructions are limited before anything is multiplied or not at all"))
    }
}

/// Whether loops of this kind may run; whether the processor can is another question.
#[cfg(any(test, target_arch = "x86_64"))]
pub(super) fn allowed(kind: Instructions) -> bool {
    kind <= *WIDEST.get_or_init(|| Instructions::Amx)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_settled_stays() {
        let [avx2, amx] = ["avx2", "amx"].map(|name| name.parse().unwrap());
        assert!(allowed(amx), "nothing is limited unless somebody says so");
        assert!(limit_instructions(avx2).is_err(), "loops may have run already");
        assert!(limit_instructions(amx).is_ok() && allowed(amx) && avx2 < amx);
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_known_ones() {
        let error = "sse9".parse::<Instructions>().unwrap_err().to_string();
        assert!(error.contains("sse9") && error.contains("avx-vnni"), "{error}");
    }
}
