//! `onduty mode`: shows the mode and where it comes from, or changes it and waits until the node runs in it.

use std::time::Duration;

use onduty_api::wire::failover::v1::failover_service_client::FailoverServiceClient;
use onduty_api::wire::failover::v1::{GetModeRequest, GetModeResponse, NodeStatus, SetModeRequest};
use onduty_api::wire::types::v1::{Mode, NodeState};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::cli::{ModeArgs, ModeName, NodeArgs};
use crate::commands::{render, status};
use crate::failure::Failure;
use crate::{node, output};
use service_kit::exit::Exit;

/// Between two looks at a node that starts anew.
const PAUSE: Duration = Duration::from_millis(100);

/// Shows it, or changes it.
pub(crate) async fn run(args: &ModeArgs) -> Result<(), Failure> {
    match args.mode {
        None => show(args).await,
        Some(name) => change(args, wire(name)).await,
    }
}

const fn wire(name: ModeName) -> Mode {
    match name {
        ModeName::Primary => Mode::Primary,
        ModeName::Secondary => Mode::Secondary,
        ModeName::Deactivated => Mode::Deactivated,
    }
}

async fn show(args: &ModeArgs) -> Result<(), Failure> {
    let mut client = FailoverServiceClient::new(node::connect(&args.data.node).await?);
    let GetModeResponse { mode, source, locked_by } = client.get_mode(GetModeRequest {}).await?.into_inner();
    let mode = render::mode(Mode::try_from(mode).unwrap_or_default());
    if args.data.json {
        let locked_by = (!locked_by.is_empty()).then_some(locked_by);
        output::json(&json!({ "mode": mode, "source": source, "locked_by": locked_by }));
        return Ok(());
    }
    output::line(format!("{mode}, from {source}"));
    if !locked_by.is_empty() {
        output::line(locked_by);
    }
    Ok(())
}

async fn change(args: &ModeArgs, mode: Mode) -> Result<(), Failure> {
    let until = Instant::now() + args.within;
    let before = instance(&status::get(&args.data.node).await?);
    let mut client = FailoverServiceClient::new(node::connect(&args.data.node).await?);
    let wish = SetModeRequest { request_id: String::new(), mode: mode as i32, force: args.force };
    let mut request = tonic::Request::new(wish);
    request.set_timeout(args.within);
    let answer = client.set_mode(request).await?.into_inner();
    if !args.data.json {
        output::line(&answer.sentence);
    }
    let now = if answer.starts_anew {
        started_anew(&args.data.node, &before, mode, until).await?
    } else {
        status::get(&args.data.node).await?
    };
    let (word, reason) = (render::word(now.redundancy()), &now.redundancy_reason);
    if args.data.json {
        let mode = render::mode(mode);
        let request = (!answer.request_id.is_empty()).then_some(answer.request_id);
        output::json(&json!({
            "request_id": request,
            "sentence": answer.sentence,
            "mode": mode,
            "redundancy": word,
            "redundancy_reason": reason,
        }));
    } else {
        output::line(format!("redundancy: {word} - {reason}"));
    }
    Ok(())
}

/// Waits until the node is another run of itself, in the mode that was asked for, and has found its place: then the other
/// node knows it, too, and the next step of a procedure can be taken.
async fn started_anew(
    args: &NodeArgs,
    before: &[u8],
    mode: Mode,
    until: Instant,
) -> Result<NodeStatus, Failure> {
    let name = render::mode(mode);
    loop {
        // While it is between two runs nobody answers.
        let status = status::get(args).await.ok().filter(|status| instance(status) != before);
        match status {
            Some(status) if in_mode(&status) == mode && (!starting(&status) || until <= Instant::now()) => {
                return Ok(status);
            }
            Some(status) if in_mode(&status) != mode => {
                return Err(Failure::failed(format!(
                    "the node started anew, but not as {name}: the reason is in `onduty events`"
                )));
            }
            None if until <= Instant::now() => {
                return Err(Failure::new(
                    Exit::TimedOut,
                    format!(
                        "the node does not run as {name} yet; the change may still be under way: see `onduty status`"
                    ),
                ));
            }
            Some(_) | None => sleep(PAUSE).await,
        }
    }
}

fn instance(status: &NodeStatus) -> Vec<u8> {
    let identity = status.node.as_ref().and_then(|node| node.identity.clone());
    identity.map(|identity| identity.instance_id.to_vec()).unwrap_or_default()
}

fn starting(status: &NodeStatus) -> bool {
    status.node.as_ref().is_some_and(|node| node.state() == NodeState::Starting)
}

fn in_mode(status: &NodeStatus) -> Mode {
    status.node.as_ref().map_or(Mode::Unspecified, |node| node.mode())
}
