//! The digest of a long message, of which several threads hash a piece each.
//!
//! BLAKE3 is a tree, and a piece is a whole branch of it: section 2.1 of the BLAKE3 paper.

use blake3::hazmat::{
    ChainingValue, HasherExt as _, Mode, merge_subtrees_non_root, merge_subtrees_root,
};

use crate::Digest;

/// Bytes of every piece of a message but the last, which has at least one.
pub const PIECE: usize = 1 << 16;

/// What one piece contributes to the digest of its message.
#[derive(Debug, Clone, Copy)]
pub struct Piece(ChainingValue);

impl Piece {
    /// That of the `nth` piece, whose bytes come in some parts.
    pub fn of<'a>(nth: usize, parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.set_input_offset((nth * PIECE) as u64);
        for part in parts {
            hasher.update(part);
        }
        assert!((1..=PIECE as u64).contains(&hasher.count()), "a piece of unfit length");
        Self(hasher.finalize_non_root())
    }
}

impl Digest {
    /// [`Digest::of`] a message of at least two pieces, from all of them in order.
    pub fn of_pieces(pieces: &[Piece]) -> Self {
        assert!(pieces.len() > 1, "who has one piece has no use for this");
        let (left, right) = halves(pieces);
        Self(*merge_subtrees_root(&branch(left), &branch(right), Mode::Hash).as_bytes())
    }
}

fn branch(pieces: &[Piece]) -> ChainingValue {
    if let [Piece(value)] = pieces {
        return *value;
    }
    let (left, right) = halves(pieces);
    merge_subtrees_non_root(&branch(left), &branch(right), Mode::Hash)
}

/// The left branch is the largest power of two that leaves something for the right.
fn halves(pieces: &[Piece]) -> (&[Piece], &[Piece]) {
    pieces.split_at(pieces.len().div_ceil(2).next_power_of_two())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_make_the_digest_of_the_whole() {
        let message: Vec<u8> = (0..9 * PIECE + 5).map(|at| (at * at % 251) as u8).collect();
        for count in 2..=9 {
            for length in [(count - 1) * PIECE + 1, count * PIECE - 700, count * PIECE] {
                let message = &message[..length];
                let piece = |(nth, piece): (usize, &[u8])| {
                    let (head, tail) = piece.split_at(piece.len() / 3);
                    Piece::of(nth, [head, tail])
                };
                let pieces: Vec<Piece> = message.chunks(PIECE).enumerate().map(piece).collect();
                assert_eq!(Digest::of_pieces(&pieces), Digest::of(message), "{length}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "a piece of unfit length")]
    fn a_piece_that_is_too_long_is_caught() {
        Piece::of(0, [&vec![0; PIECE][..], &[0]]);
    }
}
