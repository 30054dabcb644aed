//! Who may call on the unix socket: the kernel's word for it, and a bound on how many.

use std::io;
use std::sync::Arc;

use onduty_api::unix_server::{Caller, hand_over};
use service_kit::unix_socket::Socket;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Operators and their tools at the same time. When full one that is silent gives way to the next.
const CONNECTIONS: usize = 64;

/// Accepts until `stop`; callers that are neither this user nor root are turned away.
pub(crate) fn accept(
    listener: Socket,
    stop: CancellationToken,
) -> (impl Future<Output = ()>, mpsc::Receiver<io::Result<Caller>>) {
    let listener = Arc::new(listener);
    let next = move || {
        let listener = Arc::clone(&listener);
        async move { listener.accept_allowed("the operators' socket").await }
    };
    let (accepting, callers) = hand_over(next, CONNECTIONS);
    let accepting = async move {
        let _stopped = stop.run_until_cancelled(accepting).await;
    };
    (accepting, callers)
}
