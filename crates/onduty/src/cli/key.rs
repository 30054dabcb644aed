//! The words of `onduty key`.

use std::path::PathBuf;

use clap::Subcommand;

use super::{DataArgs, NodeArgs};

/// `key`.
#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Make a new key; both nodes of a pair need the same one
    Generate {
        /// Write it to this file (mode 0600), which must not exist yet
        #[arg(long, value_name = "FILE", required_unless_present = "print")]
        out: Option<PathBuf>,
        /// Print it
        #[arg(long)]
        print: bool,
    },
    /// Show which keys the node accepts, which of them the session uses, and what comes next; never a key itself
    Show(DataArgs),
    /// Exchange the key of a pair that runs, step by step on both nodes
    #[command(subcommand)]
    Rotate(RotateCommand),
}

/// `key rotate`. Each step may be done again, and the nodes may be in different ones.
#[derive(Debug, Subcommand)]
pub(crate) enum RotateCommand {
    /// 1: make the next key beside the one in use, or take the one that was made on the other node
    Prepare {
        #[command(flatten)]
        node: NodeArgs,
        /// Take it from this file, which the other node has made (`-`: the standard input)
        #[arg(long, value_name = "FILE")]
        from: Option<PathBuf>,
    },
    /// 2: use the next key first; the one before is accepted as well
    Use {
        #[command(flatten)]
        node: NodeArgs,
    },
    /// 3: drop the key before, once the pair goes by the new one
    Finish {
        #[command(flatten)]
        node: NodeArgs,
        /// Drop it also when the other node may not have the new one: then the two do not understand each other any more
        #[arg(long)]
        force: bool,
    },
    /// Go back to the key of before, and drop the new one
    Abort {
        #[command(flatten)]
        node: NodeArgs,
        /// Drop it also when the other node may need it: then the two do not understand each other any more
        #[arg(long)]
        force: bool,
    },
}
