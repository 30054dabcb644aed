//! The keys of the pair for operators: which are accepted, which the session uses, and what is wrong with their files. Nothing of
//! a key itself.

use certificate_trust::{KeyChanges, KeyRing, KeySlot, KeyState};
use failover_core::Warning;
use onduty_api::failover::KeyStatus;
use onduty_api::wire::failover::v1 as wire;
use tokio::sync::watch;

/// What is told of the keys.
#[derive(Clone, Debug)]
pub struct Keys {
    /// The keys, and which sessions use them.
    pub ring: KeyRing,
    /// What is wrong with their files.
    pub trouble: watch::Receiver<Vec<Warning>>,
}

impl Keys {
    pub(crate) fn statuses(&self) -> Vec<KeyStatus> {
        self.ring.states().into_iter().map(status).collect()
    }

    pub(crate) fn warnings(&self) -> Vec<wire::Warning> {
        self.trouble.borrow().iter().map(wire::Warning::from).collect()
    }
}

/// Tells when the status of the keys has changed.
pub(crate) struct Changes(Option<(KeyChanges, watch::Receiver<Vec<Warning>>)>);

pub(crate) fn changes(keys: Option<&Keys>) -> Changes {
    Changes(keys.map(|keys| (keys.ring.changes(), keys.trouble.clone())))
}

impl Changes {
    /// Returns after a change. Cancel-safe.
    pub(crate) async fn next(&mut self) {
        let Some((keys, trouble)) = &mut self.0 else { return std::future::pending().await };
        tokio::select! {
            () = keys.next() => {}
            Ok(()) = trouble.changed() => {}
        }
    }
}

fn status(state: KeyState) -> KeyStatus {
    let KeyState { slot, fingerprint, file, in_use, since, droppable } = state;
    let slot = match slot {
        KeySlot::Current => wire::KeySlot::Current,
        KeySlot::Previous => wire::KeySlot::Previous,
        KeySlot::Next => wire::KeySlot::Next,
    };
    let file = file.map(|file| file.display().to_string());
    KeyStatus { slot, fingerprint: fingerprint.to_string(), file, in_use, since, droppable }
}
