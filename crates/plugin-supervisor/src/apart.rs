//! The supervisor in a process of its own: the driver, which lives in another one, gives its orders over gRPC.
//!
//! ```text
//!   heartbeat process                        supervisor process
//!   driver ─► follower ── FollowDuty ──────► follow ─► hub ── the same channels as in one process ──► core ─► guard
//!                      ◄─ truth, reports ───              ▲
//!             listening socket ── SCM_RIGHTS ─► lending ──┘──► tombstone
//! ```
//!
//! What a broken stream means:
//!
//! - **Nothing, by itself.** The lease runs out unless a driver comes back and renews it; the guard judges that alone.
//! - **The driver's process is dead** (its pidfd says so; the kernel named it when it connected): nobody can renew the
//!   lease any more, so the plugins are killed at once, as the guard does when all of a node is one process.
//! - **Dead, and every plugin reaped:** the supervisor shows the tombstone on the socket that the driver lent. The guard
//!   cannot: it shows one only when its own parent, this process, is dead. Then the port is let go.
//!
//! A driver whose process cannot be held (it lives in a PID namespace that this one does not see) is never taken for
//! dead: then the lease decides, and the peer goes by silence.

mod follow;
mod hub;
mod lending;
mod tombstone;
mod truth;

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use onduty_api::unix_server::serve_until;
use onduty_api::wire::plugin::v1::plugin_supervisor_service_server::PluginSupervisorServiceServer;
use service_kit::Clock;
use service_kit::ports::DriverPort;
use service_kit::unix_socket::{Access, Socket, SocketError};
use thiserror::Error;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use crate::SupervisorHandle;
use follow::Follow;
use hub::Hub;

/// The socket's name in the run folder.
pub const SOCKET: &str = "plugin-supervisor.sock";
/// The name of the socket on which the listening socket is lent.
pub const LISTENER_SOCKET: &str = "listener.sock";

/// An order is a few dozen bytes.
const LARGEST_ORDER: usize = 4 * 1024;
/// How long the end waits for the answers on their way.
const DRAIN: Duration = Duration::from_secs(1);

/// What the supervisor's own process needs besides the supervisor.
pub struct Options {
    /// Where both sockets are to be.
    pub run_dir: PathBuf,
    /// The driver's ends of the supervisor's channels: this side keeps them over every driver that comes and goes.
    pub port: DriverPort,
    /// The supervisor.
    pub handle: SupervisorHandle,
    /// How long the tombstone answers at most.
    pub tombstone_for: Duration,
    /// How long an orderly stop of the plugins may take.
    pub stop_within: Duration,
    /// The clock.
    pub clock: Clock,
}

/// Why the service ended by itself.
#[derive(Debug, Error)]
#[error("serving the driver")]
pub struct RunError(#[from] tonic::transport::Error);

/// The service; [`Apart::run`] it beside the supervisor.
pub struct Apart {
    hub: Hub,
    messages: mpsc::Sender<hub::Message>,
    socket: Socket,
    lending: Socket,
}

/// Opens both sockets; nothing is served before [`Apart::run`]. Must be called inside a runtime.
///
/// # Errors
///
/// When a socket cannot be made, or another supervisor answers on it.
pub fn build(options: Options) -> Result<Apart, SocketError> {
    let socket = Socket::bind(&options.run_dir.join(SOCKET), Access::Owner)?;
    let lending = Socket::bind(&options.run_dir.join(LISTENER_SOCKET), Access::Owner)?;
    let (hub, messages) = Hub::new(options);
    Ok(Apart { hub, messages, socket, lending })
}

impl Apart {
    /// Serves until `stop`, then has the plugins stopped in order if a driver follows, and ends. The supervisor is to be
    /// stopped after it.
    ///
    /// # Errors
    ///
    /// When the server fails.
    pub async fn run(self, stop: CancellationToken) -> Result<(), RunError> {
        let Self { hub, messages, socket, lending } = self;
        let over = CancellationToken::new();
        let (accepting, callers) = accept(socket, over.clone());
        let service = PluginSupervisorServiceServer::new(Follow::new(messages.clone()))
            .max_decoding_message_size(LARGEST_ORDER);
        let serving = Server::builder()
            .add_service(service)
            .serve_with_incoming_shutdown(ReceiverStream::new(callers), over.clone().cancelled_owned());
        let lending = lending::serve(lending, messages);
        let ruling = async {
            hub.run(stop).await;
            over.cancel();
        };
        let sockets = async { tokio::join!(accepting, lending) };
        Box::pin(serve_until(ruling, DRAIN, sockets, serving)).await.map_err(RunError)
    }
}

/// Accepts until `stop`; callers that are neither this user nor root are turned away.
fn accept(
    listener: Socket,
    stop: CancellationToken,
) -> (impl Future<Output = ()>, mpsc::Receiver<io::Result<UnixStream>>) {
    // One at a time: there is one driver.
    let (callers, accepted) = mpsc::channel(1);
    let accepting = async move {
        // Cancel-safe: nothing is lost when the stop comes first.
        while let Some(stream) =
            stop.run_until_cancelled(listener.accept_allowed("the supervisor's socket")).await
        {
            if callers.send(Ok(stream)).await.is_err() {
                return;
            }
        }
    };
    (accepting, accepted)
}
