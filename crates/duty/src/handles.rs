//! What the rest of the node holds of the driver: one handle for the link, one for operators.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use failover_core::{
    BootTime, EventCode, Identity, Input, Mode, Now, Report, Role, SessionId, Severity, View,
};
use service_kit::Clock;
use thiserror::Error;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::Recorder;
use crate::recorder::notice;
use service_kit::latest::Latest;

/// The link's inputs: two beats a second in normal times, so this holds the burst of a stalled driver. When full the
/// link waits (and TCP with it): nothing is lost, and what waits is old by its own stamps.
pub(crate) const LINK_QUEUE: usize = 64;
/// Operators' requests. When full they wait; their deadlines bound it.
pub(crate) const OPERATOR_QUEUE: usize = 16;
/// At most one journal entry per reason in this time: strangers must not be able to fill the journal.
const REJECTION_PAUSE: Duration = Duration::from_secs(10);

/// The driver has ended: the node is stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the node is stopping")]
pub struct DriverGone;

/// Both handles.
#[derive(Clone, Debug)]
pub struct DutyHandles {
    /// For the ends of the link.
    pub link: LinkHandle,
    /// For operators.
    pub operators: OperatorHandle,
}

/// What goes to the peer.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// The newest report.
    pub report: Arc<Report>,
    /// Grows whenever the report is to be sent now, without waiting for the next interval.
    pub announce: u64,
}

/// What a node says of itself before the peer is proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Own {
    /// Who it is.
    pub identity: Identity,
    /// Its role.
    pub role: Role,
    /// Its mode.
    pub mode: Mode,
}

/// The link's way to the driver. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LinkHandle {
    pub(crate) inputs: mpsc::Sender<Input>,
    pub(crate) outgoing: Latest<Outgoing>,
    pub(crate) sessions: Sessions,
    pub(crate) rejections: Rejections,
}

impl LinkHandle {
    /// Numbers a new session; call it when both proofs are right, before `Input::SessionProved`.
    #[must_use]
    pub fn begin_session(&self) -> SessionTicket {
        self.sessions.begin()
    }

    /// Tells the driver what happened on the link. Waits while the queue is full. Cancel-safe.
    ///
    /// # Errors
    ///
    /// When the driver has ended.
    pub async fn tell(&self, input: Input) -> Result<(), DriverGone> {
        self.inputs.send(input).await.map_err(|_closed| DriverGone)
    }

    /// What goes to the peer, newest only.
    #[must_use]
    pub fn outgoing(&self) -> Latest<Outgoing> {
        self.outgoing.clone()
    }

    /// What the node says of itself in the handshake.
    #[must_use]
    pub fn own(&self) -> Own {
        let report = self.outgoing.get().report;
        Own { identity: report.identity.clone(), role: report.role, mode: report.mode }
    }

    /// Counts a rejected connection, and journals it at most once per code in ten seconds.
    pub fn reject(&self, code: &'static str, sentence: String) {
        self.rejections.add(code, sentence);
    }

    /// Counts a peer that this node turned away when it dialled; the machine journals the verdict when it is news.
    pub fn count(&self, code: &'static str) {
        self.rejections.count(code);
    }

    /// Whether a proved session is open, whoever dialled it.
    #[must_use]
    pub fn has_session(&self) -> bool {
        !self.sessions.open().is_empty()
    }
}

/// One session's number and its end.
#[derive(Debug)]
pub struct SessionTicket {
    /// Its number; larger than all before.
    pub id: SessionId,
    /// Cancelled when the machine wants the session closed.
    pub closed: CancellationToken,
    /// Cancelled when the driver has taken note of the proof: `closed` tells by then whether it wants the session.
    pub decided: CancellationToken,
    sessions: Sessions,
}

impl Drop for SessionTicket {
    fn drop(&mut self) {
        let _ = self.sessions.open().remove(&self.id);
    }
}

/// The open sessions. Bounded by the link, which holds one ticket per proved connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sessions {
    last: Arc<AtomicU64>,
    open: Arc<Mutex<BTreeMap<SessionId, Open>>>,
    /// Whether a driver decides; a stand-in has nothing against any session.
    driven: bool,
}

#[derive(Debug)]
struct Open {
    closed: CancellationToken,
    decided: CancellationToken,
}

impl Sessions {
    fn begin(&self) -> SessionTicket {
        let id = SessionId(self.last.fetch_add(1, Ordering::Relaxed).saturating_add(1));
        let (closed, decided) = (CancellationToken::new(), CancellationToken::new());
        if !self.driven {
            decided.cancel();
        }
        let _ = self.open().insert(id, Open { closed: closed.clone(), decided: decided.clone() });
        SessionTicket { id, closed, decided, sessions: self.clone() }
    }

    /// For a driver, which decides about each session.
    pub(crate) fn driven() -> Self {
        Self { driven: true, ..Self::default() }
    }

    /// The driver has taken note of the proof.
    pub(crate) fn decide(&self, id: SessionId) {
        if let Some(open) = self.open().get(&id) {
            open.decided.cancel();
        }
    }

    /// Ends one; a session that is already over needs nothing.
    pub(crate) fn close(&self, id: SessionId) {
        if let Some(open) = self.open().get(&id) {
            open.closed.cancel();
        }
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<SessionId, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How often which reason was given to connections that were turned away.
#[derive(Clone, Debug)]
pub(crate) struct Rejections {
    by_code: Arc<Mutex<BTreeMap<&'static str, Rejected>>>,
    clock: Clock,
    recorder: Recorder,
}

#[derive(Debug, Default)]
struct Rejected {
    count: u64,
    journalled: Option<(BootTime, u64)>,
}

impl Rejections {
    pub(crate) fn new(clock: Clock, recorder: Recorder) -> Self {
        Self { by_code: Arc::default(), clock, recorder }
    }

    /// Counts, and journals unless the same was journalled a moment ago.
    pub(crate) fn add(&self, code: &'static str, sentence: String) {
        let now = self.clock.boot();
        let unsaid = {
            let mut by_code = self.by_code.lock().unwrap_or_else(PoisonError::into_inner);
            let rejected = by_code.entry(code).or_default();
            rejected.count = rejected.count.saturating_add(1);
            let (at, said) = rejected.journalled.unwrap_or((BootTime::ZERO, 0));
            if rejected.journalled.is_some() && now.since(at) < REJECTION_PAUSE {
                return;
            }
            rejected.journalled = Some((now, rejected.count));
            rejected.count.saturating_sub(said).saturating_sub(1)
        };
        let mut event = notice(EventCode::SessionRejected, Severity::Warn, sentence, None);
        event.cause = match unsaid {
            0 => code.to_owned(),
            n => format!("{code}; {n} more of the same since the last entry"),
        };
        self.recorder.record(event);
    }

    /// Counts without a journal entry.
    pub(crate) fn count(&self, code: &'static str) {
        let mut by_code = self.by_code.lock().unwrap_or_else(PoisonError::into_inner);
        let rejected = by_code.entry(code).or_default();
        rejected.count = rejected.count.saturating_add(1);
    }

    pub(crate) fn counts(&self) -> BTreeMap<String, u64> {
        let by_code = self.by_code.lock().unwrap_or_else(PoisonError::into_inner);
        by_code.iter().map(|(code, rejected)| ((*code).to_owned(), rejected.count)).collect()
    }
}

/// The operators' way to the driver. Cheap to clone.
#[derive(Clone, Debug)]
pub struct OperatorHandle {
    pub(crate) inputs: mpsc::Sender<Input>,
    pub(crate) view: watch::Receiver<Arc<View>>,
    pub(crate) outgoing: Latest<Outgoing>,
    pub(crate) rejections: Rejections,
    pub(crate) clock: Clock,
}

impl OperatorHandle {
    /// Hands a request to the driver; the answer is in the view and in the events. Cancel-safe.
    ///
    /// # Errors
    ///
    /// When the driver has ended.
    pub async fn ask(&self, input: Input) -> Result<(), DriverGone> {
        self.inputs.send(input).await.map_err(|_closed| DriverGone)
    }

    /// What people see, newest only. Closed when the driver has ended.
    #[must_use]
    pub fn view(&self) -> watch::Receiver<Arc<View>> {
        self.view.clone()
    }

    /// What the node tells its peer now.
    #[must_use]
    pub fn report(&self) -> Arc<Report> {
        self.outgoing.get().report
    }

    /// Both clocks.
    #[must_use]
    pub fn now(&self) -> Now {
        self.clock.now()
    }

    /// Milliseconds of the Unix clock.
    #[must_use]
    pub fn unix_millis(&self) -> u64 {
        self.clock.unix_millis()
    }

    /// Connections turned away since the start, by reason.
    #[must_use]
    pub fn rejected(&self) -> BTreeMap<String, u64> {
        self.rejections.counts()
    }
}
