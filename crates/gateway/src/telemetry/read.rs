//! A body, read no faster than there is room for it.

use axum::{
    body::{Body, BodyDataStream, Bytes},
    http::{HeaderMap, header},
};
use tokio_stream::StreamExt;
use understudy_intake::{Intake, Room};

use super::{answer::Refusal, text};
use crate::server::is_slow;

/// Room is taken for this much at a time where no length is told.
const STEP: usize = 64 << 10;

/// The longest body that is read to its end, though not kept, so that its sender, who does not
/// listen while sending, learns why it was refused.
const PATIENCE: usize = 64 << 20;

/// The body and the room it takes. One that is too long, or for which there is no room, is kept no
/// longer than until that is known.
pub(super) async fn read(
    intake: &Intake,
    headers: &HeaderMap,
    body: Body,
) -> Result<(Vec<u8>, Room), Refusal> {
    let mut parts = body.into_data_stream();
    let read = keep(intake, headers, &mut parts).await;
    let mut passed = 0;
    while read.is_err() && passed < PATIENCE {
        let Some(Ok(part)) = parts.next().await else { break };
        passed += part.len();
    }
    read
}

async fn keep(
    intake: &Intake,
    headers: &HeaderMap,
    parts: &mut BodyDataStream,
) -> Result<(Vec<u8>, Room), Refusal> {
    let limit = intake.limits().body_bytes;
    let told = text(headers, header::CONTENT_LENGTH.as_str()).and_then(|text| text.parse().ok());
    if told.is_some_and(|told: usize| told > limit) {
        return Err(Refusal::too_large(limit));
    }
    let mut taken = told.unwrap_or(STEP);
    let mut room = intake.room(taken)?;
    let mut kept = Vec::with_capacity(told.unwrap_or(0));
    while let Some(part) = parts.next().await {
        let part: Bytes = part.map_err(|why| {
            let status = if is_slow(&why) { 408 } else { 400 };
            Refusal { status, ..Refusal::invalid(format!("the body broke off: {why}")) }
        })?;
        let size = kept.len() + part.len();
        if size > limit {
            return Err(Refusal::too_large(limit));
        }
        if size > taken {
            let more = (size - taken).max(STEP);
            room.grow(more)?;
            taken += more;
        }
        kept.extend_from_slice(&part);
    }
    Ok((kept, room))
}
