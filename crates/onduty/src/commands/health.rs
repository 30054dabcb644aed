//! `onduty health`: the exit code alone, for containers and scripts.
//!
//! Well is a node that answers and could carry, or carries, the duty; that the *pair* is redundant is `onduty status`'s
//! business: a container must not be restarted because its neighbour is down.

use onduty_api::wire::types::v1::NodeState;
use service_kit::codes::Code;
use service_kit::exit::Exit;

use crate::cli::HealthArgs;
use crate::commands::status;
use crate::failure::Failure;

/// Succeeds when the node is well (with `--active`: and active).
pub(crate) async fn run(args: &HealthArgs) -> Result<(), Failure> {
    let status = status::get(&args.node).await?;
    let node = status.node.unwrap_or_default();
    let active = matches!(node.state(), NodeState::Active | NodeState::Standalone);
    let fitness = node.fitness.unwrap_or_default();
    if args.active && !active {
        return Err(Failure::new(Exit::NotReady, "the node is not active").coded(Code::NotReady));
    }
    if !active && !fitness.fit {
        return Err(Failure::new(Exit::NotReady, fitness.reason).coded(Code::NotReady));
    }
    Ok(())
}
