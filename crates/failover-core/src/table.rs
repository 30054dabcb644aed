//! The transition table of the machine, as data: for every state and every kind of input, what happens and where it
//! may lead. `docs/state-machine.md` is generated from it; a test drives real machines through thousands of random
//! lives and fails on any transition that the table does not know, and on any that it knows but nobody ever saw.

use core::fmt::Write as _;

use crate::{Input, State};

use State::{Active, Standalone, Standby, Starting, TakingOver, Yielding};

/// The kinds of inputs, in the order of the table.
pub const KINDS: [&str; 26] = [
    "Woke",
    "Stalled",
    "SessionProved",
    "BeatArrived",
    "SessionEnded",
    "DialFinished",
    "RefusalConfirmed",
    "TombstoneRead",
    "TombstoneArmed",
    "PluginsReady",
    "PluginsFailed",
    "PluginsReaped",
    "StopStuck",
    "GuardFired",
    "PreflightChanged",
    "SummaryChanged",
    "EpochsReserved",
    "StorageChanged",
    "LicenceChanged",
    "SwitchoverRequested",
    "StopRequested",
    "MaintenanceSet",
    "MaintenanceCleared",
    "MaintenanceExpired",
    "TakeoverRequested",
    "ModeRequested",
];

/// The kind of an input, by its name.
#[must_use]
pub const fn kind(input: &Input) -> &'static str {
    match input {
        Input::Woke => "Woke",
        Input::Stalled { .. } => "Stalled",
        Input::SessionProved { .. } => "SessionProved",
        Input::BeatArrived { .. } => "BeatArrived",
        Input::SessionEnded { .. } => "SessionEnded",
        Input::DialFinished { .. } => "DialFinished",
        Input::RefusalConfirmed => "RefusalConfirmed",
        Input::TombstoneRead { .. } => "TombstoneRead",
        Input::TombstoneArmed { .. } => "TombstoneArmed",
        Input::PluginsReady { .. } => "PluginsReady",
        Input::PluginsFailed { .. } => "PluginsFailed",
        Input::PluginsReaped { .. } => "PluginsReaped",
        Input::StopStuck { .. } => "StopStuck",
        Input::GuardFired { .. } => "GuardFired",
        Input::PreflightChanged { .. } => "PreflightChanged",
        Input::SummaryChanged(_) => "SummaryChanged",
        Input::EpochsReserved { .. } => "EpochsReserved",
        Input::StorageChanged { .. } => "StorageChanged",
        Input::LicenceChanged(_) => "LicenceChanged",
        Input::SwitchoverRequested { .. } => "SwitchoverRequested",
        Input::StopRequested { .. } => "StopRequested",
        Input::MaintenanceSet { .. } => "MaintenanceSet",
        Input::MaintenanceCleared { .. } => "MaintenanceCleared",
        Input::MaintenanceExpired { .. } => "MaintenanceExpired",
        Input::TakeoverRequested { .. } => "TakeoverRequested",
        Input::ModeRequested { .. } => "ModeRequested",
    }
}

/// What one kind of input does in one state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// The states it may lead to, beside staying.
    pub to: &'static [State],
    /// What happens, for people.
    pub does: &'static str,
}

const fn cell(to: &'static [State], does: &'static str) -> Cell {
    Cell { to, does }
}

const IDLE: &str = "ignored: this node holds no duty";
const MODE_IDLE: &str = "a new role: starts anew with it, unless the two would not fit or the peer is not in sight. \
                         Deactivated: by force, or without a peer: runs alone";

/// The table: what `kind` does in `state`; `None` for a name that is no kind of input.
#[must_use]
pub fn look_up(state: State, kind: &str) -> Option<Cell> {
    Some(match state {
        Starting => starting(kind)?,
        Standby => standby(kind)?,
        TakingOver => taking_over(kind)?,
        Active => active(kind)?,
        Yielding => yielding(kind)?,
        Standalone => standalone(kind)?,
    })
}

fn starting(kind: &str) -> Option<Cell> {
    Some(match kind {
        "Woke" => cell(
            &[Standby, TakingOver, Standalone],
            "the peer was silent for `startup_wait` (a secondary: and is known), or the start table says so: takes \
             the duty; held back: stands by. Deactivated: runs alone",
        ),
        "BeatArrived" => {
            cell(&[Standby, TakingOver], "the peer has the duty: stands by; nobody has it: the start table")
        }
        "EpochsReserved" => cell(&[Standby, TakingOver, Standalone], "noted, then decided as on waking"),
        "StorageChanged" => {
            cell(&[Standby, TakingOver, Standalone], "noted; a start waits no longer for the disk")
        }
        "PreflightChanged" | "MaintenanceCleared" | "MaintenanceExpired" | "LicenceChanged" => {
            cell(&[Standby, TakingOver], "noted, then decided as on waking")
        }
        "DialFinished" => cell(
            &[Standby, TakingOver],
            "noted; silence counts on from the last echo. Unproved and overdue: stands by",
        ),
        "SessionEnded" => cell(&[Standby, TakingOver], "noted; silence counts on from the last echo"),
        "TakeoverRequested" => cell(
            &[TakingOver],
            "taken by hand, unless the peer is alive and has the duty or may be taking it, or this node is unfit",
        ),
        "SessionProved" => cell(
            &[],
            "judged; an older session of the same path, or of an earlier run of the peer, is closed",
        ),
        "ModeRequested" => cell(&[Standalone], MODE_IDLE),
        other => idle(other)?,
    })
}

fn standby(kind: &str) -> Option<Cell> {
    Some(match kind {
        "Woke" => cell(
            &[TakingOver],
            "the peer has been silent for T: takes the duty. The primary, stable for long enough, asks for it back",
        ),
        "BeatArrived" => cell(
            &[TakingOver],
            "the peer released the duty: taken, or declined; offers are answered; nobody has the duty: the start table",
        ),
        "TombstoneRead" => {
            cell(&[TakingOver], "the promised secret of the newest session: takes the duty at once")
        }
        "RefusalConfirmed" => {
            cell(&[TakingOver], "only with `takeover_confirm` and no witness: takes the duty at once")
        }
        "SessionEnded" | "DialFinished" => cell(&[TakingOver], "noted; silence counts on from the last echo"),
        "PreflightChanged" | "EpochsReserved" | "StorageChanged" | "MaintenanceCleared"
        | "MaintenanceExpired" | "LicenceChanged" => cell(&[TakingOver], "noted, then decided as on waking"),
        "TakeoverRequested" => cell(
            &[TakingOver],
            "taken by hand, unless the peer is alive and has the duty or may be taking it, or this node is unfit",
        ),
        "SessionProved" => cell(
            &[],
            "judged; an older session of the same path, or of an earlier run of the peer, is closed; a tombstone is void, \
             unless another path has carried the link all the while",
        ),
        "ModeRequested" => cell(&[Standalone], MODE_IDLE),
        other => idle(other)?,
    })
}

fn idle(kind: &str) -> Option<Cell> {
    Some(match kind {
        "Stalled" => cell(&[], "settling: no takeover before a new acknowledgement or a full T"),
        "SessionEnded" | "DialFinished" => cell(&[], "noted; silence counts on from the last echo"),
        "RefusalConfirmed" | "TombstoneRead" => {
            cell(&[], "ignored: the peer may be starting, too; nothing was promised")
        }
        "TombstoneArmed" | "PluginsReady" | "PluginsFailed" | "PluginsReaped" | "StopStuck"
        | "GuardFired" => cell(&[], IDLE),
        "SwitchoverRequested" => cell(&[], "asks the active for the duty, or is refused with the reason"),
        "StopRequested" => cell(&[], "finished at once: nothing runs here"),
        other => common(other)?,
    })
}

fn common(kind: &str) -> Option<Cell> {
    Some(match kind {
        "PreflightChanged" => cell(&[], "noted; said when it changes"),
        "SummaryChanged" => cell(&[], "noted; goes with the next beat"),
        "EpochsReserved" | "StorageChanged" => cell(&[], "noted"),
        "LicenceChanged" => cell(&[], "noted"),
        "SwitchoverRequested" => cell(&[], "refused with the reason"),
        "MaintenanceSet" | "MaintenanceCleared" | "MaintenanceExpired" => {
            cell(&[], "pair-wide: a new version, the newer wins")
        }
        "TakeoverRequested" => cell(&[], "refused: there is nothing to take"),
        "ModeRequested" => cell(&[], "refused while the duty moves"),
        _ => return None,
    })
}

fn holding(kind: &str) -> Option<Cell> {
    Some(match kind {
        "Woke" => cell(&[Yielding], "the lease is renewed; one that ran out counts as `GuardFired`"),
        "Stalled" => cell(&[Yielding], "the lease is judged first: one that ran out counts as `GuardFired`"),
        "SessionProved" => cell(&[], "judged; a fresh tombstone secret is asked for"),
        "SessionEnded" | "DialFinished" => cell(&[], "noted; the duty stays"),
        "RefusalConfirmed" | "TombstoneRead" => cell(&[], "ignored: this node has the duty already"),
        "TombstoneArmed" => cell(&[], "the report carries the promise from now on"),
        "PluginsFailed" => {
            cell(&[Yielding], "stops; released to a fit peer, else tried again after the backoff")
        }
        "PluginsReaped" => cell(&[Standby], "everything ended unasked: as a failure that is already over"),
        "StopStuck" => cell(&[], "ignored: nothing is being stopped"),
        "GuardFired" => cell(&[Yielding], "kill, then `Starting` with a full wait"),
        "LicenceChanged" => cell(&[Yielding], "under a witness, without licence and promise: killed"),
        other => common(other)?,
    })
}

fn taking_over(kind: &str) -> Option<Cell> {
    Some(match kind {
        "BeatArrived" => cell(
            &[Yielding],
            "the peer is active, too: the loser yields, the winner goes on under a new epoch",
        ),
        "PluginsReady" => cell(&[Active], "every plugin is ready"),
        "StopRequested" => cell(&[Yielding], "stops, then releases or finishes"),
        other => holding(other)?,
    })
}

fn active(kind: &str) -> Option<Cell> {
    Some(match kind {
        "Woke" => cell(
            &[Yielding],
            "the lease is renewed; one that ran out counts as `GuardFired`; a stop whose offer lapsed goes on without",
        ),
        "BeatArrived" => cell(
            &[Yielding, Standalone],
            "the peer asks for the duty: yields. It is active, too: the loser yields. It has heard that the mode is to be \
             deactivated: runs alone from now on",
        ),
        "ModeRequested" => cell(
            &[Yielding, Standalone],
            "a new role: offered to a fit peer first, else stops; then starts anew. Deactivated: the peer is told, or, by \
             force or without one: runs alone",
        ),
        "SessionProved" | "SessionEnded" => {
            cell(&[Yielding], "judged or noted; the duty stays, unless a stop waited for the peer")
        }
        "PluginsReady" => cell(&[], "ignored: ready already"),
        "SwitchoverRequested" => cell(&[], "the duty is offered, or the request refused with the reason"),
        "StopRequested" => cell(&[Yielding], "offered to a fit peer first; else stops"),
        other => holding(other)?,
    })
}

fn yielding(kind: &str) -> Option<Cell> {
    Some(match kind {
        "Woke" => cell(&[], "the lease goes on during the stop, up to its limit, then kill"),
        "Stalled" => cell(&[], "a lease that ran out counts as `GuardFired`"),
        "BeatArrived" => {
            cell(&[], "noted; decided when every plugin is gone. The peer runs its plugins, too: a conflict")
        }
        "SessionProved" | "SessionEnded" | "DialFinished" => {
            cell(&[], "noted; decided when every plugin is gone")
        }
        "RefusalConfirmed" | "TombstoneRead" => cell(&[], "ignored: this node has the duty still"),
        "TombstoneArmed" => cell(&[], "ignored: nothing is promised any more"),
        "PluginsReady" | "PluginsFailed" => cell(&[], "ignored: late news of what is being stopped"),
        "PluginsReaped" => cell(
            &[Standby, Starting, TakingOver],
            "released to the peer; or back: rolled back, tried again, or waiting after the guard fired",
        ),
        "StopStuck" => cell(&[], "alarm: the duty cannot move, it is never reported as done"),
        "GuardFired" => cell(&[], "kill; `Starting` follows"),
        "StopRequested" => cell(&[], "finished once every plugin is gone"),
        other => common(other)?,
    })
}

fn standalone(kind: &str) -> Option<Cell> {
    Some(match kind {
        "Woke" => {
            cell(&[], "the lease is renewed; ended plugins start again after the backoff, under a new epoch")
        }
        "Stalled" => cell(&[], "a lease that ran out counts as `GuardFired`"),
        "SessionProved" | "BeatArrived" | "SessionEnded" | "DialFinished" => {
            cell(&[], "noted; a peer that runs the plugins, too, is an alarm")
        }
        "RefusalConfirmed" | "TombstoneRead" | "TombstoneArmed" => cell(&[], "ignored: no peer counts"),
        "PluginsReady" => cell(&[], "said"),
        "PluginsFailed" | "GuardFired" => cell(&[], "stopped or killed; started again after the backoff"),
        "PluginsReaped" => cell(&[], "the start after the backoff becomes possible"),
        "StopStuck" => cell(&[], "alarm"),
        "StopRequested" => cell(&[Yielding], "stops, then finishes"),
        "ModeRequested" => cell(&[Yielding], "a new role: stops, then starts anew with it"),
        other => common(other)?,
    })
}

const HEAD: &str = "<!-- Generated from crates/failover-core/src/table.rs; do not edit. `UPDATE_TABLE=1 cargo test -p \
failover-core --test table` writes it anew. -->

# The state machine

One machine per node, one driver that feeds it. States cause nothing; transitions do, and each is an event with one
sentence that the journal, the log, the command line and the console show alike.

```mermaid
stateDiagram-v2
    [*] --> Starting
";

/// The page for people: the diagram and, for each state, what every input does. `docs/state-machine.md` is this.
#[must_use]
pub fn markdown() -> String {
    let mut page = HEAD.to_owned();
    for from in State::ALL {
        for to in State::ALL {
            let causes: Vec<&str> = KINDS
                .into_iter()
                .filter(|kind| look_up(from, kind).is_some_and(|cell| cell.to.contains(&to)))
                .collect();
            if !causes.is_empty() {
                let more = if causes.len() > 3 { ", …" } else { "" };
                let first = causes.get(..3).unwrap_or(&causes).join(", ");
                let _ = writeln!(page, "    {from:?} --> {to:?}: {first}{more}");
            }
        }
    }
    page.push_str("```\n\n\"Decided\" means: the start table beside a living peer, the rules of silence beside nobody.\n");
    for state in State::ALL {
        let _ =
            write!(page, "\n## {state:?}\n\n| input | may lead to | what happens |\n| --- | --- | --- |\n");
        for kind in KINDS {
            let Some(cell) = look_up(state, kind) else { continue };
            let to: Vec<String> = cell.to.iter().map(|to| format!("{to:?}")).collect();
            let to = if to.is_empty() { "–".to_owned() } else { to.join(", ") };
            let _ = writeln!(page, "| `{kind}` | {to} | {} |", cell.does);
        }
    }
    page
}
