//! `onduty status [--watch]`: how redundant the pair is, and why.

use std::io::IsTerminal;

use onduty_api::wire::failover::v1::failover_service_client::FailoverServiceClient;
use onduty_api::wire::failover::v1::{GetStatusRequest, NodeStatus, WatchStatusRequest};

use crate::cli::{NodeArgs, StatusArgs};
use crate::commands::{render, status_text};
use crate::failure::Failure;
use crate::{node, output};

/// Prints it, once or after every change.
pub(crate) async fn run(args: &StatusArgs) -> Result<(), Failure> {
    if !args.watch {
        show(&get(&args.data.node).await?, args.data.json);
        return Ok(());
    }
    let mut client = FailoverServiceClient::new(node::connect(&args.data.node).await?);
    let mut statuses =
        client.watch_status(node::question(WatchStatusRequest { heartbeat: None })).await?.into_inner();
    let in_place = !args.data.json && std::io::stdout().is_terminal();
    while let Some(answer) = statuses.message().await? {
        if in_place {
            // Home, and clear what is below: the picture stays where it is.
            output::raw("\u{1b}[H\u{1b}[2J");
        }
        if let Some(status) = answer.status {
            show(&status, args.data.json);
            if !in_place && !args.data.json {
                output::line("");
            }
        }
    }
    Err(Failure::no_node("the node has ended the watch"))
}

/// The status of the node that the arguments mean.
pub(crate) async fn get(args: &NodeArgs) -> Result<NodeStatus, Failure> {
    let mut client = FailoverServiceClient::new(node::connect(args).await?);
    let answer = client.get_status(node::question(GetStatusRequest {})).await?.into_inner();
    answer.status.ok_or_else(|| Failure::failed("the node's answer has no status in it"))
}

fn show(status: &NodeStatus, json: bool) {
    if json {
        output::json(&render::status(status));
    } else {
        output::line(status_text::status(status));
    }
}
