//! What operators see of the keys: fingerprints, use, and what is wrong; and when a watcher is told.

use certificate_trust::{KeyRing, PairKey, PairKeys};
use failover_core::{EventCode, Severity};
use onduty_api::wire::failover::v1::{KeySlot, NodeStatus, PairKey as Shown};

use super::*;

const OLD: &str = "odk1_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
const NEW: &str = "odk1_ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8";

/// A key and the one before.
pub(super) fn two(clock: &Clock) -> (Keys, watch::Sender<Vec<Warning>>) {
    let parse = |text: &str| PairKey::parse(text).unwrap();
    let keys = PairKeys { current: parse(NEW), previous: Some(parse(OLD)) };
    let (sender, trouble) = watch::channel(Vec::new());
    (Keys { ring: KeyRing::fixed(Arc::new(keys), clock.clone()), trouble }, sender)
}

#[tokio::test]
async fn the_status_has_the_keys_by_their_fingerprints_and_a_watcher_is_told_of_their_use() {
    let node = Node::start();
    let request = WatchStatusRequest { heartbeat: Some(prost_types::Duration { seconds: 3600, nanos: 0 }) };
    let mut statuses = node.failover().await.watch_status(request).await.unwrap().into_inner();
    let mut until = async |what: &str, wanted: &dyn Fn(&NodeStatus) -> bool| {
        let seen = async {
            loop {
                let status = statuses.next().await.unwrap().unwrap().status.unwrap();
                if wanted(&status) {
                    return status;
                }
            }
        };
        timeout(LIMIT, seen).await.unwrap_or_else(|_| panic!("no {what}"))
    };
    let first = until("status", &|_status| true).await;
    let slots: Vec<KeySlot> = first.keys.iter().map(Shown::slot).collect();
    assert_eq!(slots, [KeySlot::Current, KeySlot::Previous]);
    assert!(first.keys.iter().all(|key| key.fingerprint.len() == 8 && !key.in_use && !key.droppable));
    assert!(first.keys.iter().all(|key| key.since.is_some() && key.file.is_empty()));

    let fingerprint = node.keys.ring.newest().current.fingerprint();
    let lease = node.keys.ring.begin_use(fingerprint);
    let used = until("use", &|status| status.keys[0].in_use).await;
    assert_eq!(used.keys[0].fingerprint, fingerprint.to_string());
    assert!(used.keys[1].droppable, "{used:?}");
    drop(lease);
    until("end of it", &|status| !status.keys[0].in_use && !status.keys[1].droppable).await;

    let sentence = "the key file is open to everybody".to_owned();
    node.key_trouble.send_replace(vec![Warning {
        code: EventCode::KeyUnusable,
        severity: Severity::Error,
        sentence,
    }]);
    until("warning", &|status| status.warnings.iter().any(|warning| warning.code == "key_unusable")).await;
}
