//! The one integration-test binary: the product as its users meet it, and the rules of the house.

mod cli;
mod http;
mod tidy;
