//! What may happen in a life, and how it is drawn. A new kind of deed is a variant here, a line in what draws it and an arm
//! in `act.rs`; what it breaks, `Pair::mend` has to mend. A kind that comes later is drawn by [`draw_later`], so that the
//! scenes of every seed stay what they were. A change of mode at run time is not among them yet.

use failover_core::State;

use super::plan::Weather;
use crate::Dice;
use crate::world::{ALPHA, BETA};

/// How a node dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// `kill -9` of the manager; the guard lives.
    Killed,
    /// The host loses power.
    PowerLost,
    /// The host loses power and its disk.
    DiskLost,
    /// The host loses power, and what the machine remembered is gone; the epochs are there.
    MemoryLost,
    /// The host loses power, and the file of epochs is gone; what the machine remembered is there.
    EpochsLost,
}

/// Where in a procedure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// A node is in this state.
    In(usize, State),
    /// A planned move is offered or asked for on this node.
    Prepared(usize),
    /// This node says that it has released the duty.
    Released(usize),
    /// This node's guard keeps a tombstone that the other node was told of.
    Promised(usize),
    /// This node's plugins are being ended.
    Ending(usize),
}

/// What begins a procedure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// Nothing: whatever goes on.
    Nothing,
    /// `onduty switchover` on this node.
    Switchover(usize),
    /// SIGTERM of this node.
    Terminate(usize),
    /// The manager of this node is killed.
    Kill(usize),
    /// Both nodes boot, as far as they do not run.
    Boot,
    /// The program of this node's plugin goes missing.
    Unfit(usize),
}

/// One deed. Spans are milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// A node dies.
    Die(usize, Death),
    /// A node dies in the midst of a procedure.
    DieAt {
        /// What is begun.
        begin: Beginning,
        /// What is then waited for.
        moment: Moment,
        /// And then so much longer.
        more_ms: u64,
        /// Who dies.
        victim: usize,
        /// How.
        death: Death,
    },
    /// The active node loses power while what it said last is held back; that comes out later.
    DieUnheard {
        /// For so long before the end.
        held_ms: u64,
        /// For so long after it.
        late_ms: u64,
    },
    /// A node that died starts again.
    Boot(usize),
    /// Both.
    BootBoth,
    /// `kill -9` and at once a new start, while plugins of the first may still live.
    Restart(usize),
    /// The manager stands still, its guard does not.
    Freeze(usize),
    /// The manager stands still for so long.
    FreezeFor(usize, u64),
    /// Whatever stands still goes on.
    Thaw,
    /// Both managers stand still.
    FreezeBothFor(u64),
    /// `onduty switchover`.
    Switchover(usize),
    /// `onduty takeover`.
    TakeOver(usize),
    /// SIGTERM.
    Terminate(usize),
    /// `onduty stop --no-handover`.
    StopPlainly(usize),
    /// `onduty maintenance on`, for so many seconds.
    Maintenance(usize, u64),
    /// `onduty maintenance off`.
    MaintenanceOff(usize),
    /// The plugin's program is gone, or back.
    Unfit(usize, bool),
    /// So many starts fail.
    FailStarts(usize, u32),
    /// Writes take so long, or fail.
    Disk(usize, Option<u64>),
    /// Ordered stops take so long.
    SlowStops(usize, u64),
    /// A plugin that ran ends.
    PluginDies(usize),
    /// The guard is killed, and its containment ends the plugins.
    GuardDies(usize),
    /// Nothing passes from these.
    Cut([bool; 2]),
    /// The same for so long.
    CutFor([bool; 2], u64),
    /// Every message is held back for so long: what TCP does with a loss.
    LoseFor(u64),
    /// Every message is held back.
    Hold,
    /// A firewall rejects everything for so long.
    RejectFor(u64),
    /// Messages take up to so long.
    Lag(u64),
    /// The network works.
    MendNetwork,
    /// One of two cables is cut.
    Sever(usize),
    /// Both are whole.
    MendCables,
    /// `kill -9`, and so much later a new start with a key that is not the pair's.
    WrongKey(usize, u64),
}

fn node(dice: &mut Dice) -> usize {
    dice.pick(&[ALPHA, BETA])
}

fn death(dice: &mut Dice) -> Death {
    match dice.within(0, 100) {
        0..42 => Death::Killed,
        42..82 => Death::PowerLost,
        82..92 => Death::DiskLost,
        92..96 => Death::MemoryLost,
        _ => Death::EpochsLost,
    }
}

fn die_at(dice: &mut Dice) -> Deed {
    let begin = dice.pick(&[
        Beginning::Nothing,
        Beginning::Switchover(ALPHA),
        Beginning::Switchover(BETA),
        Beginning::Terminate(ALPHA),
        Beginning::Terminate(BETA),
        Beginning::Kill(ALPHA),
        Beginning::Kill(BETA),
        Beginning::Boot,
        Beginning::Unfit(ALPHA),
        Beginning::Unfit(BETA),
    ]);
    let whose = node(dice);
    let state =
        dice.pick(&[State::Starting, State::Standby, State::TakingOver, State::Active, State::Yielding]);
    let moment = dice.pick(&[
        Moment::In(whose, state),
        Moment::In(whose, state),
        Moment::Prepared(whose),
        Moment::Released(whose),
        Moment::Promised(whose),
        Moment::Ending(whose),
    ]);
    Deed::DieAt { begin, moment, more_ms: dice.within(0, 13), victim: node(dice), death: death(dice) }
}

/// A deed that leaves the network alone. `silence` is the silence after which a node acts.
pub(super) fn draw_fair(dice: &mut Dice, silence: u64) -> Deed {
    let span = |dice: &mut Dice| dice.within(1, 2 * silence);
    match dice.within(0, 100) {
        0..8 => Deed::Die(node(dice), death(dice)),
        8..10 => Deed::GuardDies(node(dice)),
        10..26 => die_at(dice),
        26..34 => Deed::Boot(node(dice)),
        34..46 => Deed::BootBoth,
        46..51 => Deed::Restart(node(dice)),
        51..55 => Deed::Freeze(node(dice)),
        55..61 => Deed::FreezeFor(node(dice), span(dice)),
        61..64 => Deed::Thaw,
        64..66 => Deed::FreezeBothFor(span(dice)),
        66..73 => Deed::Switchover(node(dice)),
        73..76 => Deed::TakeOver(node(dice)),
        76..80 => Deed::Terminate(node(dice)),
        80..82 => Deed::StopPlainly(node(dice)),
        82..85 => Deed::Maintenance(node(dice), dice.within(1, 20)),
        85..87 => Deed::MaintenanceOff(node(dice)),
        87..91 => Deed::Unfit(node(dice), dice.chance(50)),
        91..93 => Deed::FailStarts(node(dice), u32::try_from(dice.within(1, 3)).unwrap()),
        93..95 => Deed::PluginDies(node(dice)),
        95..98 => {
            let takes = dice.within(2, 2500);
            Deed::Disk(node(dice), dice.chance(75).then_some(takes))
        }
        _ => Deed::SlowStops(node(dice), dice.within(5, 3000)),
    }
}

/// What comes among the other scenes, in rows that stay together: cables, for a pair with two, and wrong keys. One cable at a time is fair weather.
pub(super) fn draw_later(dice: &mut Dice, weather: Weather, silence: u64, two_paths: bool) -> Vec<Vec<Deed>> {
    let mut deeds = Vec::new();
    if two_paths {
        for _ in 0..dice.within(1, 4) {
            deeds.push(vec![Deed::Sever(usize::from(dice.chance(50)))]);
            if dice.chance(60) {
                deeds.push(vec![Deed::MendCables]);
            }
        }
    }
    if weather == Weather::Foul && dice.chance(30) {
        let wrong = Deed::WrongKey(node(dice), dice.within(1, 2 * silence));
        // Held back by maintenance, a proof of death may outlive the death.
        deeds.push(if dice.chance(40) {
            vec![Deed::Maintenance(node(dice), dice.within(5, 20)), wrong, Deed::MaintenanceOff(BETA)]
        } else {
            vec![wrong]
        });
    }
    deeds
}

/// Any deed.
pub(super) fn draw_foul(dice: &mut Dice, silence: u64) -> Deed {
    let from = |dice: &mut Dice| dice.pick(&[[true, true], [true, false], [false, true]]);
    let span = |dice: &mut Dice| dice.within(1, 3 * silence);
    match dice.within(0, 100) {
        0..50 => draw_fair(dice, silence),
        50..58 => Deed::Cut(from(dice)),
        58..68 => Deed::CutFor(from(dice), span(dice)),
        68..78 => Deed::LoseFor(span(dice)),
        78..81 => Deed::Hold,
        81..84 => Deed::RejectFor(span(dice)),
        84..87 => Deed::Lag(dice.within(1, silence)),
        87..93 => Deed::DieUnheard { held_ms: dice.within(0, silence / 4 + 1), late_ms: span(dice) / 4 },
        _ => Deed::MendNetwork,
    }
}
