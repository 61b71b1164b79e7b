//! The two implementations against each other.
