//! Callers that do not read, and callers that wait: nobody takes what others need, and who is cut off is told.

use onduty_api::wire::events::v1::events_service_server::EventsService as _;

use super::*;
use crate::events::Events;

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
