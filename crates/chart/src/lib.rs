//! Draws series of numbers: one line of blocks for a terminal, small multiples as SVG.
//!
//! Guarantees: equal input gives equal text; any float is drawable, where what is not finite is a
//! gap; an SVG is well-formed XML that needs nothing but itself, follows the reader's light or dark
//! scheme, and tells series apart also for the colour-blind.
//!
//! Never: reads or writes a file, runs a script in the drawing, or smooths what it was given.

mod axis;
mod number;
mod series;
mod spark;
mod svg;

pub use number::short;
pub use series::{Panel, Series};
pub use spark::sparkline;
pub use svg::{Drawing, svg};

#[cfg(test)]
mod tests;
