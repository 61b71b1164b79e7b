//! One step: a forward pass over everybody's next tokens, then a draw for each who has read all
//! it knows.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use understudy_inference::InferenceError;
use understudy_model::{AdapterRun, BaseModel, Batch, KvCache, Result, Tensor};
use understudy_team as team;

use crate::{sequence::Sequence, store::Generation, visit::Visit};

/// A sequence and how many of its pending tokens run now.
pub(crate) struct Member<'a, 'm> {
    pub(crate) sequence: &'a mut Sequence<'m>,
    pub(crate) rows: usize,
}

/// Advances every member, and a visit. When a step fails, each member runs alone, so that only those
/// fail that would have failed without the others; a visit does not go along again.
pub(crate) fn step(
    model: &BaseModel,
    members: &mut [Member<'_, '_>],
    mut visit: Option<&mut Visit>,
    logits: &mut Vec<f32>,
) {
    // Rows of one adapter lie together, so that each adapter is applied once.
    members.sort_by(|a, b| a.sequence.generation().cmp(&b.sequence.generation()));
    let vocab = model.decoder.config().vocab;
    let scored = || score(model, members, visit.as_deref_mut(), logits);
    let why = match catch_unwind(AssertUnwindSafe(scored)) {
        Ok(Ok(asking)) => return draw(members, &asking, logits, vocab),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "the model panicked".to_owned(),
    };
    match members {
        [alone] if visit.is_none() => alone.sequence.fail(InferenceError::Failed(why)),
        members => members.chunks_mut(1).for_each(|alone| step(model, alone, None, logits)),
    }
}

/// A member that asks for scores, and the place of the token they follow.
type Asking = (usize, usize);

/// Writes scores over the vocabulary, one row after the other, for those who ask. The rows of a visit
/// come last and ask for none.
fn score(
    model: &BaseModel,
    members: &mut [Member<'_, '_>],
    mut visit: Option<&mut Visit>,
    logits: &mut Vec<f32>,
) -> Result<Vec<Asking>> {
    let (mut batch, mut asking, mut asked_rows) = (Batch::default(), Vec::new(), Vec::new());
    let leases: Vec<Option<Arc<Generation>>> =
        members.iter().map(|member| member.sequence.lease()).collect();
    for (index, Member { sequence, rows }) in members.iter().enumerate() {
        let standing = sequence.standing();
        let chunk = standing.cached..standing.cached + rows;
        let span = batch.push(&sequence.tokens()[chunk], standing.cached);
        for place in sequence.asks(*rows) {
            asking.push((index, place));
            asked_rows.push((span.rows().start + place - standing.cached) as u32);
        }
    }
    let seats = visit.as_mut().map(|visit| visit.join(&mut batch, model)).transpose()?;
    let mut runs = adapter_runs(&batch, &leases);
    let mut caches: Vec<&mut KvCache> =
        members.iter_mut().filter_map(|member| member.sequence.cache_mut()).collect();
    if let (Some(visit), Some(rows)) = (&mut visit, seats.clone()) {
        let (run, of_texts) = visit.company(rows);
        runs.push(run);
        caches.extend(of_texts);
    }
    let hidden = model.decoder.infer(&batch, &mut caches, &runs)?;
    if let (Some(visit), Some(rows)) = (visit, seats) {
        visit.keep(&hidden.narrow(0, rows.start, rows.len())?)?;
    }
    if asked_rows.is_empty() {
        return Ok(asking);
    }
    let hidden = if asked_rows.len() == batch.rows() {
        hidden
    } else {
        let count = asked_rows.len();
        hidden.index_select(&Tensor::from_vec(asked_rows, count, hidden.device())?, 0)?
    };
    model.decoder.logits_into(&hidden, logits)?;
    Ok(asking)
}

/// One run for every stretch of rows under the same generation.
fn adapter_runs<'a>(batch: &Batch, leases: &'a [Option<Arc<Generation>>]) -> Vec<AdapterRun<'a>> {
    let digest = |lease: &'a Option<Arc<Generation>>| lease.as_ref().map(|one| one.digest.as_str());
    let mut runs: Vec<(Option<&str>, AdapterRun<'a>)> = Vec::new();
    for (span, lease) in batch.spans.iter().zip(leases) {
        match runs.last_mut() {
            Some((last, run)) if *last == digest(lease) => run.rows.end = span.rows().end,
            _ => {
                let lora = lease.as_ref().map(|lease| &lease.lora);
                runs.push((digest(lease), AdapterRun { rows: span.rows(), lora }));
            }
        }
    }
    runs.into_iter().map(|(_, run)| run).collect()
}

/// Lets everybody hear their scores. What is drawn depends on nobody else and is drawn on all
/// threads; what comes of it is told by this one, because whoever listens may keep it waiting.
fn draw(members: &mut [Member<'_, '_>], asking: &[Asking], logits: &[f32], vocab: usize) {
    let of = |nth: usize| &logits[nth * vocab..(nth + 1) * vocab];
    // Whoever asks does so in one stretch; only the last of it can be to draw a token.
    let is_last = |nth: usize| asking.get(nth + 1).is_none_or(|next| next.0 != asking[nth].0);
    for (nth, (member, place)) in asking.iter().enumerate() {
        if !is_last(nth) {
            members[*member].sequence.hear(*place, of(nth));
        }
    }
    let last: Vec<(usize, usize, usize)> = (0..asking.len())
        .filter(|nth| is_last(*nth))
        .map(|nth| (asking[nth].0, asking[nth].1, nth))
        .collect();
    team::each_item(members, |index, member| {
        if let Ok(found) = last.binary_search_by_key(&index, |(member, ..)| *member) {
            let (_, place, nth) = last[found];
            member.sequence.draw_ahead(place, of(nth));
        }
    });
    for (member, place, nth) in last {
        members[member].sequence.hear(place, of(nth));
    }
}
