//! What an adapter does to a few fixed texts, measured the same way by whoever writes and whoever
//! loads it: through the forward pass and the reading of a row that serving uses.

use understudy_ident::Digest;
use understudy_manifest::{Attestation, AttestedModule, AttestedProbe};

use crate::{
    base::BaseModel,
    batch::{AdapterRun, Batch},
    cache::{KvCache, KvDtype},
    error::Result,
    linear::Precision,
    logprob::token_log_prob,
    lora::{Lora, Slot},
};

/// Texts of several kinds, since an adapter may leave some of them as they were.
const TEXTS: [&str; 2] = [
    "The parcel has not arrived. What should I do now?",
    "{\"intent\": \"refund\", \"urgent\": true}",
];

/// Of each text. A probe has to be cheap enough to run beside live traffic.
const TOKENS: usize = 8;

/// Measures an adapter as its files hold it: one scale, a module's own folded into its B.
pub fn attest(base: &BaseModel, adapter: &Lora, generation: Digest) -> Result<Attestation> {
    let lora = adapter.folded();
    // As servers of this base read it.
    lora.prepare(base.precision);
    let tokens = TEXTS
        .iter()
        .map(|text| {
            let mut ids = base.tokenizer.encode(text)?;
            ids.truncate(TOKENS.min(base.decoder.config().max_positions));
            Ok(ids)
        })
        .collect::<Result<Vec<_>>>()?;
    let (plain, adapted) = (probe(base, None, &tokens)?, probe(base, Some(&lora), &tokens)?);
    let scored = tokens.into_iter().zip(plain).zip(adapted);
    Ok(Attestation {
        generation,
        rank: lora.rank(),
        scale: lora.scale(),
        precision: base.precision.into(),
        modules: lora.inventory(),
        probes: scored
            .map(|((tokens, base), adapted)| AttestedProbe { tokens, base, adapted })
            .collect(),
    })
}

/// log p(next token | those before) for every token of each text but its first.
pub fn probe(base: &BaseModel, lora: Option<&Lora>, texts: &[Vec<u32>]) -> Result<Vec<Vec<f32>>> {
    probe_in(base, lora, texts, KvDtype::F32)
}

/// The same over caches of another element type.
pub fn probe_in(
    base: &BaseModel,
    lora: Option<&Lora>,
    texts: &[Vec<u32>],
    dtype: KvDtype,
) -> Result<Vec<Vec<f32>>> {
    let decoder = &base.decoder;
    let mut batch = Batch::default();
    let mut caches = Vec::with_capacity(texts.len());
    for tokens in texts {
        batch.push(tokens, 0);
        caches.push(decoder.cache_in(dtype)?);
    }
    let mut lent: Vec<&mut KvCache> = caches.iter_mut().collect();
    let hidden = decoder.infer(&batch, &mut lent, &AdapterRun::whole(&batch, lora))?;
    let rows = decoder.logits(&hidden)?.to_vec2::<f32>()?;
    let score = |tokens: &Vec<u32>, start: usize| {
        let next = tokens.iter().skip(1).zip(&rows[start..]);
        next.map(|(token, row)| token_log_prob(row, *token, 1.0).0).collect()
    };
    Ok(texts.iter().zip(&batch.spans).map(|(tokens, span)| score(tokens, span.start)).collect())
}

impl Lora {
    /// Every adapted map with its shape and the norms of its two factors.
    pub fn inventory(&self) -> Vec<AttestedModule> {
        let module = |slot: &Slot| {
            let ((norm_a, norm_b), path) = (self.norms(slot), slot.path());
            AttestedModule { path, inputs: slot.inputs, outputs: slot.outputs, norm_a, norm_b }
        };
        self.layout().slots().iter().map(module).collect()
    }
}

impl From<Precision> for understudy_manifest::Precision {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self::F32,
            Precision::Bf16 => Self::Bf16,
            Precision::Q8 | Precision::Int8 => Self::Q8_0,
            Precision::Q4 | Precision::Int4 => Self::Q4_1,
        }
    }
}
