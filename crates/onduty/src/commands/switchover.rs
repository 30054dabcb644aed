//! `onduty switchover`: moves the duty to the other node.

use onduty_api::wire::failover::v1::SwitchoverRequest;
use onduty_api::wire::failover::v1::failover_service_client::FailoverServiceClient;
use serde_json::json;

use crate::cli::SwitchoverArgs;
use crate::commands::render::seconds;
use crate::failure::Failure;
use crate::{node, output};

/// Moves it, or with `--check` only says whether it could be moved.
pub(crate) async fn run(args: &SwitchoverArgs) -> Result<(), Failure> {
    let mut client = FailoverServiceClient::new(node::connect(&args.data.node).await?);
    let mut request =
        tonic::Request::new(SwitchoverRequest { request_id: String::new(), check_only: args.check });
    request.set_timeout(args.within);
    let answer = client.switchover(request).await?.into_inner();
    let gap = answer.gap.as_ref().map(seconds);
    if args.data.json {
        output::json(&json!({
            "request_id": answer.request_id,
            "active": answer.active,
            "sentence": answer.sentence,
            "gap_ms": gap.map(|gap| gap * 1e3),
        }));
        return Ok(());
    }
    output::line(&answer.sentence);
    if !args.check {
        if !answer.active.is_empty() {
            output::line(format!("active now: {}", answer.active));
        }
        if let Some(gap) = gap {
            output::line(format!("nobody ran the plugins for {}", output::span(gap)));
        }
    }
    Ok(())
}
