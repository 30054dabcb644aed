//! Callers that do not read, and callers that wait: nobody takes what others need, and who is cut off is told.

use onduty_api::wire::events::v1::events_service_server::EventsService as _;
use onduty_api::wire::failover::v1::SetModeRequest;

use super::*;
use crate::events::Events;
use crate::failover::{WAITING, WATCHERS};
use crate::forward;

fn journal(folder: &TempDir) -> (journal::JournalHandle, journal::JournalThread) {
    let path = folder.path().join("journal.db");
    journal::Journal::open(journal::Options { path, node: "node-a".to_owned(), clock: Arc::new(|| 0) })
        .unwrap()
}

fn news(journal: &journal::JournalHandle, count: usize) {
    for n in 0..count {
        let (code, severity) = (failover_core::EventCode::PluginChanged, failover_core::Severity::Info);
        journal.record(failover_core::Event::plain(code, severity, n.to_string()));
    }
}

#[tokio::test]
async fn a_watcher_of_events_that_fell_behind_is_told_after_all_that_still_waits_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _thread) = journal(&folder);
    let events = Events { journal: journal.clone(), stop: CancellationToken::new() };
    let request = tonic::Request::new(WatchEventsRequest { after: 0, backlog: 0 });
    let mut stream = events.watch_events(request).await.unwrap().into_inner();
    let settle = async || {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    };
    // More than its own queue takes, then more than the journal keeps for it.
    news(&journal, 200);
    settle().await;
    news(&journal, 3000);
    let mut read = 1;
    assert!(stream.next().await.unwrap().is_ok());
    // Now it is found out, while the queue is full again.
    settle().await;
    let ended = loop {
        match timeout(LIMIT, stream.next()).await.unwrap().expect("the stream says how it ends") {
            Ok(_event) => read += 1,
            Err(status) => break status,
        }
    };
    assert_eq!(ended.code(), Code::DataLoss);
    assert!(read > 64, "{read}");
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn watchers_that_do_not_read_give_their_places_back() {
    let node = Node::start();
    // No room on the way: what is not read stays in the node.
    let narrow = async || {
        let path = node.socket.clone();
        let connect = tower::service_fn(move |_uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        let endpoint = Endpoint::from_static("http://onduty.local").initial_stream_window_size(1);
        FailoverServiceClient::new(endpoint.connect_with_connector(connect).await.unwrap())
    };
    let heartbeat = prost_types::Duration::try_from(Duration::from_millis(100)).ok();
    let watch = WatchStatusRequest { heartbeat };
    let mut unread = Vec::new();
    let mut clients = [narrow().await, narrow().await];
    for client in &mut clients {
        for _ in 0..WATCHERS / 2 {
            unread.push(client.watch_status(watch).await.unwrap());
        }
    }
    let mut other = node.failover().await;
    let full = other.watch_status(watch).await.unwrap_err();
    assert_eq!(full.code(), Code::ResourceExhausted);
    tokio::time::pause();
    let freed = async {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if let Ok(watched) = other.watch_status(watch).await {
                return watched;
            }
        }
    };
    // In the node's time, of which there is plenty.
    let mut watched = timeout(Duration::from_secs(600), freed).await.expect("a place").into_inner();
    assert!(watched.message().await.unwrap().is_some());
}

#[tokio::test]
async fn calls_that_wait_leave_room_behind_a_forwarder_for_those_that_look() {
    let node = Node::start_as(Kind { behind_forwarder: true, stands_still: true, ..Kind::default() });
    let socket = node.folder.path().join("front.sock");
    let forwarder = forward::build(&socket, &node.socket, &socket.with_file_name("trust.sock")).unwrap();
    let _serving = tokio::spawn(forwarder.run(CancellationToken::new()));
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..40 {
        // One connection of a tool takes 32 calls at the same time.
        let mut client = FailoverServiceClient::new(onduty_api::unix_channel::lazy(&socket));
        let mode = types::Mode::Deactivated as i32;
        let _waits = calls.spawn(async move {
            client.set_mode(SetModeRequest { request_id: String::new(), mode, force: false }).await
        });
    }
    for _ in WAITING..40 {
        let answer = timeout(LIMIT, calls.join_next()).await.expect("no room to wait is said at once");
        let refused = answer.unwrap().unwrap().unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert!(refused.message().starts_with("16 calls wait"), "{refused:?}");
    }
    let mut client = FailoverServiceClient::new(onduty_api::unix_channel::lazy(&socket));
    let looked = timeout(LIMIT, client.get_status(GetStatusRequest {})).await;
    assert!(looked.expect("looking waits for nobody").is_ok());
}

/// What a peer that has the duty tells.
fn active_peer(own: &failover_core::Report) -> failover_core::Report {
    let name = NodeName::try_from("node-b".to_owned()).unwrap();
    failover_core::Report {
        identity: Identity { node: NodeId([2; 16]), instance: InstanceId([2; 16]), name },
        role: Role::Secondary,
        mode: Mode::Secondary,
        parity: Role::Secondary,
        state: failover_core::State::Active,
        epoch: Some(failover_core::Epoch(2)),
        highest_epoch: failover_core::Epoch(2),
        ..own.clone()
    }
}

#[tokio::test]
async fn a_switchover_that_was_not_taken_is_not_waited_for_when_it_is_asked_for_again() {
    let mut node = Node::start();
    node.supervisor.reports.send(Input::PreflightChanged { unfit: None }).await.unwrap();
    let session = node.link.begin_session();
    let report = active_peer(&node.link.outgoing().get().report);
    let (peer, role, mode) = (report.identity.clone(), report.role, report.mode);
    let via = failover_core::Via::default();
    node.link.tell(Input::SessionProved { session: session.id, via, peer, role, mode }).await.unwrap();
    let stamp = failover_core::BootTime::from_millis(77);
    let beat = Box::new(failover_core::Beat { sequence: 1, stamp, echo: None, report });
    node.link.tell(Input::BeatArrived { session: session.id, beat }).await.unwrap();
    let mut client = node.failover().await;
    let ask = |check_only| SwitchoverRequest { request_id: "again".to_owned(), check_only };
    let possible = async {
        while let Err(not_yet) = client.switchover(ask(true)).await {
            assert_eq!(not_yet.code(), Code::FailedPrecondition);
            tokio::task::yield_now().await;
        }
    };
    timeout(LIMIT, possible).await.expect("the duty could move");
    // Nobody is there who would take the request.
    node.driver.abort();
    assert!((&mut node.driver).await.is_err());
    for _ in 0..2 {
        let refused = timeout(LIMIT, client.switchover(ask(false))).await.expect("said at once").unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    }
}

/// A list is worth milliseconds of the thread that also carries the heartbeats.
#[tokio::test]
async fn a_long_list_lets_others_go_first() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _thread) = journal(&folder);
    news(&journal, 1000);
    let events = Events { journal, stop: CancellationToken::new() };
    let turns = watch::Sender::new(0);
    let counted = turns.clone();
    let _others = tokio::spawn(async move {
        loop {
            counted.send_modify(|turns| *turns += 1);
            tokio::task::yield_now().await;
        }
    });
    // From memory, so that nothing else makes it wait.
    let request = tonic::Request::new(ListEventsRequest { after: 0, limit: 1000 });
    let listed = events.list_events(request).await.unwrap().into_inner().events;
    assert_eq!(listed.len(), 1000);
    assert!(*turns.borrow() >= 3, "{turns:?}");
}
