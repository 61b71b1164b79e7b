//! Whether an adapter does here what it did where it was made.
//!
//! What is compared, in this order: the base's digests; module by module shapes and norms; the
//! digest of the files; and log-probabilities of fixed texts, first without and then with the
//! adapter, so that a changed base is told from a changed adapter. An adapter from elsewhere says
//! nothing about itself: then it must bind, be finite, change something, and leave the model's
//! scores finite.

use std::{
    collections::BTreeMap,
    io::{self, Read as _},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use understudy_manifest::{AdapterManifest, Attestation, AttestedModule, AttestedProbe, Precision};
use understudy_model::{BaseModel, Lora, PeftFiles, open_regular, probe};
use understudy_team as team;

use crate::visit::{Door, Visit};

/// Norms are sums in f64 over the same f32 values, so they agree but for the order of adding up.
const NORM_TOLERANCE: f64 = 1e-6;

/// A manifest may not make loading arbitrarily slow.
const MOST_PROBE_TOKENS: usize = 256;

/// Bytes of a manifest that are read; one with every module of a large base has a hundredth.
const LONGEST_MANIFEST: u64 = 16 << 20;

/// Enough rows to tell a number from an overflow; every vocabulary has these ids.
const CANARY: [u32; 4] = [0, 1, 2, 3];

/// How far the mean |Δ log p| of a probe may be from what was attested, in nats per token. Rounding
/// of one precision on processors of several kinds stays far below the first; a base in fewer bits
/// scores a text differently by itself, which the others allow for. Where base and base differ in
/// precision, so does what an adapter was trained on: one trained in bf16 was seen 0.09 off in f32.
pub(crate) fn tolerance(attested: Precision, here: Precision) -> f32 {
    let of = |precision| match precision {
        Precision::F32 => 2e-3,
        Precision::Bf16 if attested == here => 0.05,
        Precision::Q8_0 if attested == here => 0.1,
        Precision::Bf16 | Precision::Q8_0 | Precision::Q4_1 => 0.15,
    };
    f32::max(of(attested), of(here))
}

#[derive(Debug)]
pub(crate) struct Verifier {
    model: Arc<BaseModel>,
    /// What the base says to texts that adapters of one origin all name.
    base_scores: Mutex<BTreeMap<Vec<u32>, Vec<f32>>>,
}

impl Verifier {
    pub(crate) fn new(model: Arc<BaseModel>) -> Self {
        Self { model, base_scores: Mutex::default() }
    }

    /// The adapter of these files and its digest, or the one reason it is not served.
    pub(crate) fn verify<'d>(
        &self,
        directory: &Path,
        files: PeftFiles,
        company: impl Fn() -> Option<&'d Door>,
    ) -> Result<(String, Lora), String> {
        let manifest = team::once(|| self.lineage(directory))?;
        let config = self.model.decoder.config();
        let adapter = files.parse(directory, config).map_err(|error| error.to_string())?;
        drop(files);
        let mut lora = adapter.lora;
        lora.prepare(self.model.precision);
        let factors = || lora.tensors().filter(|(place, _)| place.is_b);
        if factors().all(|(_, b)| b.iter().all(|value| *value == 0.0)) {
            let modules = factors().count();
            return Err(format!(
                "B is zero in all {modules} modules, so it changes nothing; train it first"
            ));
        }
        match manifest.and_then(|manifest| manifest.attestation) {
            Some(attestation) => {
                check_inventory(&lora, &attestation)?;
                let attested = attestation.generation.to_hex();
                if adapter.digest != attested {
                    return Err(format!(
                        "its files have digest {:.12}… and were written with {attested:.12}…: \
                         they were changed since",
                        adapter.digest
                    ));
                }
                lora = self.check_probes(lora, &attestation, company())?;
            }
            None => self.check_finite(&lora)?,
        }
        Ok((adapter.digest, lora))
    }

    /// What an adapter says about itself, if it says that it was made for this base. One from
    /// elsewhere says nothing.
    pub(crate) fn lineage(&self, directory: &Path) -> Result<Option<AdapterManifest>, String> {
        let Some(manifest) = manifest(directory)? else { return Ok(None) };
        let ours = &self.model.digests;
        for (what, trained, here) in [
            ("base weights", &manifest.base_digest, &ours.base),
            ("tokenizer", &manifest.tokenizer_digest, &ours.tokenizer),
            ("chat template", &manifest.template_digest, &ours.template),
        ] {
            if trained != here {
                return Err(format!(
                    "it was trained on other {what} ({} {trained:.12}…, here {here:.12}…)",
                    manifest.base
                ));
            }
        }
        Ok(Some(manifest))
    }

    fn check_probes(
        &self,
        lora: Lora,
        attestation: &Attestation,
        company: Option<&Door>,
    ) -> Result<Lora, String> {
        let here = Precision::from(self.model.precision);
        let most = tolerance(attestation.precision, here);
        let texts = self.probe_texts(&attestation.probes)?;
        let base = self.base_scores(&texts)?;
        let compare = |what: &str,
                       attested: &dyn Fn(&AttestedProbe) -> Vec<f32>,
                       here: &[Vec<f32>]| {
            for (number, (probe, here)) in attestation.probes.iter().zip(here).enumerate() {
                let difference = mean_difference(&attested(probe), here);
                // A difference that is no number is within nothing.
                let agrees = difference <= most;
                if !agrees {
                    let (number, precision) = (number + 1, attestation.precision);
                    return Err(format!(
                        "probe {number} {what} is off by {difference:.4} nats per token; {most} \
                         are allowed for a base attested in {precision:?} and held in {:?}",
                        Precision::from(self.model.precision)
                    ));
                }
            }
            Ok(())
        };
        compare("without the adapter", &|probe| probe.base.clone(), &base)?;
        let agrees = |adapted: &[Vec<f32>]| {
            compare("with the adapter", &|probe| probe.adapted.clone(), adapted)
        };
        let (mut lora, adapted) = self.scores(lora, &texts, company)?;
        if lora.is_rounded() && agrees(&adapted).is_err() {
            // Far from what a model was trained on, rounding an adapter moves its scores by as much
            // as a fault does, and whoever attested these may have read all bits of it.
            lora = lora.unrounded();
            let (lora, adapted) = self.scores(lora, &texts, company)?;
            return agrees(&adapted).map(|()| lora);
        }
        agrees(&adapted).map(|()| lora)
    }

    /// What an adapter says to some texts: in steps of others if there are any, else by itself.
    fn scores(
        &self,
        mut lora: Lora,
        texts: &[Vec<u32>],
        company: Option<&Door>,
    ) -> Result<(Lora, Vec<Vec<f32>>), String> {
        if let Some(door) = company {
            let visit = visit(door, Visit::new(lora, texts, self.model.rows_at_once()));
            let visit = visit.ok_or("the engine has ended")?;
            if visit.is_over() {
                return visit.into_scores(&self.model).map_err(|error| error.to_string());
            }
            lora = visit.into_lora();
        }
        let scores = probe(&self.model, Some(&lora), texts).map_err(|error| error.to_string())?;
        Ok((lora, scores))
    }

    fn probe_texts(&self, probes: &[AttestedProbe]) -> Result<Vec<Vec<u32>>, String> {
        let config = self.model.decoder.config();
        let total: usize = probes.iter().map(|probe| probe.tokens.len()).sum();
        let well_formed = |probe: &AttestedProbe| {
            let scored = probe.tokens.len().saturating_sub(1);
            scored > 0
                && scored < config.max_positions
                && (probe.base.len(), probe.adapted.len()) == (scored, scored)
                && probe.tokens.iter().all(|token| (*token as usize) < config.vocab)
        };
        if probes.is_empty() || total > MOST_PROBE_TOKENS || !probes.iter().all(well_formed) {
            return Err(format!(
                "its manifest attests {} probes of {total} tokens that do not fit the base, do not \
                 match their scores, or are more than {MOST_PROBE_TOKENS} tokens",
                probes.len()
            ));
        }
        Ok(probes.iter().map(|probe| probe.tokens.clone()).collect())
    }

    /// What the base alone says, computed once for texts that come again and again.
    fn base_scores(&self, texts: &[Vec<u32>]) -> Result<Vec<Vec<f32>>, String> {
        let mut known = self.base_scores.lock().unwrap_or_else(PoisonError::into_inner);
        if texts.iter().any(|text| !known.contains_key(text)) {
            let scores = probe(&self.model, None, texts).map_err(|error| error.to_string())?;
            known.clear();
            known.extend(texts.iter().cloned().zip(scores));
        }
        Ok(texts.iter().map(|text| known[text].clone()).collect())
    }

    fn check_finite(&self, lora: &Lora) -> Result<(), String> {
        let scores = probe(&self.model, Some(lora), &[CANARY.to_vec()]);
        let scores = scores.map_err(|error| error.to_string())?;
        match scores.iter().flatten().find(|score| !score.is_finite()) {
            None => Ok(()),
            Some(score) => Err(format!(
                "with it the model's scores are not finite: a log-probability is {score}"
            )),
        }
    }
}

fn manifest(directory: &Path) -> Result<Option<AdapterManifest>, String> {
    let path = directory.join(AdapterManifest::FILE);
    let mut text = String::new();
    let read =
        open_regular(&path).and_then(|file| file.take(LONGEST_MANIFEST).read_to_string(&mut text));
    match read {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("could not read {}: {error}", path.display())),
    }
    serde_json::from_str(&text)
        .map(Some)
        .map_err(|error| format!("{} is not an adapter manifest: {error}", path.display()))
}

fn check_inventory(lora: &Lora, attestation: &Attestation) -> Result<(), String> {
    let (rank, scale) = (lora.rank(), lora.scale());
    if rank != attestation.rank || scale != attestation.scale {
        return Err(format!(
            "it has rank {rank} and scale {scale}, and was attested with rank {} and scale {}",
            attestation.rank, attestation.scale
        ));
    }
    let found = lora.inventory();
    let paths = |modules: &[AttestedModule]| -> Vec<String> {
        modules.iter().map(|module| module.path.clone()).collect()
    };
    let (bound, attested) = (paths(&found), paths(&attestation.modules));
    if bound != attested {
        let lost = attested.iter().find(|path| !bound.contains(path));
        let extra = bound.iter().find(|path| !attested.contains(path));
        let (bound, attested) = (bound.len(), attested.len());
        return Err(format!(
            "{bound} modules bind and {attested} were attested (missing: {}; not attested: {})",
            lost.map_or("none", String::as_str),
            extra.map_or("none", String::as_str)
        ));
    }
    for (module, attested) in found.iter().zip(&attestation.modules) {
        let AttestedModule { path, inputs, outputs, .. } = module;
        if (*inputs, *outputs) != (attested.inputs, attested.outputs) {
            return Err(format!(
                "{path} maps {inputs} to {outputs}, and was attested to map {} to {}",
                attested.inputs, attested.outputs
            ));
        }
        for (side, norm, attested) in
            [("A", module.norm_a, attested.norm_a), ("B", module.norm_b, attested.norm_b)]
        {
            let agrees = (norm - attested).abs() <= NORM_TOLERANCE * attested.abs().max(norm);
            if !agrees {
                return Err(format!("{side} of {path} has norm {norm}, attested was {attested}"));
            }
        }
    }
    Ok(())
}

/// Has texts scored, a few tokens with every step, until they are over or a step goes without them.
fn visit(door: &Door, mut visit: Visit) -> Option<Visit> {
    loop {
        let before = visit.left();
        visit = door.visit(visit)?;
        if visit.is_over() || visit.left() == before {
            return Some(visit);
        }
    }
}

fn mean_difference(attested: &[f32], here: &[f32]) -> f32 {
    let differences = attested.iter().zip(here).map(|(attested, here)| (attested - here).abs());
    differences.sum::<f32>() / attested.len() as f32
}
