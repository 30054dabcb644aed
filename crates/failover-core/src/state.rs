//! The six states of a node.

use core::fmt;

use serde::{Deserialize, Serialize};

/// What a node is doing about the duty (the right and obligation to run the plugins).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Just started, or the guard fired: waits for the peer before it decides.
    Starting,
    /// Does not run the plugins; every plugin process has been reaped.
    Standby,
    /// Has the duty and starts the plugins; not yet all ready.
    TakingOver,
    /// Has the duty; the plugins run.
    Active,
    /// Stops the plugins; ends only when every plugin process has been reaped.
    Yielding,
    /// Mode `deactivated`: the plugins run, no automatic transition.
    Standalone,
}

impl State {
    /// Every state, in the order of a node's life.
    pub const ALL: [Self; 6] =
        [Self::Starting, Self::Standby, Self::TakingOver, Self::Active, Self::Yielding, Self::Standalone];

    /// Whether plugins may exist on the node in this state.
    #[must_use]
    pub const fn may_run_plugins(self) -> bool {
        match self {
            Self::TakingOver | Self::Active | Self::Yielding | Self::Standalone => true,
            Self::Starting | Self::Standby => false,
        }
    }

    /// The state's name as the wire, the journal and machines write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Standby => "standby",
            Self::TakingOver => "taking_over",
            Self::Active => "active",
            Self::Yielding => "yielding",
            Self::Standalone => "standalone",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting => "starting",
            Self::Standby => "standby",
            Self::TakingOver => "taking over",
            Self::Active => "active",
            Self::Yielding => "yielding",
            Self::Standalone => "standalone",
        })
    }
}
