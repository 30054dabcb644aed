//! The keys of the pair as the two ends of the link use them: the newest ones, and which sessions were proved with which.
//!
//! ```text
//!   KeyStore ── publish ──► KeyRing ── newest() ─────────► proof of a new session
//!                             │  ▲ ── outlived() ────────► a session whose key has gone ends
//!                             │  └─── begin_use() ──────── a session counts for its key, as long as it holds the lease
//!                             └── states() ──────────────► status and journal: in use, or unused since when
//! ```
//!
//! A session keeps the key that it was proved with until it ends. When another key comes to be used first, the dialling node proves
//! itself anew beside the running session, and the newer session takes its place: nothing is missed.

use core::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use failover_core::BootTime;
use service_kit::Clock;
use tokio::sync::watch;

use crate::key::{KeyFingerprint, KeySlot};
use crate::key_files::PairKeys;

/// The keys, and how often there have been others.
#[derive(Clone)]
pub(crate) struct Newest {
    pub(crate) revision: u64,
    pub(crate) keys: Arc<PairKeys>,
}

/// One key's sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct KeyUse {
    fingerprint: KeyFingerprint,
    sessions: usize,
    /// Since when there are any, or none.
    since: BootTime,
}

/// One of the keys, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyState {
    /// Which.
    pub slot: KeySlot,
    /// By what it is told from others.
    pub fingerprint: KeyFingerprint,
    /// Where it is. None: in the settings.
    pub file: Option<PathBuf>,
    /// Whether a session was proved with it that goes on.
    pub in_use: bool,
    /// Since when it is in use, or not; at most since this process knows it.
    pub since: BootTime,
    /// Whether the pair needs it no more: every session was proved with another one of the keys.
    pub droppable: bool,
}

/// The reading half. Cheap to clone.
#[derive(Clone)]
pub struct KeyRing {
    newest: watch::Receiver<Newest>,
    /// As many as there are accepted keys, and those whose sessions have not ended yet.
    uses: watch::Sender<Vec<KeyUse>>,
    clock: Clock,
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRing").field("states", &self.states()).finish_non_exhaustive()
    }
}

impl KeyRing {
    /// Keys that never change.
    #[must_use]
    pub fn fixed(keys: Arc<PairKeys>, clock: Clock) -> Self {
        Self::new(keys, clock).1
    }

    /// Keys that change with what is published.
    pub(crate) fn new(keys: Arc<PairKeys>, clock: Clock) -> (KeyPublisher, Self) {
        let (sender, newest) = watch::channel(Newest { revision: 0, keys });
        let ring = Self { newest, uses: watch::Sender::default(), clock };
        ring.know_keys();
        (KeyPublisher { sender, ring: ring.clone() }, ring)
    }

    /// The keys that are accepted now.
    #[must_use]
    pub fn newest(&self) -> Arc<PairKeys> {
        Arc::clone(&self.newest.borrow().keys)
    }

    /// How often the keys have changed.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.newest.borrow().revision
    }

    /// Returns when the keys are others than those of this revision; never, when nobody publishes any more. Cancel-safe.
    pub async fn later_than(&mut self, revision: u64) {
        if self.newest.wait_for(|newest| newest.revision > revision).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Returns when a session that was proved with this key is to end: the key is not accepted any more. Cancel-safe.
    pub async fn outlived(&mut self, fingerprint: KeyFingerprint) {
        if self.newest.wait_for(|newest| !newest.keys.accepts(fingerprint)).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// A session was proved with this key.
    #[must_use]
    pub fn begin_use(&self, fingerprint: KeyFingerprint) -> KeyLease {
        self.count(fingerprint, |sessions| sessions.saturating_add(1));
        KeyLease { ring: self.clone(), fingerprint }
    }

    /// Every accepted key, the one that is offered first at the head.
    #[must_use]
    pub fn states(&self) -> Vec<KeyState> {
        let keys = self.newest();
        let uses = self.uses.borrow().clone();
        let use_of = |fingerprint| uses.iter().find(|used| used.fingerprint == fingerprint).copied();
        let fingerprints: Vec<_> = keys.newest_first().map(|(_, key)| key.fingerprint()).collect();
        let is_used = |fingerprint| use_of(fingerprint).is_some_and(|used| used.sessions > 0);
        let state = |(slot, key): (KeySlot, &crate::PairKey)| {
            let fingerprint = key.fingerprint();
            let in_use = is_used(fingerprint);
            let other_in_use = fingerprints.iter().any(|other| *other != fingerprint && is_used(*other));
            KeyState {
                slot,
                fingerprint,
                file: key.origin().file().map(Into::into),
                in_use,
                since: use_of(fingerprint).map_or_else(|| self.clock.boot(), |used| used.since),
                droppable: !in_use && other_in_use,
            }
        };
        keys.newest_first().map(state).collect()
    }

    /// Tells when the states have changed.
    #[must_use]
    pub fn changes(&self) -> KeyChanges {
        KeyChanges { newest: self.newest.clone(), uses: self.uses.subscribe() }
    }

    fn count(&self, fingerprint: KeyFingerprint, change: impl Fn(usize) -> usize) {
        let (now, accepted) = (self.clock.boot(), self.newest().accepts(fingerprint));
        self.uses.send_modify(|uses| {
            if uses.iter().all(|used| used.fingerprint != fingerprint) {
                uses.push(KeyUse { fingerprint, sessions: 0, since: now });
            }
            for used in uses.iter_mut().filter(|used| used.fingerprint == fingerprint) {
                let sessions = change(used.sessions);
                if (sessions == 0) != (used.sessions == 0) {
                    used.since = now;
                }
                used.sessions = sessions;
            }
            uses.retain(|used| used.sessions > 0 || used.fingerprint != fingerprint || accepted);
        });
    }

    /// New keys are unused from now on; what is neither accepted nor in use is forgotten.
    fn know_keys(&self) {
        let (now, keys) = (self.clock.boot(), self.newest());
        self.uses.send_modify(|uses| {
            uses.retain(|used| used.sessions > 0 || keys.accepts(used.fingerprint));
            for (_, key) in keys.newest_first() {
                let fingerprint = key.fingerprint();
                if uses.iter().all(|used| used.fingerprint != fingerprint) {
                    uses.push(KeyUse { fingerprint, sessions: 0, since: now });
                }
            }
        });
    }
}

/// A session counts for its key as long as it holds this.
#[derive(Debug)]
pub struct KeyLease {
    ring: KeyRing,
    fingerprint: KeyFingerprint,
}

impl Drop for KeyLease {
    fn drop(&mut self) {
        self.ring.count(self.fingerprint, |sessions| sessions.saturating_sub(1));
    }
}

/// Follows what [`KeyRing::states`] tells.
#[derive(Debug)]
pub struct KeyChanges {
    newest: watch::Receiver<Newest>,
    uses: watch::Receiver<Vec<KeyUse>>,
}

impl fmt::Debug for Newest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Newest").field("revision", &self.revision).finish_non_exhaustive()
    }
}

impl KeyChanges {
    /// Returns after a change; never, when there can be none any more. Cancel-safe.
    pub async fn next(&mut self) {
        tokio::select! {
            Ok(()) = self.newest.changed() => {}
            Ok(()) = self.uses.changed() => {}
            else => std::future::pending().await,
        }
    }
}

/// The writing half.
#[derive(Debug)]
pub(crate) struct KeyPublisher {
    sender: watch::Sender<Newest>,
    ring: KeyRing,
}

impl KeyPublisher {
    /// The keys from now on.
    pub(crate) fn publish(&self, keys: Arc<PairKeys>) {
        self.sender.send_modify(|newest| {
            *newest = Newest { revision: newest.revision.saturating_add(1), keys };
        });
        self.ring.know_keys();
    }

    pub(crate) const fn ring(&self) -> &KeyRing {
        &self.ring
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may fail by unwrapping")]
mod tests {
    use super::*;
    use crate::PairKey;

    const OLD: &str = "odk1_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
    const NEW: &str = "odk1_ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8";

    fn keys(current: &str, previous: Option<&str>) -> Arc<PairKeys> {
        let parse = |text: &str| PairKey::parse(text).unwrap();
        Arc::new(PairKeys { current: parse(current), previous: previous.map(parse) })
    }

    fn seen(ring: &KeyRing) -> Vec<(KeySlot, bool, bool)> {
        ring.states().iter().map(|state| (state.slot, state.in_use, state.droppable)).collect()
    }

    #[tokio::test]
    async fn a_key_may_go_when_every_session_was_proved_with_another() {
        use KeySlot::{Current, Previous};
        let (publisher, ring) = KeyRing::new(keys(OLD, None), Clock::real());
        let old = ring.newest().current.fingerprint();
        assert_eq!(seen(&ring), [(Current, false, false)], "nobody has said anything");
        let first = ring.begin_use(old);
        assert_eq!(seen(&ring), [(Current, true, false)]);

        publisher.publish(keys(NEW, Some(OLD)));
        let new = ring.newest().current.fingerprint();
        assert_eq!(seen(&ring), [(Current, false, true), (Previous, true, false)], "the new one could go");
        let second = ring.begin_use(new);
        assert_eq!(seen(&ring), [(Current, true, false), (Previous, true, false)], "two paths, two keys");
        let before = ring.states()[1].since;
        drop(first);
        assert_eq!(seen(&ring), [(Current, true, false), (Previous, false, true)]);
        assert!(ring.states()[1].since >= before, "unused from the end of its last session on");
        drop(second);
        assert_eq!(seen(&ring), [(Current, false, false), (Previous, false, false)], "nobody can say");
    }

    #[tokio::test]
    async fn a_session_ends_when_its_key_is_not_accepted_any_more() {
        let (publisher, ring) = KeyRing::new(keys(OLD, None), Clock::real());
        let old = ring.newest().current.fingerprint();
        let lease = ring.begin_use(old);
        let (mut watching, mut changes) = (ring.clone(), ring.changes());
        publisher.publish(keys(NEW, Some(OLD)));
        watching.later_than(0).await;
        changes.next().await;
        let soon = core::time::Duration::from_millis(20);
        assert!(tokio::time::timeout(soon, watching.outlived(old)).await.is_err(), "it is still accepted");
        publisher.publish(keys(NEW, None));
        watching.outlived(old).await;
        drop(lease);
        assert_eq!(ring.uses.borrow().len(), 1, "what is gone is forgotten");
    }
}
