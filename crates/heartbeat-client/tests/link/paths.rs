//! A pair on two network paths: a session over each, and none that waits for the other.

use std::net::SocketAddr;

use failover_core::{DialOutcome, Input, PathId, SessionId, Via};
use heartbeat_client::{Client, TokioNetwork};
use service_kit::settings::PeerAddresses;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::support::{Node, ms};

fn second() -> PathId {
    PathId::try_from(1).unwrap()
}

fn dial(secondary: &Node, to: [SocketAddr; 2]) -> CancellationToken {
    let [one, two] = to.map(|address| format!("https://{address}").parse().unwrap());
    let client: Client<TokioNetwork> = secondary.client_over(PeerAddresses::new(vec![one, two]).unwrap()).0;
    let stop = CancellationToken::new();
    tokio::spawn(client.run(stop.clone()));
    stop
}

async fn proved(node: &mut Node) -> (SessionId, Via) {
    node.told("a proved session", |input| match input {
        Input::SessionProved { session, via, .. } => Some((session, via)),
        _ => None,
    })
    .await
}

#[tokio::test]
async fn every_path_has_a_session_and_both_nodes_know_which() {
    let (mut primary, mut secondary) = (Node::primary(), Node::secondary());
    let (one, two) = (primary.serve().await, primary.serve().await);
    let stop = dial(&secondary, [one.address, two.address]);
    let mut here = [proved(&mut secondary).await.1, proved(&mut secondary).await.1];
    let mut there = [proved(&mut primary).await.1, proved(&mut primary).await.1];
    for told in [&mut here, &mut there] {
        told.sort_by_key(|via| via.path);
        assert_eq!(told.each_ref().map(|via| (via.path, via.paths)), [(PathId::FIRST, 2), (second(), 2)]);
    }
    assert_eq!(here[1].remote, two.address.to_string());
    assert_eq!(there[1].remote, "127.0.0.1");
    stop.cancel();
}

#[tokio::test]
async fn a_path_that_ends_is_dialled_again_and_the_other_goes_on() {
    let (primary, mut secondary) = (Node::primary(), Node::secondary());
    let (one, two) = (primary.serve().await, primary.serve().await);
    let stop = dial(&secondary, [one.address, two.address]);
    let sessions = [proved(&mut secondary).await, proved(&mut secondary).await];
    let of = |path| sessions.iter().find(|(_, via)| via.path == path).unwrap().0;
    let address = two.address;
    two.stop().await;
    assert_eq!(secondary.ended().await.0, of(second()));
    let refused = secondary.told("the dial of the second path", |input| match input {
        Input::DialFinished { path, outcome } => Some((path, outcome)),
        Input::SessionEnded { .. } => panic!("the first path has ended, too"),
        _ => None,
    });
    let (path, outcome) = refused.await;
    assert_eq!(path, second());
    assert!(matches!(outcome, DialOutcome::Silent(_)), "{outcome:?}");
    let first = of(PathId::FIRST);
    let beats = secondary.told("a beat over the first path", |input| match input {
        Input::BeatArrived { session, .. } => Some(session),
        Input::SessionEnded { .. } => panic!("the first path has ended, too"),
        _ => None,
    });
    assert_eq!(beats.await, first);
    let _again = primary.serve_on(TcpListener::bind(address).await.unwrap());
    assert_eq!(proved(&mut secondary).await.1.path, second());
    stop.cancel();
}

#[tokio::test]
async fn refusals_are_confirmed_only_when_every_path_is_refused() {
    let (primary, mut secondary) = (Node::primary(), Node::secondary());
    secondary.takeover_confirm = Some(ms(100));
    // The first path works; nothing listens behind the second.
    let one = primary.serve().await;
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let stop = dial(&secondary, [one.address, nobody]);
    for _ in 0..3 {
        let path = secondary.told("the dial of the second path", |input| match input {
            Input::DialFinished { path, .. } => Some(path),
            Input::RefusalConfirmed => panic!("confirmed while a path works"),
            _ => None,
        });
        assert_eq!(path.await, second());
    }
    one.stop().await;
    secondary
        .told("a confirmed refusal", |input| matches!(input, Input::RefusalConfirmed).then_some(()))
        .await;
    stop.cancel();
}
