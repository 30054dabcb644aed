//! `onduty events [-f]`: the journal of a node.

use onduty_api::wire::events::v1::events_service_client::EventsServiceClient;
use onduty_api::wire::events::v1::{Event, ListEventsRequest, WatchEventsRequest};
use onduty_api::wire::types::v1::Severity;

use crate::cli::EventsArgs;
use crate::commands::render;
use crate::failure::Failure;
use crate::node;
use crate::output::{self, Colour, coded, paint};

/// Prints the newest events, and with `--follow` each new one.
pub(crate) async fn run(args: &EventsArgs) -> Result<(), Failure> {
    let mut client = EventsServiceClient::new(node::connect(&args.data.node).await?);
    if !args.follow {
        if args.limit == 0 {
            return Ok(());
        }
        let request = ListEventsRequest { after: args.after, limit: args.limit };
        for event in client.list_events(node::question(request)).await?.into_inner().events {
            print(&event, args.data.json);
        }
        return Ok(());
    }
    let request = WatchEventsRequest { after: args.after, backlog: args.limit };
    let mut events = client.watch_events(node::question(request)).await?.into_inner();
    while let Some(answer) = events.message().await? {
        if let Some(event) = answer.event {
            print(&event, args.data.json);
        }
    }
    Ok(())
}

fn print(event: &Event, json: bool) {
    if json {
        output::json(&render::event(event));
        return;
    }
    let severity = match event.severity() {
        Severity::Unspecified | Severity::Info => paint(Colour::Grey, "info    "),
        Severity::Warn => paint(Colour::Yellow, "warn    "),
        Severity::Error => paint(Colour::Red, "error   "),
        Severity::Critical => paint(Colour::Red, "critical"),
    };
    let at = event.at.as_ref().map(render::local_time).unwrap_or_default();
    let number = if event.number == 0 { "-".to_owned() } else { event.number.to_string() };
    let measured = render::measures(event);
    let mut line = format!("{number:>5}  {at}  {severity}  {}", event.sentence);
    if !event.cause.is_empty() {
        line.push_str(&paint(Colour::Grey, &format!("  ({})", event.cause)));
    }
    if !measured.is_empty() {
        line.push_str(&paint(Colour::Bold, &format!("  [{measured}]")));
    }
    // The codes of plain news have no page.
    if matches!(event.severity(), Severity::Warn | Severity::Error | Severity::Critical) {
        line = coded(&line, &event.code);
    }
    output::line(line);
}
