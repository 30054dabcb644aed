//! `onduty.failover.v1`: the status of a node for operators, put together from what its parts show.

use std::collections::BTreeMap;

use failover_core::{BootTime, LinkVerdict, Now, PathView, PeerView, Report, View, Warning, Word};

use crate::invalid::{to_duration, to_timestamp};
use crate::wire::failover::v1 as wire;
use crate::wire::types::v1::{NodeReport, Severity};

/// One moment on both clocks, so that moments of the boot-time clock can be told as times of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WallAnchor {
    /// The boot-time clock.
    pub boot: BootTime,
    /// The wall clock at the same moment, in milliseconds.
    pub unix_ms: u64,
}

impl WallAnchor {
    /// The time of day of a moment of the boot-time clock, in milliseconds.
    #[must_use]
    pub fn unix_ms_of(&self, moment: BootTime) -> u64 {
        let millis = |span: core::time::Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        if moment <= self.boot {
            self.unix_ms.saturating_sub(millis(self.boot.since(moment)))
        } else {
            self.unix_ms.saturating_add(millis(moment.since(self.boot)))
        }
    }

    fn timestamp(&self, moment: BootTime) -> prost_types::Timestamp {
        to_timestamp(self.unix_ms_of(moment))
    }
}

impl From<Now> for WallAnchor {
    /// Good to a second, which is what `Now` knows of the wall clock.
    fn from(now: Now) -> Self {
        Self { boot: now.boot, unix_ms: now.unix.saturating_mul(1000) }
    }
}

/// A plugin as its supervisor sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginStatus {
    /// Its name.
    pub name: String,
    /// Its state in one word.
    pub state: String,
    /// Why, as a sentence.
    pub reason: String,
    /// Since when.
    pub since: BootTime,
    /// Its process.
    pub pid: Option<u32>,
    /// Restarts in this epoch.
    pub restarts: u32,
}

/// One of the accepted keys of the pair; nothing of the key itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyStatus {
    /// Which.
    pub slot: wire::KeySlot,
    /// By what people tell it from others.
    pub fingerprint: String,
    /// Its file. None: it stands in the settings.
    pub file: Option<String>,
    /// Whether a session goes on that was proved with it.
    pub in_use: bool,
    /// Since when it is in use, or not.
    pub since: BootTime,
    /// Whether the pair needs it no more.
    pub droppable: bool,
}

/// What a status is put together from.
#[derive(Clone, Copy, Debug)]
pub struct StatusParts<'a> {
    /// What the machine shows.
    pub view: &'a View,
    /// What the node tells its peer.
    pub report: &'a Report,
    /// The supervisor's plugins.
    pub plugins: &'a [PluginStatus],
    /// The keys of the pair.
    pub keys: &'a [KeyStatus],
    /// Rejected connections by code.
    pub rejected: &'a BTreeMap<String, u64>,
    /// Now.
    pub now: WallAnchor,
    /// Since when the process runs.
    pub started: BootTime,
}

impl From<StatusParts<'_>> for wire::NodeStatus {
    fn from(parts: StatusParts<'_>) -> Self {
        let StatusParts { view, report, plugins, keys, rejected, now, started } = parts;
        Self {
            redundancy: wire::RedundancyWord::from(view.redundancy.word) as i32,
            redundancy_reason: view.redundancy.reason.clone(),
            node: Some(NodeReport::from(report.clone())),
            state_since: Some(now.timestamp(view.since)),
            state_reason: view.why.clone(),
            peer: Some(peer(&view.peer, now)),
            warnings: view.warnings.iter().map(wire::Warning::from).collect(),
            flap_latched: view.flap_latched,
            plugins: plugins.iter().map(|plugin| plugin_status(plugin, now)).collect(),
            at: Some(now.timestamp(now.boot)),
            rejected: rejected.iter().map(|(code, count)| (code.clone(), *count)).collect(),
            started: Some(now.timestamp(started)),
            keys: keys.iter().map(|key| pair_key(key, now)).collect(),
        }
    }
}

fn peer(peer: &PeerView, now: WallAnchor) -> wire::PeerStatus {
    let (link, link_reason) = link(&peer.link);
    wire::PeerStatus {
        link: link as i32,
        link_reason,
        link_since: Some(now.timestamp(peer.since)),
        report: peer.report.clone().map(Into::into),
        paired_with: peer.paired_with.clone().map(Into::into),
        round_trip: peer.round_trip.map(to_duration),
        silent_for: peer.last_echo.map(|echo| to_duration(now.boot.since(echo))),
        takeover_in: peer.takeover_due.map(|due| to_duration(due.since(now.boot))),
        paths: peer.paths.iter().map(|view| path(view, now)).collect(),
    }
}

fn path(path: &PathView, now: WallAnchor) -> wire::PathStatus {
    let (link, link_reason) = link(&path.link);
    wire::PathStatus {
        path: u32::from(u8::from(path.path)) + 1,
        address: path.address.clone(),
        link: link as i32,
        link_reason,
        link_since: Some(now.timestamp(path.since)),
        round_trip: path.round_trip.map(to_duration),
        lost: path.lost,
    }
}

fn link(verdict: &LinkVerdict) -> (wire::LinkVerdict, String) {
    match verdict {
        LinkVerdict::Silent(reason) => (wire::LinkVerdict::Silent, reason.clone()),
        LinkVerdict::Unproved(reason) => (wire::LinkVerdict::Unproved, reason.clone()),
        LinkVerdict::ProvedRefused(reason) => (wire::LinkVerdict::ProvedRefused, reason.clone()),
        LinkVerdict::Established => (wire::LinkVerdict::Established, String::new()),
    }
}

fn plugin_status(plugin: &PluginStatus, now: WallAnchor) -> wire::PluginStatus {
    wire::PluginStatus {
        name: plugin.name.clone(),
        state: plugin.state.clone(),
        reason: plugin.reason.clone(),
        since: Some(now.timestamp(plugin.since)),
        pid: plugin.pid,
        restarts: plugin.restarts,
    }
}

fn pair_key(key: &KeyStatus, now: WallAnchor) -> wire::PairKey {
    wire::PairKey {
        slot: key.slot as i32,
        fingerprint: key.fingerprint.clone(),
        file: key.file.clone().unwrap_or_default(),
        in_use: key.in_use,
        since: Some(now.timestamp(key.since)),
        droppable: key.droppable,
    }
}

impl From<Word> for wire::RedundancyWord {
    fn from(word: Word) -> Self {
        match word {
            Word::Ready => Self::Ready,
            Word::Degraded => Self::Degraded,
            Word::Lost => Self::Lost,
            Word::Off => Self::Off,
        }
    }
}

impl From<&Warning> for wire::Warning {
    fn from(warning: &Warning) -> Self {
        Self {
            code: warning.code.as_str().to_owned(),
            severity: Severity::from(warning.severity) as i32,
            sentence: warning.sentence.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_before_and_after_now_become_times_of_day() {
        let now = WallAnchor { boot: BootTime::from_millis(10_000), unix_ms: 1_800_000_000_000 };
        assert_eq!(now.unix_ms_of(BootTime::from_millis(9_000)), 1_799_999_999_000);
        assert_eq!(now.unix_ms_of(BootTime::from_millis(12_500)), 1_800_000_002_500);
        assert_eq!(WallAnchor { boot: BootTime::from_millis(1), unix_ms: 0 }.unix_ms_of(BootTime::ZERO), 0);
    }
}
