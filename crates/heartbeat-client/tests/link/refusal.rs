//! Peers that are not let in, and what each side is told.

use certificate_trust::TrustMode;
use failover_core::{DialOutcome, Input, Role};
use onduty_api::wire;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tonic::Code;

use crate::relay;
use crate::stranger::{Stranger, connect, hello, origin};
use crate::support::{Node, OTHER_KEY, keys, ms};

/// Dials once; the outcome must be unproved, for a reason that contains `reason`.
async fn is_unproved(secondary: &mut Node, reason: &str) {
    match secondary.dialled().await {
        DialOutcome::Unproved(seen) => assert!(seen.contains(reason), "{seen}"),
        DialOutcome::Silent(seen) => panic!("silent: {seen}"),
    }
}

async fn is_silent(secondary: &mut Node, reason: &str) {
    match secondary.dialled().await {
        DialOutcome::Silent(seen) => assert!(seen.contains(reason), "{seen}"),
        DialOutcome::Unproved(seen) => panic!("unproved: {seen}"),
    }
}

/// The driver of a node that nobody could prove anything to has heard nothing at all (I7).
fn heard_nothing(primary: &mut Node) {
    assert!(primary.driver.inputs.try_recv().is_err(), "an unproved peer changed something");
}

#[tokio::test]
async fn another_key_is_refused_without_a_reason_for_strangers() {
    let (mut primary, mut secondary) = (Node::primary(), Node::secondary());
    secondary.keys = keys(OTHER_KEY, None);
    let server = primary.serve().await;
    let _client = secondary.dial(server.address);
    is_unproved(&mut secondary, "the two nodes have different keys").await;
    primary.rejected("key_mismatch", 1).await;
    heard_nothing(&mut primary);

    let mut stranger = Stranger::call(&secondary, server.address).await;
    stranger.prove(hello(&secondary), &secondary.keys).await;
    let status = stranger.end().await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    assert_eq!(onduty_api::errors::reason(&status), None);
}

#[tokio::test]
async fn who_knows_the_key_is_told_the_reason() {
    type Change = fn(&mut Node);
    let changes: [(&str, &str, Change); 3] = [
        ("pair_mismatch", "redundancy.pair", |secondary| secondary.pair = "another".to_owned()),
        ("binding_mismatch", "redundancy.channel_binding", |secondary| secondary.channel_bound = false),
        ("selfie", "leads back to this very node", |secondary| *secondary = Node::new(Role::Secondary, 1)),
    ];
    for (code, reason, change) in changes {
        let (mut primary, mut secondary) = (Node::primary(), Node::secondary());
        change(&mut secondary);
        let server = primary.serve().await;
        if code != "selfie" {
            let _client = secondary.dial(server.address);
            is_unproved(&mut secondary, reason).await;
            primary.rejected(code, 1).await;
        }
        // Also a client that does not mind is refused, and told why.
        let mut stranger = Stranger::call(&secondary, server.address).await;
        stranger.prove(hello(&secondary), &secondary.keys).await;
        let status = stranger.end().await.unwrap_err();
        assert_eq!(onduty_api::errors::refusal(&status).map(onduty_api::errors::Refusal::code), Some(code));
        heard_nothing(&mut primary);

        // And one with another key is not told.
        let mut stranger = Stranger::call(&secondary, server.address).await;
        stranger.prove(hello(&secondary), &keys(OTHER_KEY, None)).await;
        assert_eq!(onduty_api::errors::reason(&stranger.end().await.unwrap_err()), None);
    }
}

#[tokio::test]
async fn a_node_that_dials_itself_sees_that() {
    let mut node = Node::secondary();
    let server = node.serve().await;
    let _client = node.dial(server.address);
    is_unproved(&mut node, "leads back to this very node").await;
}

#[tokio::test]
async fn two_primaries_prove_the_key_and_the_drivers_decide() {
    let (mut primary, mut other) = (Node::primary(), Node::new(Role::Primary, 7));
    let server = primary.serve().await;
    let _client = other.dial(server.address);
    let role = primary.told("a session", |input| match input {
        Input::SessionProved { role, .. } => Some(role),
        _ => None,
    });
    assert_eq!(role.await, Role::Primary);
    other.proved().await;
}

#[tokio::test]
async fn a_man_in_the_middle_is_noticed_by_both() {
    let (mut primary, mut secondary, evil) =
        (Node::primary(), Node::secondary(), Node::new(Role::Primary, 66));
    let server = primary.serve().await;
    let between = relay::man_in_the_middle(evil.acceptor(), evil.connector(), server.address).await;
    let _client = secondary.dial(between);
    is_unproved(&mut secondary, "the TLS connection ends between the two nodes").await;
    primary.rejected("tls_terminated_between", 1).await;
    heard_nothing(&mut primary);
}

#[tokio::test]
async fn a_proxy_that_ends_tls_can_be_allowed_on_both_sides() {
    let (mut primary, mut secondary, proxy) =
        (Node::primary(), Node::secondary(), Node::new(Role::Primary, 66));
    primary.channel_bound = false;
    secondary.channel_bound = false;
    let server = primary.serve().await;
    let between = relay::man_in_the_middle(proxy.acceptor(), proxy.connector(), server.address).await;
    let _client = secondary.dial(between);
    secondary.proved().await;
    primary.proved().await;
}

#[tokio::test]
async fn a_replayed_proof_is_refused() {
    let (mut primary, secondary) = (Node::primary(), Node::secondary());
    let server = primary.serve().await;
    let mut honest = Stranger::call(&secondary, server.address).await;
    let recorded = honest.prove(hello(&secondary), &secondary.keys).await;
    primary.proved().await;
    let mut thief = Stranger::call(&secondary, server.address).await;
    for frame in recorded {
        thief.send(frame).await;
    }
    assert_eq!(thief.end().await.unwrap_err().code(), Code::Unauthenticated);
    primary.rejected("key_mismatch", 1).await;
}

#[tokio::test]
async fn a_fake_server_without_the_key_is_not_believed() {
    // It lets everybody in, but cannot prove that it knows the key: it answers with the client's own proof.
    let (fake, mut secondary) = (Node::primary(), Node::secondary());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = fake.acceptor();
    let identity = fake.report.identity.clone();
    tokio::spawn(async move {
        loop {
            let (io, _) = listener.accept().await.unwrap();
            let (io, _) = acceptor.accept(io).await.unwrap();
            let service = crate::hostile::Impostor { identity: identity.clone() };
            let service = wire::heartbeat::v1::heartbeat_service_server::HeartbeatServiceServer::new(service);
            let service = hyper_util::service::TowerToHyperService::new(service);
            let executor = hyper_util::rt::TokioExecutor::new();
            let http = hyper::server::conn::http2::Builder::new(executor);
            tokio::spawn(http.serve_connection(hyper_util::rt::TokioIo::new(io), service));
        }
    });
    let _client = secondary.dial(address);
    is_unproved(&mut secondary, "does not know the key although it claims to").await;
}

#[tokio::test]
async fn an_unknown_certificate_is_refused_with_what_to_do() {
    let (primary, mut secondary) = (Node::primary(), Node::secondary());
    secondary.trust = TrustMode::Store;
    let server = primary.serve().await;
    let _client = secondary.dial(server.address);
    is_unproved(&mut secondary, "then trust it with `onduty certs trust`").await;
}

#[tokio::test]
async fn no_answer_is_silence_and_says_which() {
    let mut secondary = Node::secondary();
    secondary.takeover_after = ms(600);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let client = secondary.dial(address);
    is_silent(&mut secondary, "did not answer in time during the TLS handshake").await;
    client.stop().await;
    while secondary.driver.inputs.try_recv().is_ok() {}
    drop(listener);
    let _client = secondary.dial(address);
    is_silent(&mut secondary, "refused the connection").await;
}

/// Answers each connection with these bytes and closes it.
pub(crate) async fn answering(bytes: &'static [u8]) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut io, _) = listener.accept().await.unwrap();
            io.write_all(bytes).await.unwrap();
            io.shutdown().await.unwrap();
            // Read what comes, so that closing does not reset what was sent.
            tokio::spawn(async move { tokio::io::copy(&mut io, &mut tokio::io::sink()).await });
        }
    });
    address
}

#[tokio::test]
async fn a_wrong_answer_is_unproved_and_a_hang_up_is_silence() {
    let mut secondary = Node::secondary();
    let _client = secondary.dial(answering(b"HTTP/1.1 400 Bad Request\r\n\r\n").await);
    is_unproved(&mut secondary, "does not speak TLS").await;
    let mut secondary = Node::secondary();
    let _client = secondary.dial(answering(b"").await);
    is_silent(&mut secondary, "closed the connection during the TLS handshake").await;
    let mut secondary = Node::secondary();
    let _client = secondary.dial(answering(b"ONDUTY-TOMBSTONE/1\n12345678").await);
    is_silent(&mut secondary, "its guard answers instead").await;
}

#[tokio::test]
async fn every_other_call_is_unimplemented() {
    let (primary, secondary) = (Node::primary(), Node::secondary());
    let server = primary.serve().await;
    for path in [
        "/onduty.failover.v1.FailoverService/GetStatus",
        "/onduty.failover.v1.FailoverService/Switchover",
        "/onduty.failover.v1.FailoverService/Stop",
        "/onduty.events.v1.EventsService/ListEvents",
        "/onduty.plugin.v1.PluginSupervisorService/FollowDuty",
        "/onduty.heartbeat.v1.ConnectionTestService/Test",
        "/onduty.heartbeat.v1.HeartbeatService/Other",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/",
    ] {
        let (mut channel, _) = connect(&secondary, server.address, 65_535).await;
        let request = http::Request::post(format!("{}{}", origin().to_string().trim_end_matches('/'), path))
            .header("content-type", "application/grpc")
            .body(tonic::body::Body::empty())
            .unwrap();
        let response = channel.0.send_request(request).await.unwrap();
        assert_eq!(
            response.headers().get("grpc-status").map(|status| status.as_bytes()),
            Some(&b"12"[..]),
            "{path}"
        );
    }
}
