//! Damaged streams: read whole or in any pieces, they say the same.

use crate::sse::Events;

/// Numbers that are the same every time: xorshift64*.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % most.max(1)
    }
}

/// Every event before the end or the first error, and whether there was one.
fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<String>, bool) {
    let (mut events, mut found) = (Events::default(), Vec::new());
    for piece in pieces {
        events.push(piece);
        loop {
            match events.next() {
                Ok(Some(event)) => found.push(event),
                Ok(None) => break,
                Err(_) => return (found, true),
            }
        }
    }
    (found, false)
}

#[test]
fn no_damage_makes_a_stream_read_differently_in_pieces() {
    let rounds = std::env::var("UNDERSTUDY_MUTATIONS").ok().and_then(|n| n.parse().ok());
    let stream = b": keep-alive\r\n\r\ndata: {\"a\":1}\r\n\r\nevent: x\ndata:two\ndata: lines\n\n\
        data: caf\xc3\xa9\n\ndata: [DONE]\n\n";
    let telling = b"\r\n:\xff\xc3d \0";
    let mut dice = Dice(17);
    for _ in 0..100 * rounds.unwrap_or(20) {
        let mut bytes = stream.to_vec();
        for _ in 0..=dice.below(4) {
            let at = dice.below(bytes.len());
            match if bytes.is_empty() { 1 } else { dice.below(4) } {
                0 => bytes[at] = telling[dice.below(telling.len())],
                1 => bytes.insert(at, telling[dice.below(telling.len())]),
                2 => drop(bytes.remove(at)),
                _ => bytes.truncate(at.max(1)),
            }
        }
        let whole = read(std::iter::once(&bytes[..]));
        let size = 1 + dice.below(9);
        assert_eq!(read(bytes.chunks(size)), whole, "{:?}", String::from_utf8_lossy(&bytes));
    }
}
