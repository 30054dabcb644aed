//! `onduty.plugin.v1`: the driver's orders to the supervisor, and the supervisor's reports as inputs of the machine.

use failover_core::{BootTime, DutyOrder, Epoch, Input, Summary};

use crate::failover::PluginStatus;
use crate::invalid::{Invalid, bytes, clip, text};
use crate::types;
use crate::wire::plugin::v1 as wire;

/// The longest text of a report.
const SENTENCE: usize = 1024;
/// Names of plugins.
const NAME: usize = 256;
/// Versions and fingerprints.
const WORD: usize = 64;

/// What the supervisor tells the driver's process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SupervisorNews {
    /// For the machine.
    Report(Input),
    /// The current truth has been told; orders are taken from here on.
    Standing {
        /// The epoch of which something may live.
        epoch: Option<Epoch>,
    },
    /// The plugins as the supervisor sees them, for people.
    Plugins(Vec<PluginStatus>),
}

/// What the driver asks of the supervisor.
#[derive(Clone, PartialEq, Eq)]
pub enum SupervisorOrder {
    /// The standing order.
    Standing(DutyOrder),
    /// Keep this secret for the epoch. No `Debug`, so that it is in no log.
    ArmTombstone {
        /// The epoch.
        epoch: Epoch,
        /// The secret.
        secret: [u8; 32],
    },
}

impl From<SupervisorOrder> for wire::FollowDutyRequest {
    fn from(order: SupervisorOrder) -> Self {
        use wire::follow_duty_request::Order;
        let standing = |kind: Order, order: DutyOrder| Self {
            order: kind as i32,
            epoch: order.epoch().0,
            hold_until_ns: order.hold_until().map_or(0, BootTime::as_nanos),
            tombstone_secret: Vec::new(),
        };
        match order {
            SupervisorOrder::Standing(order @ DutyOrder::Run { .. }) => standing(Order::Run, order),
            SupervisorOrder::Standing(order @ DutyOrder::Stop { .. }) => standing(Order::Stop, order),
            SupervisorOrder::Standing(order @ DutyOrder::Kill { .. }) => standing(Order::Kill, order),
            SupervisorOrder::ArmTombstone { epoch, secret } => Self {
                order: Order::ArmTombstone as i32,
                epoch: epoch.0,
                hold_until_ns: 0,
                tombstone_secret: secret.to_vec(),
            },
        }
    }
}

impl TryFrom<wire::FollowDutyRequest> for SupervisorOrder {
    type Error = Invalid;

    fn try_from(request: wire::FollowDutyRequest) -> Result<Self, Invalid> {
        use wire::follow_duty_request::Order;
        let epoch = Epoch(request.epoch);
        let hold_until = BootTime::from_nanos(request.hold_until_ns);
        match Order::try_from(request.order) {
            Ok(Order::Run) => Ok(Self::Standing(DutyOrder::Run { epoch, hold_until })),
            Ok(Order::Stop) => Ok(Self::Standing(DutyOrder::Stop { epoch, hold_until })),
            Ok(Order::Kill) => Ok(Self::Standing(DutyOrder::Kill { epoch })),
            Ok(Order::ArmTombstone) => Ok(Self::ArmTombstone {
                epoch,
                secret: bytes("tombstone_secret", &request.tombstone_secret)?,
            }),
            Ok(Order::Unspecified) | Err(_) => {
                Err(Invalid::new("order", "is not told or not known to this version"))
            }
        }
    }
}

/// A report of the supervisor for the wire; `None` for inputs that are not the supervisor's to give.
#[must_use]
pub fn from_report(input: Input) -> Option<wire::FollowDutyResponse> {
    use wire::follow_duty_response::Kind;
    let plain = |kind: Kind, epoch: Epoch, text: String| {
        Some(wire::FollowDutyResponse {
            kind: kind as i32,
            epoch: epoch.0,
            text: clip(text, SENTENCE),
            ..wire::FollowDutyResponse::default()
        })
    };
    match input {
        Input::PluginsReady { epoch } => plain(Kind::Ready, epoch, String::new()),
        Input::PluginsFailed { epoch, why } => plain(Kind::Failed, epoch, why),
        Input::PluginsReaped { epoch } => plain(Kind::Reaped, epoch, String::new()),
        Input::StopStuck { epoch, what } => plain(Kind::Stuck, epoch, what),
        Input::GuardFired { epoch, why } => plain(Kind::GuardFired, epoch, why),
        Input::PreflightChanged { unfit } => plain(Kind::Preflight, Epoch(0), unfit.unwrap_or_default()),
        Input::TombstoneArmed { epoch, sha256 } => Some(wire::FollowDutyResponse {
            tombstone_sha256: sha256.to_vec(),
            ..plain(Kind::TombstoneArmed, epoch, String::new())?
        }),
        Input::SummaryChanged(summary) => Some(wire::FollowDutyResponse {
            plugins: types::from_plugins(summary.plugins),
            containment: types::from_containment(summary.containment),
            version: clip(summary.version, WORD),
            project: clip(summary.project, WORD),
            ..plain(Kind::Summary, Epoch(0), String::new())?
        }),
        Input::Woke
        | Input::Stalled { .. }
        | Input::SessionProved { .. }
        | Input::BeatArrived { .. }
        | Input::SessionEnded { .. }
        | Input::DialFinished { .. }
        | Input::RefusalConfirmed
        | Input::TombstoneRead { .. }
        | Input::EpochsReserved { .. }
        | Input::StorageChanged { .. }
        | Input::LicenceChanged(_)
        | Input::SwitchoverRequested { .. }
        | Input::StopRequested { .. }
        | Input::MaintenanceSet { .. }
        | Input::MaintenanceCleared { .. }
        | Input::MaintenanceExpired { .. }
        | Input::TakeoverRequested { .. }
        | Input::ModeRequested { .. } => None,
    }
}

/// A report of the supervisor from the wire, as an input of the machine.
///
/// # Errors
///
/// When it breaks a rule.
pub fn report(response: wire::FollowDutyResponse) -> Result<Input, Invalid> {
    use wire::follow_duty_response::Kind;
    let epoch = Epoch(response.epoch);
    let words = text("text", response.text, SENTENCE)?;
    Ok(match Kind::try_from(response.kind) {
        Ok(Kind::Ready) => Input::PluginsReady { epoch },
        Ok(Kind::Failed) => Input::PluginsFailed { epoch, why: words },
        Ok(Kind::Reaped) => Input::PluginsReaped { epoch },
        Ok(Kind::Stuck) => Input::StopStuck { epoch, what: words },
        Ok(Kind::GuardFired) => Input::GuardFired { epoch, why: words },
        Ok(Kind::Preflight) => Input::PreflightChanged { unfit: (!words.is_empty()).then_some(words) },
        Ok(Kind::TombstoneArmed) => {
            Input::TombstoneArmed { epoch, sha256: bytes("tombstone_sha256", &response.tombstone_sha256)? }
        }
        Ok(Kind::Summary) => Input::SummaryChanged(Box::new(Summary {
            version: text("version", response.version, WORD)?,
            project: text("project", response.project, WORD)?,
            containment: types::containment_if_any(response.containment)?,
            plugins: types::plugins(response.plugins)?,
        })),
        Ok(Kind::Standing | Kind::Plugins) => return Err(Invalid::new("kind", "is no report")),
        Ok(Kind::Unspecified) | Err(_) => {
            return Err(Invalid::new("kind", "is not told or not known to this version"));
        }
    })
}

/// News for the wire; `None` for inputs that are not the supervisor's to give.
#[must_use]
pub fn from_news(news: SupervisorNews) -> Option<wire::FollowDutyResponse> {
    use wire::follow_duty_response::Kind;
    match news {
        SupervisorNews::Report(input) => from_report(input),
        SupervisorNews::Standing { epoch } => Some(wire::FollowDutyResponse {
            kind: Kind::Standing as i32,
            epoch: epoch.map_or(0, |epoch| epoch.0),
            ..wire::FollowDutyResponse::default()
        }),
        SupervisorNews::Plugins(plugins) => Some(wire::FollowDutyResponse {
            kind: Kind::Plugins as i32,
            details: plugins.into_iter().take(types::MAX_PLUGINS).map(from_detail).collect(),
            ..wire::FollowDutyResponse::default()
        }),
    }
}

/// News from the wire.
///
/// # Errors
///
/// When they break a rule.
pub fn news(response: wire::FollowDutyResponse) -> Result<SupervisorNews, Invalid> {
    use wire::follow_duty_response::Kind;
    if response.kind == Kind::Standing as i32 {
        let epoch = (response.epoch != 0).then_some(Epoch(response.epoch));
        return Ok(SupervisorNews::Standing { epoch });
    }
    if response.kind != Kind::Plugins as i32 {
        return report(response).map(SupervisorNews::Report);
    }
    if response.details.len() > types::MAX_PLUGINS {
        let rule = format!("must be at most {}, are {}", types::MAX_PLUGINS, response.details.len());
        return Err(Invalid::new("details", rule));
    }
    let plugins: Result<_, Invalid> = response.details.into_iter().map(detail).collect();
    plugins.map(SupervisorNews::Plugins).map_err(|error| error.within("details"))
}

fn from_detail(plugin: PluginStatus) -> wire::PluginDetail {
    let PluginStatus { name, state, reason, since, pid, restarts } = plugin;
    let (name, state, reason) = (clip(name, NAME), clip(state, WORD), clip(reason, SENTENCE));
    wire::PluginDetail { name, state, reason, since_ns: since.as_nanos(), pid, restarts }
}

fn detail(plugin: wire::PluginDetail) -> Result<PluginStatus, Invalid> {
    Ok(PluginStatus {
        name: text("name", plugin.name, NAME)?,
        state: text("state", plugin.state, WORD)?,
        reason: text("reason", plugin.reason, SENTENCE)?,
        since: BootTime::from_nanos(plugin.since_ns),
        pid: plugin.pid,
        restarts: plugin.restarts,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_see_of_the_plugins_and_what_stands_survive_the_wire() {
        let plugin = |pid| PluginStatus {
            name: "canary".to_owned(),
            state: "ready".to_owned(),
            reason: String::new(),
            since: BootTime::from_millis(7),
            pid,
            restarts: 2,
        };
        for told in [
            SupervisorNews::Plugins(vec![plugin(Some(3)), plugin(None)]),
            SupervisorNews::Standing { epoch: None },
            SupervisorNews::Standing { epoch: Some(Epoch(4)) },
            SupervisorNews::Report(Input::PluginsReaped { epoch: Epoch(4) }),
        ] {
            assert_eq!(from_news(told.clone()).map(news), Some(Ok(told)));
        }
        assert_eq!(from_news(SupervisorNews::Report(Input::Woke)), None);
    }

    #[test]
    fn news_without_a_kind_or_with_too_many_plugins_are_refused() {
        assert!(news(wire::FollowDutyResponse::default()).is_err());
        let details = vec![wire::PluginDetail::default(); types::MAX_PLUGINS + 1];
        let kind = wire::follow_duty_response::Kind::Plugins as i32;
        assert!(news(wire::FollowDutyResponse { kind, details, ..Default::default() }).is_err());
    }
}
