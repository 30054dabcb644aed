//! A proved session: a heartbeat every interval, at once when the driver has something to announce, and whatever the
//! peer sends goes to the driver.
//!
//! A beat is made at the moment there is room for it, so that nothing old ever waits. The peer acknowledges each beat; its
//! own pushes are not acknowledged one by one: the next heartbeat echoes them.

use std::time::Duration;

use certificate_trust::KeyRing;
use duty::{LinkHandle, Outgoing, SessionTicket};
use failover_core::{BootTime, Input, SessionId, TombstonePromise, timing};
use onduty_api::heartbeat::{DialFrame, Ledger, ListenFrame};
use onduty_api::wire::heartbeat::v1::{SessionRequest, SessionResponse};
use service_kit::Clock;
use service_kit::latest::Latest;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use crate::prove::Session;

/// How long a beat may be due without room for it before the session is given up.
const STUCK: Duration = Duration::from_secs(5);
/// Acknowledgements that stay away for two intervals, and at least for this long, are a silence: a late scheduler alone
/// should not be one.
const SHORTEST_QUIET: Duration = Duration::from_millis(200);
/// How long a session that can send nothing any more waits for the reason.
const LAST_WORD: Duration = Duration::from_millis(200);
/// How long the last beat may take to leave when this node stops.
const GOODBYE: Duration = Duration::from_millis(500);

/// What a session goes by.
pub(crate) struct Terms {
    pub(crate) link: LinkHandle,
    pub(crate) clock: Clock,
    pub(crate) interval: Duration,
    /// Whether the peer has acknowledged nothing for so long that dials are wanted beside the session.
    pub(crate) quiet: watch::Sender<bool>,
    /// A session ends with its key.
    pub(crate) keys: KeyRing,
    /// Cancelled when a newer session has been proved.
    pub(crate) replaced: CancellationToken,
    /// Cancelled when this node stops.
    pub(crate) stop: CancellationToken,
}

/// A session that is over.
pub(crate) struct Over {
    pub(crate) id: SessionId,
    /// The promise in the peer's newest beat.
    pub(crate) promise: Option<TombstonePromise>,
    pub(crate) lasted: Duration,
}

/// Runs a session to its end and tells the driver of that.
pub(crate) async fn run(terms: Terms, session: Session, ticket: SessionTicket) -> Over {
    let begun = Instant::now();
    let Session { peer, key, outbox, inbox, connection, .. } = session;
    let counts = terms.keys.begin_use(key.fingerprint);
    let mut keys = terms.keys.clone();
    let id = ticket.id;
    let heard = terms.clock.boot();
    let mut beats = Beats {
        outgoing: terms.link.outgoing(),
        terms,
        id,
        ledger: Ledger::new(peer.identity),
        inbox,
        promise: None,
        due: true,
        heard,
    };
    let end = tokio::select! {
        biased;
        () = keys.outlived(key.fingerprint) => End::because("its key is not accepted any more"),
        end = beats.exchange(&outbox, &ticket.closed) => end,
    };
    drop(counts);
    let cause = match end {
        End::Stopping => {
            beats.part(outbox).await;
            "this node stops".to_owned()
        }
        End::Because(cause) => cause,
    };
    tracing::info!(session = id.0, %cause, "a session ended");
    let Beats { terms, promise, .. } = beats;
    // Err: the driver has ended, and so will everything else.
    let _ = terms.link.tell(Input::SessionEnded { session: id, cause }).await;
    drop(connection);
    Over { id, promise, lasted: begun.elapsed() }
}

/// How a session ends.
enum End {
    /// This node stops: the peer is owed a last beat.
    Stopping,
    /// For people.
    Because(String),
}

impl End {
    fn because(cause: &str) -> Self {
        Self::Because(cause.to_owned())
    }
}

struct Beats {
    terms: Terms,
    id: SessionId,
    ledger: Ledger,
    outgoing: Latest<Outgoing>,
    inbox: Streaming<SessionResponse>,
    promise: Option<TombstonePromise>,
    /// A beat is to be sent as soon as there is room.
    due: bool,
    /// When the peer was last heard.
    heard: BootTime,
}

impl Beats {
    /// Exchanges beats until something ends the session; returns what.
    async fn exchange(&mut self, outbox: &mpsc::Sender<SessionRequest>, closed: &CancellationToken) -> End {
        let mut announced = self.outgoing.take().announce;
        let mut due_since = Instant::now();
        // One timer for all: tokio's wake up several times on the way to a distant moment.
        let mut timer = match self.terms.clock.timer() {
            Ok(timer) => timer,
            Err(error) => return End::Because(format!("the system gives no timer: {error}")),
        };
        let mut next = self.heard + self.terms.interval;
        loop {
            let wake = self.quiet_at().map_or(next, |at| at.min(next));
            // Every branch is cancel-safe: a permit not taken is given back, a message half received stays in `inbox`.
            tokio::select! {
                biased;
                () = closed.cancelled() => return End::because("closed by this node"),
                () = self.terms.replaced.cancelled() => return End::because("replaced by a newer session"),
                () = self.terms.stop.cancelled() => return End::Stopping,
                permit = outbox.reserve(), if self.due => match permit {
                    Ok(permit) => {
                        permit.send(self.beat());
                        self.due = false;
                    }
                    Err(_closed) => return self.last_word().await,
                },
                () = tokio::time::sleep_until(due_since + STUCK), if self.due => {
                    return End::Because(format!("the peer has read nothing for {STUCK:?}"));
                }
                () = timer.wait_until(wake) => {
                    let now = self.terms.clock.boot();
                    if self.quiet_at().is_some_and(|at| at <= now) {
                        self.terms.quiet.send_replace(true);
                    }
                    if next <= now {
                        if let Some(late_by) = left_out(next, now, self.terms.interval) {
                            let told = self.terms.link.tell(Input::Stalled { late_by }).await;
                            if told.is_err() {
                                return End::Stopping;
                            }
                        }
                        next = following(next, now, self.terms.interval);
                        self.owe(&mut due_since);
                    }
                }
                changed = self.outgoing.changed() => {
                    if changed.is_err() {
                        return End::Stopping;
                    }
                    let announce = self.outgoing.take().announce;
                    if announce != announced {
                        announced = announce;
                        self.owe(&mut due_since);
                    }
                }
                message = self.inbox.message() => {
                    if let Err(end) = self.receive(message).await {
                        return end;
                    }
                }
            }
        }
    }

    /// When the silence of the peer is to be told, unless it has been.
    fn quiet_at(&self) -> Option<BootTime> {
        let patience = (self.terms.interval * 2).max(SHORTEST_QUIET);
        (!*self.terms.quiet.borrow()).then(|| self.heard + patience)
    }

    /// The peer takes nothing any more; why, it may have said.
    async fn last_word(&mut self) -> End {
        let said = async {
            loop {
                let message = self.inbox.message().await;
                if let Err(end) = self.receive(message).await {
                    return end;
                }
            }
        };
        tokio::time::timeout(LAST_WORD, said).await.unwrap_or_else(|_| End::because("the connection broke"))
    }

    fn owe(&mut self, since: &mut Instant) {
        if !self.due {
            self.due = true;
            *since = Instant::now();
        }
    }

    fn beat(&mut self) -> SessionRequest {
        // Not marked as seen: whether it was an announcement is for the loop to find.
        let report = self.outgoing.get().report;
        DialFrame::Beat(Box::new(self.ledger.next(self.terms.clock.boot(), (*report).clone()))).into()
    }

    /// Hands one message to the driver; Err: what ends the session.
    async fn receive(&mut self, message: Result<Option<SessionResponse>, Status>) -> Result<(), End> {
        let response = match message {
            Ok(Some(response)) => response,
            Ok(None) => return Err(End::because("the peer ended it")),
            // Made here, out of an error of the connection.
            Err(status) if std::error::Error::source(&status).is_some() => {
                return Err(End::because("the connection broke"));
            }
            Err(status) => return Err(End::Because(format!("the peer ended it: {}", status.message()))),
        };
        let beat = match ListenFrame::try_from(response) {
            Ok(ListenFrame::Beat(beat)) => beat,
            Ok(ListenFrame::Challenge(_) | ListenFrame::Proof(_)) => {
                return Err(End::because("the peer began a second handshake"));
            }
            Err(invalid) => return Err(End::Because(format!("the peer sent an invalid message: {invalid}"))),
        };
        let order = self.ledger.receive(&beat);
        order.map_err(|disorder| End::Because(format!("the peer sent a beat out of order: {disorder}")))?;
        self.promise = beat.report.tombstone;
        self.heard = self.terms.clock.boot();
        self.terms.quiet.send_if_modified(std::mem::take);
        let told = self.terms.link.tell(Input::BeatArrived { session: self.id, beat }).await;
        told.map_err(|_gone| End::Stopping)
    }

    /// The last words: what the driver last wanted the peer to know, then the end, once they have left.
    async fn part(&mut self, outbox: mpsc::Sender<SessionRequest>) {
        let beat = self.beat();
        let goodbye = async {
            // Err: the connection is gone.
            let _ = outbox.send(beat).await;
            drop(outbox);
            // The peer ends its direction when it has read the end of ours.
            while let Ok(Some(_)) = self.inbox.message().await {}
        };
        // A peer that does not read its goodbye has had its time.
        let _ = tokio::time::timeout(GOODBYE, goodbye).await;
    }
}

/// How late a heartbeat is that was due at `due`, when that is more than the guard deadline allows for. The silence of a
/// peer that was not asked says nothing: it must not count, or the peer's guard would come after this node's takeover.
fn left_out(due: BootTime, now: BootTime, interval: Duration) -> Option<Duration> {
    let allowed = timing::longest_round_trip(interval) + timing::SCHEDULING_DELAY;
    Some(now.since(due)).filter(|late_by| *late_by > allowed)
}

/// When the heartbeat after the one at `due` is due. Missed ones are not made up for: one late beat says all.
fn following(due: BootTime, now: BootTime, interval: Duration) -> BootTime {
    let next = due + interval;
    if next <= now { now + interval } else { next }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beats_keep_their_rhythm_and_missed_ones_are_not_made_up_for() {
        let at = BootTime::from_millis;
        let interval = Duration::from_millis(100);
        assert_eq!(following(at(1000), at(1003), interval), at(1100));
        assert_eq!(following(at(1000), at(1099), interval), at(1100));
        assert_eq!(following(at(1000), at(5000), interval), at(5100));
    }

    #[test]
    fn a_heartbeat_is_late_when_the_guard_deadline_does_not_allow_for_it() {
        let at = BootTime::from_millis;
        let late = |now, interval| left_out(at(1000), at(now), Duration::from_millis(interval));
        assert_eq!((late(1000, 100), late(1070, 100)), (None, None));
        assert_eq!(late(1071, 100), Some(Duration::from_millis(71)));
        assert_eq!(late(1175, 1000), None);
        assert_eq!(late(2500, 1000), Some(Duration::from_millis(1500)));
    }
}
