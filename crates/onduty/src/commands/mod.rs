//! The commands that are neither `up` nor `demo`: most ask a node over its socket and print the answer.

pub(crate) mod canary;
pub(crate) mod certs;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod events;
pub(crate) mod health;
pub(crate) mod key;
pub(crate) mod maintenance;
pub(crate) mod metrics;
pub(crate) mod mode;
pub(crate) mod plugins;
pub(crate) mod render;
pub(crate) mod status;
pub(crate) mod status_text;
pub(crate) mod stop;
pub(crate) mod switchover;
pub(crate) mod takeover;
pub(crate) mod test;
