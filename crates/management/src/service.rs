//! Options → service. There is no handle: operators come over the socket.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use certificate_trust::service::Certificates;
use duty::OperatorHandle;
use failover_core::{BootTime, Warning};
use journal::JournalHandle;
use onduty_api::failover::PluginStatus;
use onduty_api::trust;
use onduty_api::unix_server::serve_until;
use onduty_api::wire::events::v1::events_service_server::EventsServiceServer;
use onduty_api::wire::failover::v1::failover_service_server::FailoverServiceServer;
use onduty_api::wire::heartbeat::v1::connection_test_service_server::ConnectionTestServiceServer;
use onduty_api::wire::trust::v1::certificate_service_server::CertificateServiceServer;
use service_kit::unix_socket::{Access, Socket, SocketError};
use thiserror::Error;
use tokio::sync::{Semaphore, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic_health::pb::health_server::HealthServer;

use crate::connection_test::{ConnectionTest, TestService};
use crate::discovery::{self, HealthOfServices};
use crate::events::Events;
use crate::failover::{Failover, WAITING, WATCHERS};
use crate::keys::Keys;
use crate::mode::ModeSettings;
use crate::requests::Asked;
use crate::socket;

/// Calls at the same time on one connection; a tool that wants more waits.
const CALLS_PER_CONNECTION: usize = 32;
/// The same for calls that go on, such as watching the status.
pub(crate) const STREAMS_PER_CONNECTION: u32 = 32;
/// The largest request: an operator's reason is the longest thing in one.
const LARGEST_REQUEST: usize = 16 * 1024;
/// How long the stop waits for calls under way.
const DRAIN: Duration = Duration::from_secs(1);

/// What the operators' face needs.
pub struct Options {
    /// Where the socket is to be.
    pub socket: PathBuf,
    /// The way to the driver.
    pub operators: OperatorHandle,
    /// The journal.
    pub journal: JournalHandle,
    /// The plugins as their supervisor sees them.
    pub plugins: watch::Receiver<Arc<Vec<PluginStatus>>>,
    /// Tries the link.
    pub connection_test: ConnectionTest,
    /// What the settings have to do with the mode.
    pub mode: ModeSettings,
    /// Since when the process runs.
    pub started: BootTime,
    /// The certificates; `None` where another process looks after them and operators reach it without this one.
    pub certificates: Option<Certificates>,
    /// Why the service that says whom to trust is away, as a sentence.
    pub trust_away: watch::Receiver<Option<String>>,
    /// The certificates that run out, as warnings.
    pub expiring: watch::Receiver<Vec<Warning>>,
    /// The keys of the pair; `None`: there is no link.
    pub keys: Option<Keys>,
    /// Whether a stop hands the duty over (`redundancy.handover_on_stop`).
    pub handover_on_stop: bool,
    /// Whether operators come through a forwarder (see [`crate::forward`]), whose word for who they are is taken.
    pub behind_forwarder: bool,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("socket", &self.socket).finish_non_exhaustive()
    }
}

/// Why there can be no management.
#[derive(Debug, Error)]
pub enum BuildError {
    /// The socket cannot be made.
    #[error(transparent)]
    Socket(#[from] SocketError),
}

/// Why management ended by itself.
#[derive(Debug, Error)]
pub enum RunError {
    /// The server failed.
    #[error("serving operators")]
    Serving(#[from] tonic::transport::Error),
    /// What tools are to be shown makes no sense.
    #[error("making the reflection service")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// The operators' services of one node.
#[derive(Debug)]
pub struct Management {
    options: Options,
    listener: Socket,
}

/// Makes the socket; nothing is served before [`Management::run`]. Must be called inside a runtime.
///
/// # Errors
///
/// When the socket cannot be made, or another node answers on it.
pub fn build(options: Options) -> Result<Management, BuildError> {
    let listener = Socket::bind(&options.socket, Access::Owner)?;
    Ok(Management { options, listener })
}

impl Management {
    /// Serves until `stop`, then ends every stream, waits a moment for calls under way and removes the socket.
    ///
    /// # Errors
    ///
    /// When the server fails.
    pub async fn run(self, stop: CancellationToken) -> Result<(), RunError> {
        let Self { options, listener } = self;
        let Options {
            socket: _,
            operators,
            journal,
            plugins,
            connection_test,
            mode,
            started,
            certificates,
            trust_away,
            expiring,
            keys,
            handover_on_stop,
            behind_forwarder,
        } = options;
        let certificates = certificates.map(|certificates| {
            CertificateServiceServer::new(certificates).max_decoding_message_size(trust::MAX_REQUEST)
        });
        let failover = Failover {
            operators,
            journal: journal.clone(),
            plugins,
            started,
            mode,
            trust_away,
            expiring,
            keys,
            stop: stop.clone(),
            asked: Asked::default(),
            watchers: Arc::new(Semaphore::new(WATCHERS)),
            waiting: Arc::new(Semaphore::new(WAITING)),
            handover_on_stop,
            behind_forwarder,
        };
        let events = Events { journal, stop: stop.clone() };
        let test = TestService { test: connection_test, stop: stop.clone() };
        let health = HealthOfServices { stop: stop.clone() };
        let (reflection, reflection_alpha) = discovery::reflections()?;
        let (accepting, callers) = socket::accept(listener, stop.clone());
        // A forwarder has one connection for everybody, and keeps the bound itself.
        let streams = (!behind_forwarder).then_some(STREAMS_PER_CONNECTION);
        let serving = Server::builder()
            .max_concurrent_streams(streams)
            .concurrency_limit_per_connection(CALLS_PER_CONNECTION)
            .add_service(FailoverServiceServer::new(failover).max_decoding_message_size(LARGEST_REQUEST))
            .add_service(EventsServiceServer::new(events).max_decoding_message_size(LARGEST_REQUEST))
            .add_service(ConnectionTestServiceServer::new(test).max_decoding_message_size(LARGEST_REQUEST))
            .add_service(HealthServer::new(health).max_decoding_message_size(LARGEST_REQUEST))
            .add_service(reflection.max_decoding_message_size(LARGEST_REQUEST))
            .add_service(reflection_alpha.max_decoding_message_size(LARGEST_REQUEST))
            .add_optional_service(certificates)
            .serve_with_incoming_shutdown(ReceiverStream::new(callers), stop.clone().cancelled_owned());
        let outcome = serve_until(stop.cancelled(), DRAIN, accepting, serving).await;
        outcome.map_err(RunError::from)
    }
}
