//! `onduty serve SERVICE`: one service of a node in a process of its own. Together they are what `up` is in one process,
//! made of the same pieces (`up/pieces.rs`), and they start in any order.
//!
//! ```text
//!   onduty.sock ◄─ management ─► run/duty.sock ◄─ heartbeat, or heartbeat-server or -client (by mode): driver, link, journal
//!                     │                             │ FollowDuty            │ listening socket,    │ WatchBundle
//!                     │                             │                       │ a line to the guard  │
//!                     │            run/plugin-supervisor.sock        run/listener.sock             │
//!                     │                             └──── plugin-supervisor ┘ ─► guard ─► plugins  │
//!                     └───────────────────────────► run/certificate-trust.sock ◄───────────────────┘
//!                                                     └─ certificate-trust ─► PKI folders
//! ```
//!
//! What each one's death does: the heartbeat's ends the plugins at once and leaves a tombstone; the supervisor's ends them
//! through the guard, which tells the heartbeat; management's does nothing, and certificate-trust's neither: the last
//! bundle stays in force, and only a heartbeat that starts waits for its first one. One that stands still loses the
//! plugins to the lease, and whoever else lives gives the duty away.

mod heartbeat;
mod management;
mod supervisor;
mod trust;

use std::process::ExitCode;

use failover_core::Mode;

use crate::cli::{ServeArgs, ServiceName};
use crate::failure::Failure;
use crate::up;

/// The supervisor's part of a node, by the name of its lock.
const SUPERVISOR: &str = "plugin-supervisor";
/// The heartbeat's part; both heartbeat services are the same part.
const HEARTBEAT: &str = "heartbeat";
/// The certificates.
const TRUST: &str = "certificate-trust";
/// The operators' socket.
const MANAGEMENT: &str = "management";

/// Runs the service until it is stopped.
pub(crate) fn run(args: &ServeArgs) -> Result<ExitCode, Failure> {
    let (loaded, log) = up::load(&args.settings)?;
    let mode = loaded.settings.redundancy.mode;
    match args.service {
        ServiceName::Heartbeat | ServiceName::HeartbeatServer | ServiceName::HeartbeatClient => {
            fits(args.service, mode)
                .map_err(|why| Failure::settings(format!("`redundancy.mode` is {mode}: {why}")))?;
            let ended = heartbeat::run(loaded, args)?;
            // What replaces this process does not write what the log still holds.
            drop(log);
            ended.exit()
        }
        ServiceName::PluginSupervisor => supervisor::run(&loaded),
        ServiceName::Management => management::run(&loaded),
        ServiceName::CertificateTrust => trust::run(&loaded),
    }
}

/// The mode decides which heartbeat service is on, unless it is the one that is either.
pub(crate) fn fits(service: ServiceName, mode: Mode) -> Result<(), String> {
    let right = match mode {
        Mode::Primary | Mode::Deactivated => ServiceName::HeartbeatServer,
        Mode::Secondary => ServiceName::HeartbeatClient,
    };
    if service == right || service == ServiceName::Heartbeat {
        return Ok(());
    }
    Err(format!(
        "its service is `onduty serve {}`, and this is {}; `onduty serve heartbeat` is either",
        right.name(),
        service.name()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mode_has_one_heartbeat_service() {
        use ServiceName::{HeartbeatClient, HeartbeatServer};
        for (mode, right, wrong) in [
            (Mode::Primary, HeartbeatServer, HeartbeatClient),
            (Mode::Deactivated, HeartbeatServer, HeartbeatClient),
            (Mode::Secondary, HeartbeatClient, HeartbeatServer),
        ] {
            assert!(fits(right, mode).is_ok());
            assert!(fits(ServiceName::Heartbeat, mode).is_ok());
            assert!(fits(wrong, mode).is_err());
        }
    }
}
