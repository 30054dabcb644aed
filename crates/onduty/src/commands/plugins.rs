//! `onduty plugins list`.

use onduty_api::wire::failover::v1::PluginStatus;

use crate::cli::DataArgs;
use crate::commands::{render, status};
use crate::failure::Failure;
use crate::{output, tables};

/// Lists the plugins with their state.
pub(crate) async fn list(args: &DataArgs) -> Result<(), Failure> {
    let status = status::get(&args.node).await?;
    if args.json {
        output::json(&status.plugins.iter().map(render::plugin).collect());
    } else if status.plugins.is_empty() {
        output::line("no plugins are configured");
    } else {
        output::line(table(&status.plugins));
    }
    Ok(())
}

/// The plugins as a table.
pub(crate) fn table(plugins: &[PluginStatus]) -> String {
    let mut table = tables::plain(&["plugin", "state", "since", "pid", "restarts", ""]);
    for plugin in plugins {
        let _ = table.add_row([
            plugin.name.clone(),
            plugin.state.clone(),
            plugin.since.as_ref().map(render::time_of_day).unwrap_or_default(),
            plugin.pid.map(|pid| pid.to_string()).unwrap_or_default(),
            plugin.restarts.to_string(),
            plugin.reason.clone(),
        ]);
    }
    tables::text(&table)
}
