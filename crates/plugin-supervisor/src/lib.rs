//! Starts, watches and stops the plugins, through a guard that outlives the manager.
//!
//! ```text
//!   driver ──orders──► Supervisor (a task) ──socket──► guard (a process of its own) ──► plugins
//!          ◄─reports──        │                            │
//!                        statuses, output files       kills at the lease's end; tombstone
//! ```
//!
//! | module | what it does |
//! | --- | --- |
//! | `service` | options in, service and handle out |
//! | `core`, `duty`, `plugins`, `preflight` | the task: its loop, the duty as a whole, the plugins in order, fitness |
//! | `guard_watch`, `guard_keeper` | the guard's words, silence and death; the thread that waits for guards |
//! | `life`, `timers`, `environment`, `readiness` | its bookkeeping |
//! | `link`, `wire`, `guard_process` | the guard as the supervisor sees it |
//! | `lease_timer` | the end of the lease, which both share |
//! | [`guard`] | the guard's own processes |
//! | `containment`, `leftovers`, `procfs` | what can be contained, and ending what was left |
//! | [`apart`] | the supervisor in a process of its own: the driver's orders over gRPC |
//! | `output`, `epoch_file` | files, each written by a thread that may stall alone |
//!
//! The binary calls [`clear_leftovers`] before its port opens, then [`build`], then [`Supervisor::run`]; its hidden
//! subcommand calls [`guard::main`].

pub mod apart;
mod containment;
mod core;
mod definition;
mod duty;
mod environment;
mod epoch_file;
pub mod guard;
mod guard_keeper;
mod guard_process;
mod guard_watch;
mod lease_timer;
mod leftovers;
mod life;
mod link;
mod output;
mod plugins;
mod preflight;
mod procfs;
mod readiness;
mod service;
mod timers;
mod wire;

pub use containment::ContainmentChoice;
pub use definition::{
    DefinitionError, MOST_PLUGINS, OnNewEpoch, Plugin, Preflight, Readiness, Restart, RestartPolicy,
};
pub use leftovers::{Leftovers, LeftoversError, Sight, clear_leftovers, sight};
pub use life::{PluginState, PluginStatus};
pub use nix::sys::signal::Signal;
pub use output::LogLimits;
pub use service::{BuildError, Options, Supervisor, SupervisorHandle, build};
