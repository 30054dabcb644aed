//! The words of `onduty mode`.

use std::time::Duration;

use clap::{Args, ValueEnum};

use super::{DataArgs, span};

/// `mode`.
#[derive(Debug, Args)]
pub(crate) struct ModeArgs {
    #[command(flatten)]
    pub(crate) data: DataArgs,
    /// The new mode; without it the mode is shown
    pub(crate) mode: Option<ModeName>,
    /// Change it also when nobody would run the plugins then, or both nodes would
    #[arg(long, requires = "mode")]
    pub(crate) force: bool,
    /// Wait at most this long until the node runs in the new mode
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = span)]
    pub(crate) within: Duration,
}

/// The modes of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ModeName {
    /// Part of a pair: runs the plugins whenever it can
    Primary,
    /// Part of a pair: runs the plugins while the primary cannot
    Secondary,
    /// Runs the plugins, without redundancy
    Deactivated,
}
