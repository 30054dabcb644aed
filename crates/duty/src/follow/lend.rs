//! What a supervisor is given besides orders: a line from this process to its guard, past a supervisor that stands still, and
//! the listening socket, for the tombstone. Both take a few seconds when nobody answers.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use service_kit::descriptor;
use service_kit::guard_line::{self, DriverEnd};

use super::FollowOptions;

/// Lends the line after a while, and returns this end of it. Without one nothing new is begun: a supervisor that stood still
/// would be waited for as long as it does.
pub(super) fn line(
    options: &FollowOptions,
    after: Duration,
) -> impl Future<Output = Result<DriverEnd, String>> + use<> {
    let socket = options.listener_socket.clone();
    async move {
        tokio::time::sleep(after).await;
        let (ours, theirs) = guard_line::line().map_err(told)?;
        taken(descriptor::lend_line(&socket, theirs.as_fd()).await).map(|()| ours)
    }
}

/// Lends the listening socket. Without it the node goes on; only a crash is noticed later.
pub(super) fn listener(options: &FollowOptions) -> impl Future<Output = ()> + use<> {
    let socket = options.listener_socket.clone();
    let listener = options.listener.as_ref().map(OwnedFd::try_clone);
    async move {
        let Some(listener) = listener else { return };
        let lending = async { taken(descriptor::lend(&socket, listener.map_err(told)?.as_fd()).await) };
        if let Err(why) = lending.await {
            tracing::warn!(
                why,
                "the port could not be lent to the guard: a crash is noticed by silence only"
            );
        }
    }
}

fn taken(outcome: io::Result<bool>) -> Result<(), String> {
    outcome.map_err(told)?.then_some(()).ok_or_else(|| "the supervisor refused it".to_owned())
}

fn told(error: io::Error) -> String {
    error.to_string()
}
