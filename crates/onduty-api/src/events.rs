//! `onduty.events.v1`: journal entries for operators.

use failover_core::{Epoch, Event, EventCode, Measures, RequestId};

use crate::invalid::{Invalid, bytes, from_timestamp, required, to_timestamp};
use crate::types;
use crate::wire::events::v1 as wire;
use crate::wire::types::v1::{NodeState, Severity};

/// An event with what the journal adds to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its number; 0: not journalled.
    pub number: u64,
    /// When, in milliseconds of the Unix clock.
    pub unix_ms: u64,
    /// Whose journal.
    pub node: String,
    /// What happened.
    pub event: Event,
    /// SHA-256 that chains it to the one before.
    pub chain: [u8; 32],
}

impl From<Record> for wire::Event {
    fn from(record: Record) -> Self {
        let Record { number, unix_ms, node, event, chain } = record;
        let state = |state| NodeState::from(state) as i32;
        let unspecified = NodeState::Unspecified as i32;
        let (from_state, to_state) =
            event.transition.map_or((unspecified, unspecified), |(from, to)| (state(from), state(to)));
        Self {
            number,
            at: Some(to_timestamp(unix_ms)),
            node,
            code: event.code.as_str().to_owned(),
            severity: Severity::from(event.severity) as i32,
            sentence: event.sentence,
            cause: event.cause,
            epoch: event.epoch.map(|epoch| epoch.0),
            from_state,
            to_state,
            detected_ms: event.measures.detected_ms,
            takeover_ms: event.measures.takeover_ms,
            outage_ms: event.measures.outage_ms,
            overlap_ms: event.measures.overlap_ms,
            chain: chain.to_vec(),
            request_id: event.request.map(|request| request.0).unwrap_or_default(),
        }
    }
}

impl TryFrom<wire::Event> for Record {
    type Error = Invalid;

    fn try_from(event: wire::Event) -> Result<Self, Invalid> {
        let code: EventCode =
            event.code.parse().map_err(|_| Invalid::new("code", "is not an event code of this version"))?;
        let transition = match (event.from_state, event.to_state) {
            (0, 0) => None,
            (from, to) => Some((
                types::state(from).map_err(|e| Invalid::new("from_state", e.rule))?,
                types::state(to).map_err(|e| Invalid::new("to_state", e.rule))?,
            )),
        };
        Ok(Self {
            number: event.number,
            unix_ms: from_timestamp(&required("at", event.at)?),
            node: event.node,
            event: Event {
                code,
                severity: types::severity(event.severity)?,
                sentence: event.sentence,
                cause: event.cause,
                epoch: event.epoch.map(Epoch),
                transition,
                request: (!event.request_id.is_empty()).then_some(RequestId(event.request_id)),
                measures: Measures {
                    detected_ms: event.detected_ms,
                    takeover_ms: event.takeover_ms,
                    outage_ms: event.outage_ms,
                    overlap_ms: event.overlap_ms,
                },
            },
            chain: bytes("chain", &event.chain)?,
        })
    }
}
