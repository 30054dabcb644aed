//! A session as it should be, and how it ends and begins again.

use std::collections::{BTreeMap, BTreeSet};

use failover_core::{Input, State};
use tokio::time::Instant;

use crate::relay;
use crate::support::{KEY, Node, OTHER_KEY, keys, ms};

#[tokio::test]
async fn each_heartbeat_is_acknowledged_with_an_echo_of_its_stamp() {
    let (mut primary, mut secondary) = (Node::primary(), Node::secondary());
    secondary.interval = ms(20);
    let server = primary.serve().await;
    let _client = secondary.dial(server.address);
    assert_eq!(primary.proved().await.1, secondary.report.identity);
    assert_eq!(secondary.proved().await.1, primary.report.identity);

    let (mut stamps, mut acknowledged, mut newest) = (BTreeSet::new(), 0, BTreeMap::new());
    for _ in 0..300 {
        let acknowledgement = secondary.told("a beat", |input| match input {
            Input::BeatArrived { session, beat } => Some((session, beat)),
            _ => None,
        });
        let (session, ack) = acknowledgement.await;
        let before = newest.insert(session, ack.sequence);
        assert!(before.is_none_or(|before| before < ack.sequence), "sequences grow within a session");
        // What the secondary knows as acknowledged, the primary's driver has been told of before.
        while let Ok(input) = primary.driver.inputs.try_recv() {
            if let Input::BeatArrived { beat, .. } = input {
                stamps.insert(beat.stamp);
            }
        }
        if let Some(echo) = ack.echo {
            assert!(stamps.contains(&echo), "the echo of a stamp that was never sent");
            acknowledged += 1;
            if acknowledged == 10 {
                break;
            }
        }
    }
    assert_eq!(acknowledged, 10);
    assert!(primary.beat().await.echo.is_some(), "heartbeats echo the stamps of acknowledgements");
}

#[tokio::test]
async fn an_announcement_does_not_wait_for_the_interval() {
    let (mut primary, mut secondary) = (Node::primary(), Node::secondary());
    secondary.interval = ms(600_000);
    let server = primary.serve().await;
    let _client = secondary.dial(server.address);
    primary.proved().await;
    secondary.proved().await;
    for state in [State::TakingOver, State::Active] {
        let mut report = primary.report.clone();
        report.state = state;
        primary.driver.publish(report, true);
        while secondary.beat().await.report.state != state {}
        let mut report = secondary.report.clone();
        report.state = state;
        secondary.driver.publish(report, true);
        while primary.beat().await.report.state != state {}
    }
}

#[tokio::test]
async fn a_session_that_a_driver_closes_ends_on_both_sides_and_the_next_one_begins() {
    let (mut primary, mut secondary) = (Node::primary(), Node::secondary());
    let server = primary.serve().await;
    let _client = secondary.dial(server.address);
    let (at_primary, _) = primary.proved().await;
    let (at_secondary, _) = secondary.proved().await;
    primary.driver.close(at_primary);
    assert_eq!(primary.ended().await, (at_primary, "closed by this node".to_owned()));
    let (ended, cause) = secondary.ended().await;
    assert_eq!(ended, at_secondary);
    assert!(cause.contains("the other node has closed this session"), "{cause}");
    let (next, _) = secondary.proved().await;
    assert!(next > at_secondary);
    secondary.driver.close(next);
    assert_eq!(secondary.ended().await.0, next);
    assert!(secondary.proved().await.0 > next);
}

#[tokio::test]
#[allow(clippy::disallowed_methods, reason = "the whole link runs on this thread, which is to stand still")]
async fn heartbeats_that_were_left_out_are_told_because_their_silence_says_nothing() {
    let (primary, mut secondary) = (Node::primary(), Node::secondary());
    secondary.interval = ms(50);
    let server = primary.serve().await;
    let _client = secondary.dial(server.address);
    secondary.proved().await;
    secondary.beat().await;
    std::thread::sleep(ms(400));
    let gap = secondary.told("the gap", |input| match input {
        Input::Stalled { late_by } => Some(late_by),
        _ => None,
    });
    let late_by = gap.await;
    assert!(late_by >= ms(300), "{late_by:?}");
}

#[tokio::test]
async fn a_restarted_server_is_found_within_two_intervals() {
    let (mut primary, mut secondary) = (Node::primary(), Node::secondary());
    secondary.interval = ms(100);
    let server = primary.serve().await;
    let address = server.address;
    let _client = secondary.dial(address);
    secondary.proved().await;
    server.stop().await;
    secondary.ended().await;
    secondary.dialled().await;
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let begun = Instant::now();
    let _server = primary.serve_on(listener);
    secondary.proved().await;
    primary.proved().await;
    // 2·I + 200 ms, three times over for a loaded machine.
    assert!(begun.elapsed() < ms(3 * 400), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_half_dead_session_is_replaced() {
    let (mut primary, mut secondary) = (Node::primary(), Node::secondary());
    secondary.interval = ms(50);
    let server = primary.serve().await;
    let (wire, alive_from) = relay::wire(server.address).await;
    let _client = secondary.dial(wire);
    let (first, _) = secondary.proved().await;
    secondary.beat().await;
    // The first connection now holds every byte, and stays open.
    alive_from.send_replace(1);
    let (second, _) = secondary.proved().await;
    assert!(second > first);
    assert_eq!(secondary.ended().await, (first, "replaced by a newer session".to_owned()));
    primary.proved().await;
    primary.proved().await;
    secondary.beat().await;
}

#[tokio::test]
async fn a_node_that_stops_says_a_last_word() {
    let (mut primary, mut secondary) = (Node::primary(), Node::secondary());
    secondary.interval = ms(600_000);
    let server = primary.serve().await;
    let client = secondary.dial(server.address);
    primary.proved().await;
    secondary.proved().await;
    primary.beat().await;
    let mut report = secondary.report.clone();
    report.state = State::Yielding;
    // Published, not announced: only the last word carries it.
    secondary.driver.publish(report, false);
    client.stop().await;
    assert_eq!(primary.beat().await.report.state, State::Yielding);
    assert_eq!(primary.ended().await.1, "the peer ended it");
    assert_eq!(secondary.ended().await.1, "this node stops");

    let client = secondary.dial(server.address);
    secondary.proved().await;
    let mut report = primary.report.clone();
    report.state = State::Yielding;
    primary.driver.publish(report, false);
    server.stop().await;
    while secondary.beat().await.report.state != State::Yielding {}
    assert!(secondary.ended().await.1.contains("stops"));
    client.stop().await;
}

#[tokio::test]
async fn keys_are_rotated_in_any_order() {
    for (at_primary, at_secondary) in [
        (keys(OTHER_KEY, Some(KEY)), keys(KEY, None)),
        (keys(KEY, None), keys(OTHER_KEY, Some(KEY))),
        (keys(OTHER_KEY, Some(KEY)), keys(OTHER_KEY, Some(KEY))),
        (keys(KEY, Some(OTHER_KEY)), keys(OTHER_KEY, Some(KEY))),
    ] {
        let (mut primary, mut secondary) = (Node::primary(), Node::secondary());
        primary.keys = at_primary;
        secondary.keys = at_secondary;
        let server = primary.serve().await;
        let client = secondary.dial(server.address);
        secondary.proved().await;
        primary.proved().await;
        let both = [server.handle.keys(), client.handle.keys()];
        let [at_primary, at_secondary] = both.map(|keys| {
            let used = keys.states().into_iter().find(|state| state.in_use).unwrap();
            used.fingerprint
        });
        assert_eq!(at_primary, at_secondary, "both know which key it is");
    }
}

#[tokio::test]
async fn a_name_is_looked_up_and_every_address_tried() {
    let (primary, mut secondary) = (Node::primary(), Node::secondary());
    let server = primary.serve().await;
    // `localhost` may be ::1 as well, where nobody listens.
    let (client, _handle) = secondary.client_of(&format!("https://localhost:{}", server.address.port()));
    let stop = tokio_util::sync::CancellationToken::new();
    let task = tokio::spawn(client.run(stop.clone()));
    secondary.proved().await;
    stop.cancel();
    task.await.unwrap();
}
