//! The peer's manager dies, and something answers on its port: its guard, or somebody who plays it.

use failover_core::{Epoch, Input, TombstonePromise};
use heartbeat_client::TOMBSTONE_MAGIC;
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use crate::support::{Node, ms};

const SECRET: [u8; 32] = [0x5a; 32];
const EPOCH: Epoch = Epoch(12);

fn tombstone(epoch: Epoch, secret: [u8; 32]) -> Vec<u8> {
    [TOMBSTONE_MAGIC, &epoch.0.to_be_bytes(), &secret].concat()
}

/// A pair with a promise given, whose primary has just died; its port is in the hands of whoever is returned.
async fn bereft(secondary: &mut Node) -> (Node, TcpListener) {
    let mut primary = Node::primary();
    primary.report.epoch = Some(EPOCH);
    primary.report.tombstone = Some(TombstonePromise { epoch: EPOCH, sha256: Sha256::digest(SECRET).into() });
    primary.driver.publish(primary.report.clone(), false);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    port.set_nonblocking(true).unwrap();
    let kept = port.try_clone().unwrap();
    let server = primary.serve_on(TcpListener::from_std(port).unwrap());
    let (client, _) = secondary.client(server.address);
    tokio::spawn(client.run(tokio_util::sync::CancellationToken::new()));
    secondary.proved().await;
    while secondary.beat().await.report.tombstone.is_none() {}
    server.stop().await;
    secondary.ended().await;
    (primary, TcpListener::from_std(kept).unwrap())
}

/// Answers the connections one after the other, each with its bytes, the last answer again and again.
fn guard(port: TcpListener, answers: Vec<Vec<u8>>) {
    tokio::spawn(async move {
        let mut number = 0;
        while let Ok((mut io, _)) = port.accept().await {
            let answer = answers[number.min(answers.len() - 1)].clone();
            number += 1;
            tokio::spawn(async move {
                // Err: the other end has read enough.
                let _ = io.write_all(&answer).await;
                let _ = io.shutdown().await;
                let _ = tokio::io::copy(&mut io, &mut tokio::io::sink()).await;
            });
        }
    });
}

async fn reads_tombstone(secondary: &mut Node) -> Epoch {
    secondary
        .told("a tombstone", |input| match input {
            Input::TombstoneRead { epoch } => Some(epoch),
            _ => None,
        })
        .await
}

/// Nothing of the kind is told until the probe has given up, and the dials go on meanwhile.
async fn reads_none(secondary: &mut Node) {
    let given_up = tokio::time::Instant::now() + secondary.takeover_after + ms(300);
    while let Ok(input) = tokio::time::timeout_at(given_up, secondary.driver.inputs.recv()).await {
        assert!(!matches!(input, Some(Input::TombstoneRead { .. })), "a false tombstone was believed");
    }
}

#[tokio::test]
async fn the_promised_tombstone_is_read() {
    let mut secondary = Node::secondary();
    let (_primary, port) = bereft(&mut secondary).await;
    guard(port, vec![tombstone(EPOCH, SECRET)]);
    assert_eq!(reads_tombstone(&mut secondary).await, EPOCH);
}

#[tokio::test]
async fn a_cut_tombstone_is_asked_for_again() {
    let mut secondary = Node::secondary();
    let (_primary, port) = bereft(&mut secondary).await;
    let whole = tombstone(EPOCH, SECRET);
    let cut = |length: usize| whole[..length].to_vec();
    guard(port, vec![cut(0), cut(1), cut(19), cut(58), whole.clone()]);
    assert_eq!(reads_tombstone(&mut secondary).await, EPOCH);
}

#[tokio::test]
async fn other_bytes_are_no_tombstone() {
    for wrong in [
        tombstone(EPOCH, [0x5b; 32]),
        tombstone(Epoch(14), SECRET),
        [tombstone(EPOCH, SECRET), vec![0]].concat(),
        [vec![b' '], tombstone(EPOCH, SECRET)].concat(),
        vec![b'O'; 1_000_000],
    ] {
        let mut secondary = Node::secondary();
        secondary.takeover_after = ms(400);
        let (_primary, port) = bereft(&mut secondary).await;
        guard(port, vec![wrong]);
        reads_none(&mut secondary).await;
    }
}

#[tokio::test]
async fn without_a_promise_nothing_is_a_tombstone() {
    let (primary, mut secondary) = (Node::primary(), Node::secondary());
    secondary.takeover_after = ms(400);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    port.set_nonblocking(true).unwrap();
    let kept = port.try_clone().unwrap();
    let server = primary.serve_on(TcpListener::from_std(port).unwrap());
    let _client = secondary.dial(server.address);
    secondary.proved().await;
    secondary.beat().await;
    server.stop().await;
    secondary.ended().await;
    guard(TcpListener::from_std(kept).unwrap(), vec![tombstone(EPOCH, SECRET)]);
    reads_none(&mut secondary).await;
}

#[tokio::test]
async fn a_slow_tombstone_ends_with_the_takeover_time() {
    let mut secondary = Node::secondary();
    secondary.takeover_after = ms(600);
    let (_primary, port) = bereft(&mut secondary).await;
    tokio::spawn(async move {
        while let Ok((mut io, _)) = port.accept().await {
            tokio::spawn(async move {
                for byte in tombstone(EPOCH, SECRET) {
                    let _ = io.write_all(&[byte]).await;
                    tokio::time::sleep(ms(50)).await;
                }
            });
        }
    });
    reads_none(&mut secondary).await;
}

#[tokio::test]
async fn a_new_session_voids_the_tombstone() {
    let mut secondary = Node::secondary();
    let (mut primary, port) = bereft(&mut secondary).await;
    primary.report.tombstone = None;
    primary.driver.publish(primary.report.clone(), false);
    secondary.takeover_after = ms(1000);
    let again = primary.serve_on(port);
    let address = again.address;
    secondary.proved().await;
    secondary.beat().await;
    again.stop().await;
    secondary.ended().await;
    // The old promise is void, although the old secret is shown.
    guard(TcpListener::bind(address).await.unwrap(), vec![tombstone(EPOCH, SECRET)]);
    reads_none(&mut secondary).await;
}

#[tokio::test]
async fn refusals_are_confirmed_only_when_every_connect_of_the_window_is_refused() {
    let mut secondary = Node::secondary();
    secondary.takeover_confirm = Some(ms(100));
    let (_primary, port) = bereft(&mut secondary).await;
    // The port still takes connections, so nothing is refused.
    for _ in 0..5 {
        let outcome = secondary.told("a dial or a confirmation", |input| match input {
            Input::DialFinished { outcome: _, .. } => Some(true),
            Input::RefusalConfirmed => Some(false),
            _ => None,
        });
        assert!(outcome.await, "a refusal was confirmed although connections are accepted");
        let (io, _) = port.accept().await.unwrap();
        drop(io);
    }
    drop(port);
    secondary
        .told("a confirmed refusal", |input| matches!(input, Input::RefusalConfirmed).then_some(()))
        .await;
}
