//! Calls that are handed on by another process: nothing is lost on the way, and a duty service that is away is said.

use onduty_api::wire::trust::v1::ListCertificatesRequest;
use onduty_api::wire::trust::v1::certificate_service_client::CertificateServiceClient;

use super::*;
use crate::forward;

/// The operators' socket in front of a node.
struct Front {
    socket: PathBuf,
    _serving: JoinHandle<Result<(), RunError>>,
}

fn front(node: &Node) -> Front {
    let socket = node.folder.path().join("front.sock");
    let forwarder = forward::build(&socket, &node.socket, &socket.with_file_name("trust.sock")).unwrap();
    Front { socket, _serving: tokio::spawn(forwarder.run(CancellationToken::new())) }
}

impl Front {
    fn failover(&self) -> FailoverServiceClient<Channel> {
        FailoverServiceClient::new(onduty_api::unix_channel::lazy(&self.socket))
    }
}

#[tokio::test]
async fn answers_refusals_and_streams_are_those_of_the_node() {
    let node = Node::start();
    let front = front(&node);
    let mode = std::fs::metadata(&front.socket).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let status = front.failover().get_status(GetStatusRequest {}).await.unwrap().into_inner().status;
    assert!(status.is_some());
    let (direct, passed) = (
        node.failover().await.switchover(SwitchoverRequest::default()).await.unwrap_err(),
        front.failover().switchover(SwitchoverRequest::default()).await.unwrap_err(),
    );
    assert_eq!(
        (passed.code(), passed.message(), passed.details()),
        (direct.code(), direct.message(), direct.details())
    );
    let mut watch = front.failover().watch_status(WatchStatusRequest::default()).await.unwrap().into_inner();
    assert!(timeout(LIMIT, watch.next()).await.unwrap().unwrap().is_ok());
    let channel = onduty_api::unix_channel::lazy(&front.socket);
    let none = ConnectionTestServiceClient::new(channel).test(TestRequest {}).await.unwrap_err();
    assert_eq!((none.code(), none.message()), (Code::FailedPrecondition, "dials nobody"));
    let channel = onduty_api::unix_channel::lazy(&front.socket);
    let events = EventsServiceClient::new(channel).list_events(ListEventsRequest::default()).await;
    assert!(!events.unwrap().into_inner().events.is_empty());
}

#[tokio::test]
async fn who_asks_is_told_by_the_forwarder_and_by_nobody_else() {
    let asked = || {
        let duration = prost_types::Duration { seconds: 60, nanos: 0 };
        let reason = "cables".to_owned();
        let mut request = tonic::Request::new(SetMaintenanceRequest { reason, duration: Some(duration) });
        request.metadata_mut().insert("onduty-caller", "somebody-else".parse().unwrap());
        request
    };
    let by = |answer: onduty_api::wire::failover::v1::SetMaintenanceResponse| {
        answer.maintenance.unwrap().window.unwrap().by
    };
    let own = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap().name;
    let alone = Node::start();
    let answer = alone.failover().await.set_maintenance(asked()).await.unwrap().into_inner();
    assert_eq!(by(answer), own, "a caller's own word counts nothing");
    let node = Node::start_as(Kind { behind_forwarder: true, ..Kind::default() });
    let direct = node.failover().await.set_maintenance(asked()).await.unwrap().into_inner();
    assert_eq!(by(direct), "somebody-else", "what a forwarder says is taken");
    let forwarded = front(&node).failover().set_maintenance(asked()).await.unwrap().into_inner();
    assert_eq!(by(forwarded), own, "and a forwarder says what the kernel says");
}

#[tokio::test]
async fn a_duty_service_that_is_away_is_said_and_one_that_comes_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let (socket, duty) = (folder.path().join("front.sock"), folder.path().join("duty.sock"));
    let forwarder = forward::build(&socket, &duty, &socket.with_file_name("trust.sock")).unwrap();
    let stop = CancellationToken::new();
    let serving = tokio::spawn(forwarder.run(stop.clone()));
    let mut client = FailoverServiceClient::new(onduty_api::unix_channel::lazy(&socket));
    let away = client.get_status(GetStatusRequest {}).await.unwrap_err();
    assert_eq!(away.code(), Code::Unavailable);
    assert!(away.message().contains("the duty service of this node is away"), "{away:?}");
    let mut certificates = CertificateServiceClient::new(onduty_api::unix_channel::lazy(&socket));
    let away = certificates.list_certificates(ListCertificatesRequest::default()).await.unwrap_err();
    assert_eq!(away.code(), Code::Unavailable);
    assert!(away.message().ends_with("does certificate-trust run?"), "{away:?}");

    let node = Node::start();
    std::os::unix::fs::symlink(&node.socket, &duty).unwrap();
    client.get_status(GetStatusRequest {}).await.unwrap();
    stop.cancel();
    assert!(timeout(LIMIT, serving).await.unwrap().unwrap().is_ok());
    assert!(!socket.exists());
}

/// A duty service that sends the beginning of an answer and is gone.
#[tokio::test]
async fn a_stream_that_breaks_off_ends_with_a_status_and_details_pass() {
    use onduty_api::wire::events::v1::events_service_server::{EventsService, EventsServiceServer};
    use onduty_api::wire::events::v1::{ListEventsResponse, WatchEventsResponse};
    use tonic::{Request, Response, Status};

    struct Breaking;

    #[tonic::async_trait]
    impl EventsService for Breaking {
        type WatchEventsStream =
            std::pin::Pin<Box<dyn futures_util::Stream<Item = Result<WatchEventsResponse, Status>> + Send>>;

        async fn list_events(
            &self,
            request: Request<ListEventsRequest>,
        ) -> Result<Response<ListEventsResponse>, Status> {
            assert!(request.metadata().get("grpc-timeout").is_some(), "the caller's deadline comes along");
            Err(onduty_api::errors::with_reason(Code::Aborted, "SOME_REASON", "a sentence"))
        }

        async fn watch_events(
            &self,
            _request: Request<WatchEventsRequest>,
        ) -> Result<Response<Self::WatchEventsStream>, Status> {
            let first = futures_util::stream::once(async { Ok(WatchEventsResponse::default()) });
            Ok(Response::new(Box::pin(first.chain(futures_util::stream::pending()))))
        }
    }

    let folder = tempfile::tempdir().unwrap();
    let [socket, duty, real] = ["front.sock", "duty.sock", "real.sock"].map(|name| folder.path().join(name));
    let listener = tokio::net::UnixListener::bind(&real).unwrap();
    let streams = tokio_stream::wrappers::UnixListenerStream::new(listener);
    let server = tonic::transport::Server::builder().add_service(EventsServiceServer::new(Breaking));
    let _serving = tokio::spawn(server.serve_with_incoming(streams));
    // What lies between, so that it can be cut.
    let between = tokio::net::UnixListener::bind(&duty).unwrap();
    let line = tokio::spawn(async move {
        let (mut caller, _) = between.accept().await.unwrap();
        let mut called = UnixStream::connect(real).await.unwrap();
        tokio::io::copy_bidirectional(&mut caller, &mut called).await
    });
    let forwarder = forward::build(&socket, &duty, &socket.with_file_name("trust.sock")).unwrap();
    let _forwarding = tokio::spawn(forwarder.run(CancellationToken::new()));
    let mut client = EventsServiceClient::new(onduty_api::unix_channel::lazy(&socket));
    let mut request = Request::new(ListEventsRequest::default());
    request.set_timeout(LIMIT);
    let refused = client.list_events(request).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::Aborted, "a sentence"));
    assert_eq!(onduty_api::errors::reason(&refused).as_deref(), Some("SOME_REASON"));

    let mut watch = client.watch_events(WatchEventsRequest::default()).await.unwrap().into_inner();
    assert!(timeout(LIMIT, watch.next()).await.unwrap().unwrap().is_ok());
    line.abort();
    let broken = timeout(LIMIT, watch.next()).await.unwrap().unwrap().unwrap_err();
    assert_eq!(broken.code(), Code::Unavailable);
    assert!(broken.message().contains("the duty service of this node is away"), "{broken:?}");
}
