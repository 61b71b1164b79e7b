//! Replies that come near the length limit, or hit it.

/// DAPO's soft punishment, added to the reward of a reply of `tokens` under a limit of `limit`:
/// 0 up to `limit − buffer`, from there falling in a line to −1 at the limit, and −1 beyond.
pub fn penalty(tokens: usize, limit: usize, buffer: usize) -> f64 {
    let allowed = limit.saturating_sub(buffer);
    if tokens > limit {
        -1.0
    } else if tokens <= allowed {
        0.0
    } else {
        -((tokens - allowed) as f64) / (limit - allowed) as f64
    }
}

/// Overlong filtering: a reply that was cut off by the limit teaches nothing about how to end, so
/// none of its tokens is trained. Its reward still belongs to the baseline of its group.
pub fn mask_truncated(mask: &mut [bool], is_truncated: bool) {
    if is_truncated {
        mask.fill(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_penalty_is_a_ramp_between_two_plateaus() {
        let lengths = [70, 80, 85, 95, 100, 101];
        let penalties = lengths.map(|tokens| penalty(tokens, 100, 20));
        assert_eq!(penalties, [0.0, 0.0, -0.25, -0.75, -1.0, -1.0]);
    }

    #[test]
    fn without_a_buffer_it_is_a_step_and_a_buffer_beyond_the_limit_starts_at_zero() {
        assert_eq!([penalty(100, 100, 0), penalty(101, 100, 0)], [0.0, -1.0]);
        assert_eq!(
            [penalty(0, 10, 20), penalty(5, 10, 20), penalty(10, 10, 20)],
            [0.0, -0.5, -1.0]
        );
    }

    #[test]
    fn a_truncated_reply_loses_its_mask_and_another_keeps_it() {
        let mut mask = [true, false, true];
        mask_truncated(&mut mask, false);
        assert_eq!(mask, [true, false, true]);
        mask_truncated(&mut mask, true);
        assert_eq!(mask, [false; 3]);
    }
}
