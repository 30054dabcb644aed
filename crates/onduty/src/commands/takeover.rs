//! `onduty takeover`: takes the duty by hand, where the machine holds back.

use onduty_api::wire::failover::v1::TakeOverRequest;
use onduty_api::wire::failover::v1::failover_service_client::FailoverServiceClient;
use serde_json::json;

use crate::cli::DataArgs;
use crate::failure::Failure;
use crate::{node, output};

/// Takes it.
pub(crate) async fn run(args: &DataArgs) -> Result<(), Failure> {
    let mut client = FailoverServiceClient::new(node::connect(&args.node).await?);
    let answer =
        client.take_over(node::question(TakeOverRequest { request_id: String::new() })).await?.into_inner();
    if args.json {
        output::json(&json!({ "sentence": answer.sentence }));
    } else {
        output::line(&answer.sentence);
    }
    Ok(())
}
