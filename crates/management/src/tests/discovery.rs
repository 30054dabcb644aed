//! What general tools ask: reflection and health, on the node's socket and through the forwarder.

use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use super::*;
use crate::discovery::SERVED;
use crate::forward;

fn asking(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}

async fn reflected(channel: Channel, question: MessageRequest) -> MessageResponse {
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(question) };
    let asked = futures_util::stream::iter([request]);
    let mut answers =
        ServerReflectionClient::new(channel).server_reflection_info(asked).await.unwrap().into_inner();
    timeout(LIMIT, answers.message()).await.unwrap().unwrap().unwrap().message_response.unwrap()
}

#[tokio::test]
async fn every_service_that_is_shown_is_described_and_serves() {
    let node = Node::start();
    let socket = node.folder.path().join("front.sock");
    let forwarder = forward::build(&socket, &node.socket, &socket.with_file_name("trust.sock")).unwrap();
    let _serving = tokio::spawn(forwarder.run(CancellationToken::new()));
    for channel in [node.channel().await, onduty_api::unix_channel::lazy(&socket)] {
        let listed = reflected(channel.clone(), MessageRequest::ListServices(String::new())).await;
        let MessageResponse::ListServicesResponse(listed) = listed else { panic!("{listed:?}") };
        let mut names: Vec<String> = listed.service.into_iter().map(|service| service.name).collect();
        names.sort();
        let mut served = SERVED.map(str::to_owned);
        served.sort();
        assert_eq!(names, served);
        let mut health = HealthClient::new(channel.clone());
        for name in names.iter().map(String::as_str).chain([""]) {
            if !name.is_empty() {
                let question = MessageRequest::FileContainingSymbol(name.to_owned());
                let found = reflected(channel.clone(), question).await;
                assert!(matches!(found, MessageResponse::FileDescriptorResponse(_)), "{name}: {found:?}");
            }
            let status = health.check(asking(name)).await.unwrap().into_inner().status();
            assert_eq!(status, ServingStatus::Serving, "{name}");
        }
        let unknown = health.check(asking("onduty.none.v1.NoService")).await.unwrap_err();
        assert_eq!(unknown.code(), Code::NotFound);
    }
}

#[tokio::test]
async fn a_watcher_of_the_health_hears_the_end_and_does_not_hold_it_up() {
    let node = Node::start();
    let mut health = HealthClient::new(node.channel().await);
    let mut watched = health.watch(asking("")).await.unwrap().into_inner();
    let mut unknown = health.watch(asking("none")).await.unwrap().into_inner();
    assert_eq!(watched.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    assert_eq!(unknown.message().await.unwrap().unwrap().status(), ServingStatus::ServiceUnknown);
    node.stop.cancel();
    assert_eq!(
        timeout(LIMIT, watched.message()).await.unwrap().unwrap().unwrap().status(),
        ServingStatus::NotServing
    );
    assert!(timeout(LIMIT, watched.message()).await.unwrap().unwrap().is_none());
    assert!(timeout(LIMIT, unknown.message()).await.unwrap().unwrap().is_none());
    timeout(LIMIT, node.serving).await.expect("an end in time").unwrap().unwrap();
}
