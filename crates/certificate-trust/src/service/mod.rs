//! certificate-trust as a service: the other services of the node watch its bundle and decide by themselves, and operators look
//! after the certificates.
//!
//! ```text
//!   heartbeat ─ BundleFollower ─── WatchBundle, ReportUnknown ──►┐
//!                                                                ├─ run/certificate-trust.sock ─► PKI folders
//!   operators ─ management ──────── CertificateService ─────────►┘
//! ```
//!
//! In a node of one process there is no such socket: [`Certificates`] is then served by management, beside the other
//! operators' services, and the bundle stays in memory. The command line uses the same [`Certificates`] on the folders of
//! a node that does not run, so that there is one set of rules and words.

mod bundles;
mod certificates;
mod convert;
mod follower;
mod notices;
mod refusals;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use onduty_api::trust::MAX_REQUEST;
use onduty_api::unix_server::{hand_over, serve_until};
use onduty_api::wire::trust::v1::certificate_service_server::CertificateServiceServer;
use onduty_api::wire::trust::v1::trust_bundle_service_server::TrustBundleServiceServer;
use service_kit::Clock;
use service_kit::unix_socket::{Access, Socket, SocketError};
use thiserror::Error;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

pub use certificates::{CertificateOptions, Certificates, ChangeRecorder, Operators};
pub use follower::{BundleFollower, FollowOptions, Following, NoticeRecorder};
pub use onduty_api::trust::Notice;

use crate::TrustFolders;
use bundles::Bundles;
use notices::Notices;

/// The socket's name in the run folder.
pub const SOCKET: &str = "certificate-trust.sock";

/// Services of the node and forwarded operators at the same time; when full one that is silent gives way to the next.
const CONNECTIONS: usize = 32;
/// Calls at the same time on one connection; a forwarder has one for all its operators.
const CALLS_PER_CONNECTION: usize = 64;
/// How long the end waits for calls under way.
const DRAIN: Duration = Duration::from_secs(1);

/// What the service is made of.
#[derive(Debug)]
pub struct Options {
    /// Where the socket is to be.
    pub socket: PathBuf,
    /// The folders, with the node's own certificate.
    pub folders: TrustFolders,
    /// The clock.
    pub clock: Clock,
    /// The names that a certificate of this node is made for.
    pub names: Vec<String>,
}

/// Why there is no service.
#[derive(Debug, Error)]
pub enum BuildError {
    /// The socket cannot be made.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The operating system gives no random bytes.
    #[error("the operating system gives no random bytes: {0}")]
    Random(getrandom::Error),
}

/// Why the service ended by itself.
#[derive(Debug, Error)]
#[error("serving certificates")]
pub struct RunError(#[from] tonic::transport::Error);

/// The service; [`TrustService::run`] it.
#[derive(Debug)]
pub struct TrustService {
    socket: Socket,
    instance: [u8; 16],
    options: Options,
}

/// Makes the socket; nothing is served before [`TrustService::run`]. Must be called inside a runtime.
///
/// # Errors
///
/// When the socket cannot be made, or another one answers on it.
pub fn build(options: Options) -> Result<TrustService, BuildError> {
    let socket = Socket::bind(&options.socket, Access::Owner)?;
    let mut instance = [0; 16];
    getrandom::fill(&mut instance).map_err(BuildError::Random)?;
    Ok(TrustService { socket, instance, options })
}

impl TrustService {
    /// Serves until `stop`, then ends every stream, waits a moment for calls under way and removes the socket.
    ///
    /// # Errors
    ///
    /// When the server fails.
    pub async fn run(self, stop: CancellationToken) -> Result<(), RunError> {
        let Self { socket, instance, options } = self;
        let Options { socket: _, folders, clock, names } = options;
        let notices = Notices::new();
        let told = notices.clone();
        let times = clock.clone();
        let certificates = Certificates::new(CertificateOptions {
            folders: folders.clone(),
            operators: Operators::Forwarded,
            names,
            clock: clock.clone(),
            record: Arc::new(move |sentence| told.add(times.unix_millis(), sentence)),
        });
        let _renewing = tokio::spawn(certificates.clone().keep_renewed(stop.clone()));
        let bundles = Bundles::new(instance, folders, notices, clock, stop.clone());
        let socket = Arc::new(socket);
        let next = move || {
            let socket = Arc::clone(&socket);
            async move { socket.accept_allowed("the certificate-trust service's socket").await }
        };
        let (accepting, callers) = hand_over(next, CONNECTIONS);
        let accepting = stop.clone().run_until_cancelled_owned(accepting);
        let serving = Server::builder()
            .concurrency_limit_per_connection(CALLS_PER_CONNECTION)
            .add_service(TrustBundleServiceServer::new(bundles).max_decoding_message_size(MAX_REQUEST))
            .add_service(CertificateServiceServer::new(certificates).max_decoding_message_size(MAX_REQUEST))
            .serve_with_incoming_shutdown(ReceiverStream::new(callers), stop.clone().cancelled_owned());
        let outcome = serve_until(stop.cancelled(), DRAIN, accepting, serving).await;
        outcome.map_err(RunError)
    }
}
