//! The scenarios. Each runs over several seeds; a failure prints its seed and what both nodes said.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod boot;
mod chaos;
mod crash;
mod determinism;
mod freeze;
mod partition;
mod settings;
mod variants;
