//! The rules of the pair: who has the duty, when it moves, and what is said about it.
//!
//! ```text
//!   link ──────┐                              ┌────► supervisor (orders)
//!   supervisor ┼─► Input, now ─► Machine ─► Effect ─► link (announce)
//!   people ────┘                   │          └────► journal, storage
//!                                  └─► Report (to the peer), View (to people)
//! ```
//!
//! Pure: no clock, no I/O, no randomness, no async. The driver (crate `duty`) owns one [`Machine`], hands in what
//! happened and the reading of the boot-time clock, and carries the effects out in order.

mod effect;
mod event;
mod ids;
mod input;
mod machine;
mod memory;
mod report;
mod rules;
mod settings;
mod state;
pub mod table;
mod time;
pub mod timing;
mod view;

pub use effect::{DutyOrder, Effect};
pub use event::{Event, EventCode, Measures, Severity, UnknownEventCode};
pub use ids::{
    Epoch, InstanceId, InvalidNodeName, InvalidPath, Mode, NodeId, NodeName, PathId, RequestId, Role,
    SessionId,
};
pub use input::{DialOutcome, Input, Licence, Via};
pub use machine::{Machine, Now};
pub use memory::Memory;
pub use report::{
    Beat, Containment, Fitness, Handover, HandoverReason, Identity, Maintenance, MaintenanceWindow,
    Procedure, Report, Summary, TimingsInForce, TombstonePromise,
};
#[doc(hidden)]
pub use rules::Rules;
pub use settings::{Arbitration, FailbackMode, OnUnproved, Settings};
pub use state::State;
pub use time::BootTime;
pub use timing::Attention;
pub use view::{LinkVerdict, PathView, PeerView, Redundancy, View, Warning, Word};
