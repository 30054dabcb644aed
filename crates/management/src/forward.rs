//! The operators' socket in a process of its own: hands every call on to the process that has the driver.
//!
//! ```text
//!   onduty status … ──► onduty.sock (this process) ─┬► run/duty.sock (the heartbeat's process)
//!   onduty certs … ───►                             └► run/certificate-trust.sock
//! ```
//!
//! Messages are not looked into. Deadlines (`grpc-timeout`), streams in both directions, statuses and their details pass as
//! they are, because they are headers, frames and trailers of HTTP/2. One header is added, who the caller is. Only one thing is said by this process itself: that
//! the service which is asked is away, as `UNAVAILABLE` with a sentence, also in the middle of a stream.

use std::convert::Infallible;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use onduty_api::caller::{CALLER, at_the_other_end};
use onduty_api::unix_channel;
use onduty_api::unix_server::serve_until;
use onduty_api::wire::events::v1::events_service_server;
use onduty_api::wire::failover::v1::failover_service_server;
use onduty_api::wire::heartbeat::v1::connection_test_service_server;
use onduty_api::wire::trust::v1::certificate_service_server;
use service_kit::unix_socket::{Access, Socket, SocketError};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::transport::{Channel, Server};
use tonic_health::pb::health_server;
use tonic_reflection::pb::v1::server_reflection_server as reflection;
use tonic_reflection::pb::v1alpha::server_reflection_server as reflection_alpha;
use tower::ServiceExt as _;

use crate::service::STREAMS_PER_CONNECTION;
use crate::{RunError, socket};

/// How long the stop waits for calls under way.
const DRAIN: Duration = Duration::from_secs(1);

/// The operators' socket, and where its calls go.
#[derive(Debug)]
pub struct Forwarder {
    listener: Socket,
    duty: PathBuf,
    trust: PathBuf,
}

/// Makes the operators' socket; nothing is served before [`Forwarder::run`]. Must be called inside a runtime. Whether the
/// duty and the trust service are there does not matter.
///
/// # Errors
///
/// When the socket cannot be made, or another node answers on it.
pub fn build(operators: &Path, duty: &Path, trust: &Path) -> Result<Forwarder, SocketError> {
    let listener = Socket::bind(operators, Access::Owner)?;
    Ok(Forwarder { listener, duty: duty.to_path_buf(), trust: trust.to_path_buf() })
}

impl Forwarder {
    /// Serves until `stop`, then waits a moment for calls under way and removes the socket.
    ///
    /// # Errors
    ///
    /// When the server fails.
    pub async fn run(self, stop: CancellationToken) -> Result<(), RunError> {
        let Self { listener, duty, trust } = self;
        // Made when they are needed, and again after a service was away.
        let duty = Target { channel: unix_channel::lazy(&duty), away: DUTY_AWAY };
        let trust = Target { channel: unix_channel::lazy(&trust), away: TRUST_AWAY };
        let (accepting, callers) = socket::accept(listener, stop.clone());
        let serving = Server::builder()
            .max_concurrent_streams(STREAMS_PER_CONNECTION)
            .add_service(Forward::<FailoverService>::new(duty.clone()))
            .add_service(Forward::<EventsService>::new(duty.clone()))
            .add_service(Forward::<ConnectionTestService>::new(duty.clone()))
            .add_service(Forward::<Health>::new(duty.clone()))
            .add_service(Forward::<Reflection>::new(duty.clone()))
            .add_service(Forward::<ReflectionAlpha>::new(duty))
            .add_service(Forward::<CertificateService>::new(trust))
            .serve_with_incoming_shutdown(ReceiverStream::new(callers), stop.clone().cancelled_owned());
        let outcome = serve_until(stop.cancelled(), DRAIN, accepting, serving).await;
        outcome.map_err(RunError::from)
    }
}

macro_rules! named {
    ($($service:ident => $module:ident),+) => {
        $(#[derive(Clone, Copy, Debug)]
        struct $service;

        impl NamedService for $service {
            const NAME: &'static str = $module::SERVICE_NAME;
        })+
    };
}

named! {
    FailoverService => failover_service_server,
    EventsService => events_service_server,
    ConnectionTestService => connection_test_service_server,
    Health => health_server,
    Reflection => reflection,
    ReflectionAlpha => reflection_alpha,
    CertificateService => certificate_service_server
}

/// Where a service is, and who is away when it is not there.
#[derive(Clone, Debug)]
struct Target {
    channel: Channel,
    away: Absent,
}

/// The service that is asked, and what to look for when it does not answer.
#[derive(Clone, Copy, Debug)]
struct Absent {
    service: &'static str,
    ask: &'static str,
}

const DUTY_AWAY: Absent =
    Absent { service: "the duty service", ask: "does heartbeat-server or heartbeat-client run?" };
const TRUST_AWAY: Absent =
    Absent { service: "the certificate-trust service", ask: "does certificate-trust run?" };

/// One service, handed on.
struct Forward<N> {
    target: Target,
    service: PhantomData<fn() -> N>,
}

impl<N> Forward<N> {
    const fn new(target: Target) -> Self {
        Self { target, service: PhantomData }
    }
}

impl<N> Clone for Forward<N> {
    fn clone(&self) -> Self {
        Self::new(self.target.clone())
    }
}

impl<N: NamedService> NamedService for Forward<N> {
    const NAME: &'static str = N::NAME;
}

impl<N> tower::Service<http::Request<Body>> for Forward<N> {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        // Whatever the caller says of itself is replaced by the kernel's word.
        let _said = request.headers_mut().remove(CALLER);
        if let Ok(caller) = http::HeaderValue::from_str(&at_the_other_end(request.extensions())) {
            let _none = request.headers_mut().insert(CALLER, caller);
        }
        let Target { channel, away } = self.target.clone();
        Box::pin(async move {
            Ok(match channel.oneshot(request).await {
                Ok(response) => response.map(|body| Body::new(Watched { body, away, over: false })),
                Err(error) => away.status(&error).into_http(),
            })
        })
    }
}

impl Absent {
    /// What a caller hears instead of an answer.
    fn status(self, error: &(dyn std::error::Error + 'static)) -> Status {
        let mut innermost = error;
        while let Some(cause) = innermost.source() {
            innermost = cause;
        }
        Status::unavailable(format!("{} of this node is away ({innermost}): {}", self.service, self.ask))
    }
}

/// An answer on its way; when it breaks off, the caller is told as a status instead of by a torn connection.
struct Watched {
    body: Body,
    away: Absent,
    over: bool,
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.over {
            return Poll::Ready(None);
        }
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) else { return Poll::Pending };
        Poll::Ready(match frame {
            Some(Err(broken)) => {
                self.over = true;
                let mut trailers = http::HeaderMap::new();
                let told = self.away.status(&broken).add_header(&mut trailers);
                Some(told.map(|()| Frame::trailers(trailers)))
            }
            Some(Ok(frame)) => {
                self.over = frame.is_trailers();
                Some(Ok(frame))
            }
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.over || self.body.is_end_stream()
    }
}
