//! Does the deeds. What is not possible as things are (a kill of what does not run) is left out.

use std::time::Duration;

use failover_core::State;

use super::deed::{Beginning, Death, Deed, Moment};
use crate::pair::{settled, state};
use crate::world::{ALPHA, BETA, Phase, World};
use crate::{Chosen, Pair};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Does one deed; what lasts a while is over when this returns.
pub(super) fn act(pair: &mut Pair, deed: Deed) {
    match deed {
        Deed::Die(host, death) => die(pair, host, death),
        Deed::DieAt { begin, moment, more_ms, victim, death } => {
            begin_procedure(pair, begin);
            let patience = pair.chosen.silence() + ms(500);
            if pair.waited(patience, |world| come(world, moment)) {
                pair.run_for(ms(more_ms));
                die(pair, victim, death);
            }
        }
        Deed::DieUnheard { held_ms, late_ms } => die_unheard(pair, ms(held_ms), ms(late_ms)),
        Deed::Boot(host) => pair.boot(host),
        Deed::BootBoth => {
            pair.boot(ALPHA);
            pair.boot(BETA);
        }
        Deed::Restart(host) => {
            pair.kill(host);
            pair.run_for(ms(1));
            pair.boot(host);
        }
        Deed::Freeze(host) => freeze(pair, host),
        Deed::FreezeFor(host, span) => {
            freeze(pair, host);
            pair.run_for(ms(span));
            pair.freeze(host, false);
        }
        Deed::FreezeBothFor(span) => {
            freeze(pair, ALPHA);
            freeze(pair, BETA);
            pair.run_for(ms(span));
            thaw(pair);
        }
        Deed::Thaw => thaw(pair),
        Deed::Switchover(host) => pair.switchover(host),
        Deed::TakeOver(host) => pair.take_over(host),
        Deed::Terminate(host) => pair.terminate(host),
        Deed::StopPlainly(host) => pair.stop_plainly(host),
        Deed::Maintenance(host, seconds) => pair.maintenance(host, seconds),
        Deed::MaintenanceOff(host) => pair.maintenance_off(host),
        Deed::Unfit(host, unfit) => pair.set_unfit(host, unfit),
        Deed::FailStarts(host, times) => {
            pair.note(host, &format!("* the next {times} starts fail"));
            pair.shared.lock().hosts[host].failing_starts = times;
        }
        Deed::Disk(host, takes) => {
            pair.note(
                host,
                &takes.map_or_else(
                    || "* the disk is full".to_owned(),
                    |takes| format!("* a write takes {takes} ms"),
                ),
            );
            pair.shared.lock().hosts[host].write_takes = takes.map(ms);
        }
        Deed::SlowStops(host, takes) => {
            pair.note(host, &format!("* an ordered stop takes {takes} ms"));
            pair.shared.lock().hosts[host].stop_takes = ms(takes);
        }
        Deed::PluginDies(host) => pair.plugin_dies(host),
        Deed::GuardDies(host) => pair.guard_dies(host),
        // One fault of the network at a time: the simulated network cannot hold back and cut.
        Deed::Cut(_) | Deed::CutFor(..) | Deed::LoseFor(_) | Deed::Hold if !is_clear(pair) => {}
        Deed::Cut(from) => pair.cut(from),
        Deed::CutFor(from, span) => {
            pair.cut(from);
            pair.run_for(ms(span));
            pair.cut([false; 2]);
        }
        Deed::LoseFor(span) => {
            pair.hold();
            pair.run_for(ms(span));
            pair.release();
        }
        Deed::Hold => pair.hold(),
        Deed::RejectFor(span) => {
            pair.reject(true);
            pair.run_for(ms(span));
            pair.reject(false);
        }
        Deed::Lag(most) => pair.lag(Some(ms(most))),
        Deed::MendNetwork => mend_network(pair),
        Deed::Sever(cable) => sever(pair, cable),
        Deed::MendCables => pair.mend_cables(),
        Deed::WrongKey(host, later) => {
            pair.kill(host);
            pair.run_for(ms(later));
            pair.note(host, "* a wrong key is put in");
            pair.shared.lock().hosts[host].wrong_key = true;
            pair.boot(host);
        }
    }
}

/// One cable at a time, and the next only when both sessions had the time to come back: more is a fault of the network.
fn sever(pair: &mut Pair, cable: usize) {
    let back = pair.chosen.silence() * 2 + Duration::from_secs(2);
    let whole = pair.shared.lock().cables.whole_since();
    if whole.is_some_and(|since| since.is_zero() || since + back < pair.now()) {
        pair.sever(cable);
    }
}

fn is_clear(pair: &Pair) -> bool {
    let world = pair.shared.lock();
    !world.held && world.cut == [false; 2]
}

/// Whatever is in the way of messages no longer is.
fn mend_network(pair: &mut Pair) {
    let (cut, held) = {
        let world = pair.shared.lock();
        (world.cut != [false; 2], world.held)
    };
    if cut {
        pair.cut([false; 2]);
    }
    if held {
        pair.release();
    }
    pair.reject(false);
    pair.lag(None);
}

fn runs(pair: &Pair, host: usize) -> bool {
    pair.shared.lock().hosts[host].phase == Phase::Manager
}

fn freeze(pair: &mut Pair, host: usize) {
    if runs(pair, host) {
        pair.freeze(host, true);
    }
}

fn thaw(pair: &mut Pair) {
    for host in [ALPHA, BETA] {
        if pair.shared.lock().hosts[host].frozen {
            pair.freeze(host, false);
        }
    }
}

fn die(pair: &mut Pair, host: usize, death: Death) {
    match death {
        Death::Killed => pair.kill(host),
        Death::PowerLost => pair.power_off(host),
        Death::DiskLost | Death::EpochsLost => {
            pair.power_off(host);
            // Epochs after a loss begin at the second of the clock: a disk is not lost twice within one.
            let lost = pair.shared.lock().hosts[host].disk_lost_at;
            if lost.is_none_or(|lost| pair.now() >= lost + Duration::from_secs(2)) {
                pair.lose_disk(host, death == Death::DiskLost, true);
            }
        }
        Death::MemoryLost => {
            pair.power_off(host);
            pair.lose_disk(host, true, false);
        }
    }
}

fn begin_procedure(pair: &mut Pair, begin: Beginning) {
    match begin {
        Beginning::Nothing => {}
        Beginning::Switchover(host) => pair.switchover(host),
        Beginning::Terminate(host) => pair.terminate(host),
        Beginning::Kill(host) => pair.kill(host),
        Beginning::Boot => {
            pair.boot(ALPHA);
            pair.boot(BETA);
        }
        Beginning::Unfit(host) => pair.set_unfit(host, true),
    }
}

fn come(world: &World, moment: Moment) -> bool {
    let report = |host: usize| world.hosts[host].operators.as_ref().map(|operators| operators.report());
    match moment {
        Moment::In(host, wanted) => state(world, host) == Some(wanted),
        Moment::Prepared(host) => {
            report(host).is_some_and(|told| told.procedure.offer.is_some() || told.procedure.ask.is_some())
        }
        Moment::Released(host) => report(host).is_some_and(|told| told.procedure.released.is_some()),
        Moment::Promised(host) => report(host).is_some_and(|told| told.tombstone.is_some()),
        Moment::Ending(host) => world.hosts[host].plugins.is_some_and(|plugins| plugins.gone_at.is_some()),
    }
}

/// The last words of a node that dies are held back and come late. Silence counts from what the survivor had sent before,
/// not from their arrival: it acts in time.
fn die_unheard(pair: &mut Pair, held: Duration, late: Duration) {
    let silence = pair.chosen.silence();
    mend_network(pair);
    thaw(pair);
    let patience = pair.chosen.longest_wait() + silence * 2;
    let calm = |world: &World| settled(world) && !world.strangers() && world.hosts.iter().all(is_sound);
    if !pair.waited(patience, calm) {
        return;
    }
    // What the faults before have set in motion is over.
    pair.run_for(silence * 2);
    if !calm(&pair.shared.lock()) {
        return;
    }
    let survivor = if pair.states()[ALPHA] == Some(State::Active) { BETA } else { ALPHA };
    let within = acts_after(&pair.chosen, survivor);
    let heartbeat = pair.now() + pair.chosen.interval * 2;
    while !pair.under_way_from(1 - survivor) && pair.now() < heartbeat {
        pair.run_for(ms(1));
    }
    let before = pair.shared.lock().checks.starts(survivor);
    pair.hold();
    pair.run_for(held);
    pair.power_off(1 - survivor);
    let died = pair.now();
    pair.run_for(late.min(silence));
    pair.release();
    let left = (died + within).saturating_sub(pair.now());
    // Whether the plugins then start is another matter.
    let acted = |world: &World| world.checks.starts(survivor) > before;
    pair.until("the survivor acts upon the silence (I9)", left, acted);
}

/// Nothing about the host stands against a takeover.
fn is_sound(host: &crate::world::Host) -> bool {
    let ready = host.operators.as_ref().is_some_and(|operators| {
        let report = operators.report();
        report.fit.is_fit() && report.maintenance.window.is_none()
    });
    ready && !host.frozen && !host.stopping && host.phase == Phase::Manager
}

/// The silence after which a node acts, by a clock that may be too slow, and what it takes to notice.
fn acts_after(chosen: &Chosen, survivor: usize) -> Duration {
    let silence =
        if survivor == ALPHA { chosen.timeout } else { chosen.takeover_after.unwrap_or(chosen.timeout) };
    silence.mul_f64(1.011) + ms(30)
}

/// Whether this node is one that has to act when nobody else does, whatever the other one does.
#[must_use]
pub(super) fn must_act(world: &World, node: usize) -> bool {
    let host = &world.hosts[node];
    let able = host.unfit.is_none()
        && host.failing_starts == 0
        && host.write_takes.is_some_and(|takes| takes < ms(100));
    is_sound(host) && able && (node == ALPHA || host.memory.paired_with.is_some())
}
