//! What is taken, and what is refused and why.

use rand::SeedableRng;
use understudy_capture::Capture;

use super::*;

#[test]
fn a_broken_span_is_counted_and_the_others_are_kept() {
    let home = Home::new();
    let good = call(1, 1, 1, &["q".into(), "a".into()], json!({}));
    let mut bad = good.clone();
    bad["traceId"] = json!("00");
    let received = home.send(&traces(&[good, bad]));
    assert_eq!((received.decoded.items.len(), received.decoded.rejected.len()), (1, 1));
    home.read();
    assert_eq!(home.trajectories().len(), 1);
}

#[test]
fn nothing_is_stored_of_nothing_or_of_what_cannot_be_read() {
    let home = Home::new();
    assert!(home.send(&("otlp-traces", b"{}".to_vec())).decoded.items.is_empty());
    let refused = [
        home.try_send(("otlp-traces", b"[")),
        home.try_send(("langsmith-multipart", b"--x--")),
        home.try_send(("surprise", b"{}")),
    ];
    for refused in refused {
        refused.unwrap_err();
    }
    assert_eq!(home.journal.counts().unwrap().bodies, 0);
    assert_eq!(home.read(), Progress::default());
}

#[test]
fn a_receiver_that_is_full_says_so_until_there_is_room() {
    let home = Home::new();
    let limits = Limits { body_bytes: 100, waiting_bytes: 100 };
    let intake = Intake::new(home.journal.clone(), limits);
    let mut room = intake.room(60).unwrap();
    assert!(matches!(intake.room(41), Err(IntakeError::Full { waiting: 60, limit: 100 })));
    room.grow(40).unwrap();
    room.grow(1).unwrap_err();
    drop(room);
    intake.room(100).unwrap();
}

#[test]
fn a_body_is_forgotten_only_after_it_was_read() {
    let mut random = ChaCha8Rng::seed_from_u64(3);
    let home = Home::new();
    home.send_all(&world(&mut random));
    let waiting = home.journal.unread().unwrap();
    assert!(waiting.bodies > 0 && waiting.oldest.is_some());
    assert_eq!(home.intake.expire(Timestamp::MAX).unwrap(), 0);
    home.read();
    assert_eq!(home.journal.unread().unwrap().bodies, 0);
    let text = home.text();
    assert_eq!(home.intake.expire(Timestamp::MIN).unwrap(), 0);
    assert_eq!(home.intake.expire(Timestamp::MAX).unwrap() as u64, waiting.bodies);
    home.read();
    assert_eq!(home.text(), text, "what was made of them stays");
}

#[test]
fn an_image_is_kept_once_outlives_its_body_and_goes_with_its_subject() {
    let home = Home::new();
    let image = json!({"type": "blob", "mime_type": "image/png", "content": "AQID"});
    let seen = json!([{"role": "user", "parts": [{"type": "text", "content": "look"}, image]}]);
    let spans = [1, 2].map(|n| {
        let more = json!({
            "gen_ai.input.messages": seen.to_string(), "user.id": "ada",
            "gen_ai.conversation.id": "s", "gen_ai.response.id": format!("resp-{n}"),
        });
        call(1, n, u64::from(n), &["look".into(), format!("a cat {n}")], more)
    });
    home.send(&traces(&spans));
    home.read();
    let text = home.text();
    assert!(text.contains(r#""mime":"image/png""#) && !text.contains("AQID"), "{text}");
    let digest = understudy_ident::Digest::of(&[1, 2, 3]);
    assert!(text.contains(&digest.to_string()), "{text}");
    assert_eq!(home.intake.expire(Timestamp::MAX).unwrap(), 1);
    assert_eq!(home.journal.media(&digest).unwrap(), Some(vec![1, 2, 3]));
    assert_eq!(home.journal.erase("ada", &[]).unwrap().media, 1);
    assert_eq!(home.journal.media(&digest).unwrap(), None);
}

/// What was sent, as far as anything in the journal tells it again.
fn told(home: &Home) -> String {
    let bodies = home.journal.bodies(0, usize::MAX >> 1).unwrap();
    let raw = bodies.into_iter().filter_map(|one| one.raw);
    let raw = raw.map(|raw| String::from_utf8_lossy(&raw.body).into_owned()).collect::<String>();
    raw + &home.text()
}

#[test]
fn what_a_level_does_not_keep_is_in_no_body_and_in_nothing_made_of_one() {
    let said = ["a quokka for a@x.example".to_owned(), "which quokka".to_owned()];
    let span = call(1, 1, 1, &said, json!({"gen_ai.response.id": "resp-1"}));
    let comment = json!({
        "id": "c", "traceId": format!("{:032x}", 1), "name": "liked", "value": 1.0,
        "comment": "this quokka", "timestamp": "2026-01-01T00:00:00Z",
    });
    let send = |level| {
        let home = Home::new();
        home.intake.capture_at(level);
        let traces = home.send(&traces(std::slice::from_ref(&span)));
        let scores = home.send(&("langfuse-scores", comment.to_string().into_bytes()));
        home.read();
        (told(&home), traces.decoded.rejected.len(), scores.decoded.rejected.len(), home)
    };
    let (full, rejected, _, home) = send(Capture::Full);
    assert!(full.contains("quokka for a@x.example") && rejected == 0, "{full}");
    assert_eq!(home.trajectories().len(), 1);

    let (redacted, rejected, _, home) = send(Capture::Redacted);
    assert!(redacted.contains("quokka for <EMAIL>") && rejected == 0, "{redacted}");
    assert!(!redacted.contains("a@x.example"), "{redacted}");
    assert_eq!(home.trajectories()[0].steps[0].outcomes.len(), 1, "the score finds its step");

    let (metadata, rejected, scores, home) = send(Capture::Metadata);
    assert!(!metadata.contains("quokka") && metadata.contains("liked"), "{metadata}");
    assert_eq!((rejected, scores), (1, 0), "the sender is told of what is not kept");
    assert_eq!(home.journal.counts().unwrap().bodies, 1);

    let home = Home::new();
    home.intake.capture_at(Capture::None);
    let (payload, body) = traces(std::slice::from_ref(&span));
    assert!(matches!(home.try_send((payload, &body)), Err(IntakeError::NotKept)));
    assert_eq!(told(&home), "[]");
}

/// Masked in two requests, a turn is still the beginning of the next.
#[test]
fn a_conversation_is_stitched_together_from_redacted_parts() {
    let home = Home::new();
    home.intake.capture_at(Capture::Redacted);
    let mut said =
        ["first b@x.example, then a@x.example", "to a@x.example"].map(str::to_owned).to_vec();
    home.send(&traces(&[call(1, 1, 1, &said, json!({}))]));
    said.extend(["and b@x.example?", "to b@x.example"].map(str::to_owned));
    home.send(&traces(&[call(2, 2, 2, &said, json!({}))]));
    home.read();
    assert_eq!(home.trajectories().len(), 1);
    assert!(!told(&home).contains("@x.example"));
}
