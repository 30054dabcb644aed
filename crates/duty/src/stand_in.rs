//! A driver played by a test: the link's handle without a machine behind it, so that the two ends of the link can be
//! tested input by input.

use std::collections::BTreeMap;
use std::sync::Arc;

use failover_core::{Input, Report, SessionId};
use service_kit::Clock;
use tokio::sync::mpsc;

use crate::handles::{LINK_QUEUE, Rejections, Sessions};
use crate::{LinkHandle, Outgoing, Recorder};
use service_kit::latest::{LatestSender, latest};

/// What a driver would hold of a [`LinkHandle`].
#[derive(Debug)]
pub struct StandIn {
    /// What the link tells.
    pub inputs: mpsc::Receiver<Input>,
    outgoing: LatestSender<Outgoing>,
    sessions: Sessions,
    rejections: Rejections,
}

impl StandIn {
    /// A handle, and the driver's side of it.
    #[must_use]
    pub fn new(report: Report, clock: Clock, recorder: Recorder) -> (Self, LinkHandle) {
        let (told, inputs) = mpsc::channel(LINK_QUEUE);
        let (outgoing, seen) = latest(Outgoing { report: Arc::new(report), announce: 0 });
        let sessions = Sessions::default();
        let rejections = Rejections::new(clock, recorder);
        let link = LinkHandle {
            inputs: told,
            outgoing: seen,
            sessions: sessions.clone(),
            rejections: rejections.clone(),
        };
        (Self { inputs, outgoing, sessions, rejections }, link)
    }

    /// Changes the report; with `announce` it is to be sent at once.
    pub fn publish(&self, report: Report, announce: bool) {
        self.outgoing.change(|outgoing| {
            outgoing.report = Arc::new(report);
            outgoing.announce += u64::from(announce);
            true
        });
    }

    /// Closes a session, as `Effect::CloseSession` does.
    pub fn close(&self, session: SessionId) {
        self.sessions.close(session);
    }

    /// Connections turned away so far, by reason.
    #[must_use]
    pub fn rejected(&self) -> BTreeMap<String, u64> {
        self.rejections.counts()
    }
}
