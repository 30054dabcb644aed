//! What general tools ask of any gRPC server: which services it has (gRPC reflection, so that `grpcurl` and its kin need no
//! files of ours), and whether they serve (`grpc.health.v1`).
//!
//! Health is about the services, not about the duty: a standby serves as well as an active node. Whether the pair is
//! redundant is `GetStatus`'s to say.

use onduty_api::wire::events::v1::events_service_server;
use onduty_api::wire::failover::v1::failover_service_server;
use onduty_api::wire::heartbeat::v1::connection_test_service_server;
use onduty_api::wire::trust::v1::certificate_service_server;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::{self, Health};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_reflection::pb::{v1, v1alpha};
use tonic_reflection::server::{Builder, Error};

/// What is served to operators, and shown to tools.
pub(crate) const SERVED: [&str; 7] = [
    failover_service_server::SERVICE_NAME,
    events_service_server::SERVICE_NAME,
    connection_test_service_server::SERVICE_NAME,
    certificate_service_server::SERVICE_NAME,
    health_server::SERVICE_NAME,
    v1::server_reflection_server::SERVICE_NAME,
    v1alpha::server_reflection_server::SERVICE_NAME,
];

/// Knows every message of ours, and shows the services that are served here.
pub(crate) fn reflection() -> Builder<'static> {
    let builder = Builder::configure()
        .register_encoded_file_descriptor_set(onduty_api::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(v1::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(v1alpha::FILE_DESCRIPTOR_SET);
    SERVED.into_iter().fold(builder, Builder::with_service_name)
}

/// Both versions of the reflection service: older tools only know `v1alpha`.
pub(crate) fn reflections() -> Result<
    (
        v1::server_reflection_server::ServerReflectionServer<
            impl v1::server_reflection_server::ServerReflection,
        >,
        v1alpha::server_reflection_server::ServerReflectionServer<
            impl v1alpha::server_reflection_server::ServerReflection,
        >,
    ),
    Error,
> {
    Ok((reflection().build_v1()?, reflection().build_v1alpha()?))
}

/// `grpc.health.v1.Health`: everything serves until the node stops.
#[derive(Debug)]
pub(crate) struct HealthOfServices {
    pub(crate) stop: CancellationToken,
}

impl HealthOfServices {
    /// The health of one service, or of all of them under the empty name.
    fn of(&self, service: &str) -> ServingStatus {
        if !service.is_empty() && !SERVED.contains(&service) {
            ServingStatus::ServiceUnknown
        } else if self.stop.is_cancelled() {
            ServingStatus::NotServing
        } else {
            ServingStatus::Serving
        }
    }
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

#[tonic::async_trait]
impl Health for HealthOfServices {
    type WatchStream = ReceiverStream<Result<HealthCheckResponse, Status>>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let service = request.into_inner().service;
        match self.of(&service) {
            ServingStatus::ServiceUnknown => {
                Err(Status::not_found(format!("there is no service `{service}` here")))
            }
            status @ (ServingStatus::Unknown | ServingStatus::Serving | ServingStatus::NotServing) => {
                Ok(Response::new(answer(status)))
            }
        }
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let now = self.of(&request.into_inner().service);
        // Two: the health now, and the one at the end.
        let (watcher, stream) = mpsc::channel(2);
        let stop = self.stop.clone();
        let _detached = tokio::spawn(async move {
            if watcher.send(Ok(answer(now))).await.is_err() {
                return;
            }
            // A service that is not known now never will be, but the rule is to keep the watcher all the same.
            tokio::select! {
                () = watcher.closed() => {}
                () = stop.cancelled() => {
                    if now == ServingStatus::Serving {
                        let _ = watcher.try_send(Ok(answer(ServingStatus::NotServing)));
                    }
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}
