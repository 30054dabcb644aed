//! The loop of one network path: when it dials, and what becomes of it.
//!
//! ```text
//!   tick (min(I, 1 s)), session over ─► wanted? at most two at once ─► dial ─┬─ proved ─► new session; the old one ends
//!                                                                           └─ else ───► DialFinished
//! ```
//!
//! Dials are wanted while there is no session, beside one that has gone quiet (a half-dead connection must not keep
//! the peer away), and beside one whose key is not the one to be used first any more: that one time for each change of keys, and after
//! a pause again, and what it leads to says nothing of a peer that answers. The newest proved session wins. No path waits for
//! another: each has its own rhythm, its own dials and its own last good address.

use std::sync::Arc;
use std::time::Duration;

use certificate_trust::Fingerprint;
use duty::DriverGone;
use failover_core::{Input, SessionId, Via};
use service_kit::Clock;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::dial::Dialler;
use crate::failure::Failure;
use crate::network::Network;
use crate::prove::{ProvedKey, Session};
use crate::service::dial_limit;
use crate::session::{self, Over, Terms};
use crate::tombstone;

/// Dials at once.
const MOST_DIALS: usize = 2;
/// Between dials, at most.
pub(crate) const LONGEST_PERIOD: Duration = Duration::from_secs(1);
/// How long a check leaves an address alone where something else than a peer answers, and a session its keys when no other was proved.
const CHECK_PAUSE: Duration = Duration::from_secs(30);
/// How long sessions may take to say goodbye when the client stops.
const GOODBYE: Duration = Duration::from_secs(1);

/// What a node needs that only looks.
#[derive(Clone)]
pub(crate) struct Check {
    /// The fingerprint of its own certificate, as failures show it.
    own: String,
}

impl Check {
    pub(crate) fn new(own: &Fingerprint) -> Self {
        Self { own: own.to_string() }
    }
}

/// The session that counts.
struct Current {
    id: SessionId,
    /// Its acknowledgements have stopped.
    quiet: watch::Receiver<bool>,
    replaced: CancellationToken,
    remote: std::net::SocketAddr,
    key: ProvedKey,
}

/// Of the last dial for the sake of another key.
#[derive(Clone, Copy)]
struct KeyDial {
    /// Of the keys at that time.
    revision: u64,
    /// When it may be tried again with those.
    again: Instant,
}

/// What has become of a dial.
struct Dialled {
    result: Result<Session, Failure>,
    /// Whether it was for the sake of another key, beside a session that answers.
    for_key: bool,
}

/// Returns when the session that counts falls silent, or is heard again.
async fn turned(current: &mut Option<Current>) {
    if let Some(current) = current
        && current.quiet.changed().await.is_ok()
    {
        return;
    }
    // There is none, or it has ended, which is told elsewhere.
    std::future::pending().await
}

/// One network path.
pub(crate) struct PathLoop<N> {
    pub(crate) dialler: Arc<Dialler<N>>,
    pub(crate) clock: Clock,
    pub(crate) interval: Duration,
    pub(crate) takeover_after: Duration,
    pub(crate) check: Option<Check>,
    /// A bit for each path over which the peer is away.
    pub(crate) away: watch::Sender<u8>,
}

impl<N: Network> PathLoop<N> {
    /// Dials and keeps a session until `stop`, or until the driver has ended; then `stop` is cancelled for the others, too.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let _one_for_all = stop.clone().drop_guard();
        let mut running = Running {
            sessions: JoinSet::new(),
            current: None,
            key_dial: None,
            probe: None,
            stop: stop.clone(),
            client: self,
        };
        running.dial_until_stopped(&stop).await;
        running.stop.cancel();
        running.probe = None;
        let goodbye = async { while running.sessions.join_next().await.is_some() {} };
        if tokio::time::timeout(GOODBYE, goodbye).await.is_err() {
            tracing::debug!("a session did not end in time and is left behind");
        }
    }
}

struct Running<N> {
    client: PathLoop<N>,
    sessions: JoinSet<Over>,
    current: Option<Current>,
    key_dial: Option<KeyDial>,
    /// Asks for the tombstone while the peer is away; dropping it ends that.
    probe: Option<AbortOnDropHandle<()>>,
    stop: CancellationToken,
}

impl<N: Network> Running<N> {
    async fn dial_until_stopped(&mut self, stop: &CancellationToken) {
        let period = self.client.interval.min(LONGEST_PERIOD);
        let limit = dial_limit(self.client.takeover_after);
        let mut dials: JoinSet<Dialled> = JoinSet::new();
        let mut next_dial = Instant::now();
        let mut keys = self.client.dialler.credentials.keys.clone();
        let mut seen_keys = keys.revision();
        loop {
            let for_key = self.next_key_dial();
            let at =
                if self.nobody_answers() { Some(next_dial) } else { for_key.map(|at| at.max(next_dial)) };
            // Every branch is cancel-safe.
            let told = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep_until(at.unwrap_or(next_dial)), if at.is_some() => {
                    next_dial = Instant::now() + period;
                    self.dial(&mut dials, limit);
                    Ok(())
                }
                () = keys.later_than(seen_keys) => {
                    seen_keys = keys.revision();
                    next_dial = Instant::now();
                    Ok(())
                }
                () = turned(&mut self.current) => {
                    self.look();
                    Ok(())
                }
                Some(Ok(Dialled { result, for_key })) = dials.join_next() => match result {
                    Ok(session) => self.begin(session).await,
                    Err(failure) if for_key => {
                        // The session says how the peer is.
                        tracing::info!(why = failure.sentence(), "no session with another key yet");
                        Ok(())
                    }
                    Err(failure) => {
                        if self.client.check.is_some() && failure.is_unproved() {
                            next_dial = Instant::now() + CHECK_PAUSE;
                        }
                        self.failed(failure).await
                    }
                },
                Some(ended) = self.sessions.join_next() => {
                    match ended {
                        // A session that ended as soon as it began would end again: that is what the period is for.
                        Ok(over) if self.end(&over) && over.lasted >= period => next_dial = Instant::now(),
                        Ok(_) => {}
                        Err(error) => {
                            tracing::error!(%error, "a session broke off");
                            self.look();
                        }
                    }
                    Ok(())
                }
            };
            if told.is_err() {
                return;
            }
        }
    }

    /// Dials if there is a reason to, and room for it.
    fn dial(&mut self, dials: &mut JoinSet<Dialled>, limit: Duration) {
        let away = self.look();
        let for_key = !away && self.next_key_dial().is_some_and(|at| at <= Instant::now());
        if !(away || for_key) || dials.len() >= MOST_DIALS {
            return;
        }
        if for_key {
            let revision = self.client.dialler.credentials.keys.revision();
            self.key_dial = Some(KeyDial { revision, again: Instant::now() + CHECK_PAUSE });
        }
        let dialler = Arc::clone(&self.client.dialler);
        dials.spawn(async move { Dialled { result: dialler.dial(limit).await, for_key } });
    }

    /// A dial led to no session.
    async fn failed(&mut self, failure: Failure) -> Result<(), DriverGone> {
        let link = &self.client.dialler.link;
        let Some(check) = &self.client.check else {
            if let Some(code) = failure.counted_as() {
                link.count(code);
            }
            let path = self.client.dialler.path;
            return link.tell(Input::DialFinished { path, outcome: failure.outcome }).await;
        };
        // The address leads home, as far as this answer goes: nothing to tell anybody, and to be asked again.
        let is_own = failure.own || failure.sentence().contains(&check.own);
        if let Some(code) = failure.counted_as().filter(|_| !is_own) {
            let seen = failure.sentence();
            link.reject(
                code,
                format!(
                    "whether `redundancy.secondary.address` leads to another primary cannot be told: {seen}"
                ),
            );
        }
        Ok(())
    }

    /// Whether there is no session, or one whose acknowledgements have stopped.
    fn is_peer_away(&self) -> bool {
        if self.client.check.is_some() && self.current.is_none() {
            return !self.client.dialler.link.has_session();
        }
        self.nobody_answers()
    }

    fn nobody_answers(&self) -> bool {
        // A session whose task has broken off says nothing any more.
        self.current
            .as_ref()
            .is_none_or(|current| *current.quiet.borrow() || current.quiet.has_changed().is_err())
    }

    /// When to dial for the sake of another key: the keys have changed since the session was proved, and another one than its own is to be
    /// used first. A dial finds out whether the peer knows that one, too; one that has failed is not tried again at once, for the
    /// session is good.
    fn next_key_dial(&self) -> Option<Instant> {
        let keys = &self.client.dialler.credentials.keys;
        let current = self.current.as_ref()?;
        let is_old = current.key.revision < keys.revision()
            && current.key.fingerprint != keys.newest().current.fingerprint();
        let tried = self.key_dial.filter(|tried| tried.revision == keys.revision());
        is_old.then(|| tried.map_or_else(Instant::now, |tried| tried.again))
    }

    /// Tells whether the peer is away.
    fn look(&self) -> bool {
        let away = self.is_peer_away();
        self.tell_away(away);
        away
    }

    /// A session was proved: it counts from now on.
    async fn begin(&mut self, session: Session) -> Result<(), DriverGone> {
        let link = self.client.dialler.link.clone();
        let ticket = link.begin_session();
        let peer = &session.peer;
        let via = Via {
            path: self.client.dialler.path,
            paths: self.client.dialler.paths,
            remote: session.remote.to_string(),
            dialled: true,
        };
        tracing::info!(
            peer = %peer.identity.name, at = %session.remote, path = %via.path, session = ticket.id.0,
            key = ?session.key.slot, "a session was proved"
        );
        let keys = self.client.dialler.credentials.keys.clone();
        let (identity, role, mode) = (peer.identity.clone(), peer.role, peer.mode);
        // A proved session voids tombstones and refusals, so nothing of the kind may be told after this.
        self.probe = None;
        self.tell_away(false);
        link.tell(Input::SessionProved { session: ticket.id, via, peer: identity, role, mode }).await?;
        let (quiet, seen_quiet) = watch::channel(false);
        let current = Current {
            id: ticket.id,
            quiet: seen_quiet,
            replaced: CancellationToken::new(),
            remote: session.remote,
            key: session.key,
        };
        let terms = Terms {
            link,
            clock: self.client.clock.clone(),
            interval: self.client.interval,
            quiet,
            keys,
            replaced: current.replaced.clone(),
            stop: self.stop.clone(),
        };
        self.sessions.spawn(session::run(terms, session, ticket));
        if let Some(old) = self.current.replace(current) {
            old.replaced.cancel();
        }
        Ok(())
    }

    /// A session is over; `true` when it was the one that counts.
    fn end(&mut self, over: &Over) -> bool {
        if self.current.as_ref().is_none_or(|current| current.id != over.id) {
            return false;
        }
        let Some(current) = self.current.take() else { return false };
        if let Some(promise) = over.promise {
            let dialler = Arc::clone(&self.client.dialler);
            let until = Instant::now() + self.client.takeover_after;
            let patience = dial_limit(self.client.takeover_after).min(Duration::from_secs(1));
            self.probe = Some(AbortOnDropHandle::new(tokio::spawn(async move {
                if tombstone::probe(&*dialler.network, current.remote, promise, patience, until).await {
                    // Err: the driver has ended.
                    let _ = dialler.link.tell(Input::TombstoneRead { epoch: promise.epoch }).await;
                }
            })));
        }
        self.look();
        true
    }

    /// Whether the peer is away over this path; refusals count while it is over every one.
    fn tell_away(&self, away: bool) {
        let bit = 1_u8 << self.client.dialler.path.index();
        self.client.away.send_if_modified(|paths| {
            let before = *paths;
            *paths = if away { before | bit } else { before & !bit };
            *paths != before
        });
    }
}
