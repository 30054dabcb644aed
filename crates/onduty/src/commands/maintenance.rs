//! `onduty maintenance on|off`: holds back takeover and hand-back on both nodes.

use std::time::Duration;

use onduty_api::wire::failover::v1::failover_service_client::FailoverServiceClient;
use onduty_api::wire::failover::v1::{ClearMaintenanceRequest, SetMaintenanceRequest};
use onduty_api::wire::types::v1::Maintenance;

use crate::cli::{DataArgs, MaintenanceCommand};
use crate::commands::render;
use crate::failure::Failure;
use crate::{node, output};

/// Begins or ends it.
pub(crate) async fn run(command: &MaintenanceCommand) -> Result<(), Failure> {
    match command {
        MaintenanceCommand::On { data, reason, duration } => on(data, reason, *duration).await,
        MaintenanceCommand::Off { data } => off(data).await,
    }
}

async fn on(data: &DataArgs, reason: &str, duration: Duration) -> Result<(), Failure> {
    let mut client = FailoverServiceClient::new(node::connect(&data.node).await?);
    let duration = prost_types::Duration::try_from(duration).ok();
    let request = SetMaintenanceRequest { reason: reason.to_owned(), duration };
    show(data, client.set_maintenance(node::question(request)).await?.into_inner().maintenance);
    Ok(())
}

async fn off(data: &DataArgs) -> Result<(), Failure> {
    let mut client = FailoverServiceClient::new(node::connect(&data.node).await?);
    show(
        data,
        client.clear_maintenance(node::question(ClearMaintenanceRequest {})).await?.into_inner().maintenance,
    );
    Ok(())
}

fn show(data: &DataArgs, maintenance: Option<Maintenance>) {
    let maintenance = maintenance.unwrap_or_default();
    if data.json {
        output::json(&render::maintenance(&maintenance));
    } else {
        output::line(render::maintenance_text(&maintenance));
    }
}
