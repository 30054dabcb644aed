//! `onduty stop`: ends the node; an active one hands the duty over first.

use onduty_api::wire::failover::v1::StopRequest;
use onduty_api::wire::failover::v1::failover_service_client::FailoverServiceClient;
use serde_json::json;

use crate::cli::StopArgs;
use crate::failure::Failure;
use crate::{node, output};

/// Asks for the stop; returns when it has begun.
pub(crate) async fn run(args: &StopArgs) -> Result<(), Failure> {
    let mut client = FailoverServiceClient::new(node::connect(&args.data.node).await?);
    let answer = client.stop(node::question(StopRequest { keep_duty: args.no_handover })).await?.into_inner();
    if args.data.json {
        output::json(&json!({ "sentence": answer.sentence }));
    } else {
        output::line(&answer.sentence);
    }
    Ok(())
}
