//! `onduty certs verify`: the table of the trust crate, asked on the command line, and what is said to wrong input.
#![allow(clippy::unwrap_used, reason = "a test may fail by unwrapping")]

mod asked;
#[path = "../../../certificate-trust/tests/support/authority.rs"]
mod authority;
mod input;
#[path = "../../../certificate-trust/tests/decisions/rows/mod.rs"]
mod rows;
