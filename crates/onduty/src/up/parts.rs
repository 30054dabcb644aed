//! Small joints between the services of one process.

use std::sync::Arc;

use onduty_api::failover::PluginStatus;
use service_kit::Clock;
use tokio::sync::watch;

/// The supervisor's statuses as operators get them. Ends with the supervisor.
pub(crate) fn plugin_statuses(
    mut supervised: watch::Receiver<Arc<Vec<plugin_supervisor::PluginStatus>>>,
    clock: Clock,
) -> watch::Receiver<Arc<Vec<PluginStatus>>> {
    let convert = move |all: &[plugin_supervisor::PluginStatus]| -> Arc<Vec<PluginStatus>> {
        Arc::new(all.iter().map(|status| plugin_status(status, &clock)).collect())
    };
    let first = convert(&supervised.borrow_and_update());
    let (told, seen) = watch::channel(first);
    let _detached = tokio::spawn(async move {
        while supervised.changed().await.is_ok() {
            let all = Arc::clone(&supervised.borrow_and_update());
            if told.send(convert(&all)).is_err() {
                return;
            }
        }
    });
    seen
}

fn plugin_status(status: &plugin_supervisor::PluginStatus, clock: &Clock) -> PluginStatus {
    let ago = clock.unix_millis().saturating_sub(status.since_unix_ms);
    PluginStatus {
        name: status.name.clone(),
        state: status.state.word().to_owned(),
        reason: status.reason.clone(),
        since: clock.boot() - std::time::Duration::from_millis(ago),
        pid: status.pid.and_then(|pid| u32::try_from(pid).ok()),
        restarts: status.restarts,
    }
}
