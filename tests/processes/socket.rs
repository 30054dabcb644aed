//! A tool on the operators' socket that goes wrong: garbage, connections that it forgets, streams that it never reads. It has
//! the right to be there, so it is no stranger; still the heartbeats go on and a person gets an answer.
#![allow(clippy::print_stderr, reason = "a test tells its figures, and loudly when it is skipped")]

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use onduty_api::wire::failover::v1::WatchStatusRequest;
use onduty_api::wire::failover::v1::failover_service_client::FailoverServiceClient;
use test_support::{Node, alone, at_most, boot_ns, ms_between, until};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tonic::Code;

use crate::PATIENCE;
use crate::attacker::{Channel, origin, runtime};
use crate::attacks::Standing;
use crate::flood::{descriptors, memory_kib};
use crate::frames::PREFACE;

/// As many connections as the node lets be open, as documented.
const OPEN: usize = 64;

fn socket_of(node: &Node) -> PathBuf {
    node.data_dir().join("onduty.sock")
}

/// A person asks, and is answered in time.
#[track_caller]
fn answers(node: &Node) {
    let asked = boot_ns();
    let answer = node.ask(&["status", "--json"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    at_most("an operator's question", 1000.0, asked, boot_ns());
}

/// Connects some more, and keeps the newest.
async fn connect(socket: &Path, number: usize, held: &mut VecDeque<UnixStream>) {
    const HELD: usize = 300;
    let garbage = vec![0xA5; 16 * 1024];
    for index in 0..number {
        // Err: the kernel's queue is full.
        let Ok(mut io) = UnixStream::connect(socket).await else {
            tokio::task::yield_now().await;
            continue;
        };
        let said: &[u8] = match index % 4 {
            0 | 1 => b"",
            2 => PREFACE,
            _other => &garbage,
        };
        // Err: it was closed at once.
        let _ = tokio::time::timeout(Duration::from_millis(100), io.write_all(said)).await;
        held.push_back(io);
        if held.len() > HELD {
            held.pop_front();
        }
    }
}

#[test]
fn garbage_and_thousands_of_forgotten_connections_keep_no_person_out() {
    const CONNECTIONS: usize = 3_000;
    let _turn = alone();
    let standing = Standing::begin();
    let node = &standing.pair.primary;
    let (socket, open) = (socket_of(node), descriptors(node.manager()));
    let attack = runtime();
    let mut held = VecDeque::new();
    let begun = boot_ns();
    attack.block_on(connect(&socket, CONNECTIONS, &mut held));
    eprintln!("{CONNECTIONS} connections in {:.0} ms", ms_between(begun, boot_ns()));
    for _ in 0..5 {
        answers(node);
        attack.block_on(connect(&socket, 100, &mut held));
    }
    let now = descriptors(node.manager());
    assert!(now <= open + OPEN + 8, "{open} descriptors, then {now}");
    drop(held);
    until("the descriptors", PATIENCE, || (descriptors(node.manager()) <= open + 8).then_some(()));
    standing.is_unhurt();
}

#[test]
fn thousands_of_watchers_are_refused_and_those_that_never_read_hold_nothing_up() {
    const CONNECTIONS: usize = 32;
    const WISHED: usize = 100;
    /// As documented.
    const WATCHERS: usize = 64;
    let _turn = alone();
    let standing = Standing::begin();
    let node = &standing.pair.primary;
    let socket = socket_of(node);
    let attack = runtime();
    let (got, refused) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    for _ in 0..CONNECTIONS {
        let (socket, got, refused) = (socket.clone(), Arc::clone(&got), Arc::clone(&refused));
        attack.spawn(async move {
            let io = UnixStream::connect(socket).await.expect("a connection");
            let channel = Channel::over(io).await.expect("HTTP/2");
            let mut held = Vec::new();
            for _ in 0..WISHED {
                let mut client = FailoverServiceClient::with_origin(channel.clone(), origin());
                let heartbeat = prost_types::Duration::try_from(Duration::from_millis(100)).ok();
                match client.watch_status(WatchStatusRequest { heartbeat }).await {
                    Ok(stream) => {
                        held.push(stream);
                        got.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(status) => {
                        assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
                        refused.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
            std::future::pending::<()>().await;
            drop(held);
        });
    }
    let told = || got.load(Ordering::Relaxed) + refused.load(Ordering::Relaxed);
    until("an answer for each", PATIENCE, || (told() == CONNECTIONS * WISHED).then_some(()));
    assert_eq!(got.load(Ordering::Relaxed), WATCHERS);
    let (begun, mut memory) = (boot_ns(), 0);
    until("time to pass", PATIENCE, || {
        memory = memory.max(memory_kib(node.manager()));
        (ms_between(begun, boot_ns()) > 2000.0).then_some(())
    });
    answers(node);
    eprintln!("{WATCHERS} that never read: memory {} KiB, at most {memory}", standing.memory);
    drop(attack);
    standing.is_unhurt();
}
