//! The program `heartbeat-server`: this service of a node in a process of its own, as `onduty serve heartbeat-server` is. Built by the
//! package `onduty`, which puts the service together (docs/adr/0013).

use std::process::ExitCode;

fn main() -> ExitCode {
    onduty::serve(onduty::ServiceName::HeartbeatServer)
}
