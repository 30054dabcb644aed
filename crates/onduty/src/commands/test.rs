//! `onduty test`: the link to the other node, step by step, each printed as it ends.

use onduty_api::wire::heartbeat::v1::TestRequest;
use onduty_api::wire::heartbeat::v1::connection_test_service_client::ConnectionTestServiceClient;
use onduty_api::wire::heartbeat::v1::test_response::Verdict;
use serde_json::json;
use service_kit::exit::Exit;

use crate::cli::DataArgs;
use crate::commands::render::seconds;
use crate::failure::Failure;
use crate::node;
use crate::output::{self, Colour, coded, paint};

/// Prints each step as it ends; fails when a step did.
pub(crate) async fn run(args: &DataArgs) -> Result<(), Failure> {
    let mut client = ConnectionTestServiceClient::new(node::connect(&args.node).await?);
    let mut steps = client.test(node::question(TestRequest {})).await?.into_inner();
    let mut failed = None;
    let mut address = String::new();
    while let Some(step) = steps.message().await? {
        let verdict = step.verdict();
        let took = step.took.as_ref().map_or(0.0, seconds);
        if verdict == Verdict::Failed {
            failed = failed.or_else(|| Some((step.step.clone(), step.code.clone())));
        }
        let (word, colour) = match verdict {
            Verdict::Passed => ("ok", Colour::Green),
            Verdict::Warned => ("warning", Colour::Yellow),
            Verdict::Failed => ("failed", Colour::Red),
            Verdict::Skipped | Verdict::Unspecified => ("skipped", Colour::Grey),
        };
        if args.json {
            output::json(&json!({
                "address": step.address,
                "step": step.step,
                "verdict": word,
                "code": step.code,
                "found": step.found,
                "hint": step.hint,
                "took_ms": took * 1e3,
            }));
            continue;
        }
        if step.address != address {
            address.clone_from(&step.address);
            output::line(paint(Colour::Bold, &address));
        }
        let time = if verdict == Verdict::Skipped { String::new() } else { output::span(took) };
        output::line(format!(
            "{:<9}{}{time:>10}  {}",
            step.step,
            paint(colour, &format!("{word:<8}")),
            coded(&step.found, &step.code)
        ));
        if !step.hint.is_empty() {
            output::line(format!("{:29}{}", "", paint(Colour::Grey, &format!("→ {}", step.hint))));
        }
    }
    match failed {
        None => Ok(()),
        Some((step, code)) => {
            Err(Failure::new(Exit::NotReady, format!("the step `{step}` failed")).told(code))
        }
    }
}
