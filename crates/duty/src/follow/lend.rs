//! What a supervisor is given besides orders: a line from this process to its guard, past a supervisor that stands still, and
//! the listening socket, for the tombstone. Without either the node goes on, only slower when something dies.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use service_kit::descriptor;
use service_kit::guard_line::{self, DriverEnd};

use super::FollowOptions;

/// Lends both, and returns this end of the line. Takes a few seconds when nobody answers.
pub(super) fn lend(options: &FollowOptions) -> impl Future<Output = Option<DriverEnd>> + use<> {
    let socket: PathBuf = options.listener_socket.clone();
    let listener = options.listener.as_ref().map(OwnedFd::try_clone);
    async move {
        let line = match lend_line(&socket).await {
            Ok(line) => Some(line),
            Err(why) => {
                tracing::warn!(
                    why,
                    "no line to the guard: should the supervisor stand still, this node waits for it"
                );
                None
            }
        };
        if let Some(listener) = listener
            && let Err(why) = lend_listener(&socket, listener).await
        {
            tracing::warn!(
                why,
                "the port could not be lent to the guard: a crash is noticed by silence only"
            );
        }
        line
    }
}

async fn lend_line(socket: &Path) -> Result<DriverEnd, String> {
    let (ours, theirs) = guard_line::line().map_err(told)?;
    taken(descriptor::lend_line(socket, theirs.as_fd()).await).map(|()| ours)
}

async fn lend_listener(socket: &Path, listener: io::Result<OwnedFd>) -> Result<(), String> {
    let listener = listener.map_err(told)?;
    taken(descriptor::lend(socket, listener.as_fd()).await)
}

fn taken(outcome: io::Result<bool>) -> Result<(), String> {
    outcome.map_err(told)?.then_some(()).ok_or_else(|| "the supervisor refused it".to_owned())
}

fn told(error: io::Error) -> String {
    error.to_string()
}
