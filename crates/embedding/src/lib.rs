//! Sentence vectors: a BERT encoder (MiniLM and its like) behind the
//! [`Embedder`](understudy_inference::Embedder). Its maps are multiplied by the loops that serving
//! uses; Candle only reads the weights.
//!
//! ```text
//! text ─ WordPiece, at most 256 tokens ─ BERT ─ mean over its tokens ─ unit length ─ vector
//! ```
//!
//! Guarantees: vectors as `sentence-transformers` computes them, to 1e-5; a vector depends on its
//! text alone, for nothing is padded and no sentence attends to another; vectors are named by the
//! digest of weights, vocabulary and configuration, so that those of different models are never
//! compared; a directory that asks for anything else (another pooling, another architecture) is
//! refused with the reason. One encoder may be used from many threads.
//!
//! Never: decides what is relevant, fetches a model, or keeps a text.

mod attention;
mod bert;
mod config;
mod encoder;
mod error;
mod fused;
mod tokens;

pub use encoder::SentenceEncoder;
pub use error::{EmbeddingError, Result};
