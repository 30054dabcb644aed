//! What must hold whatever happens: the invariants, watched from outside.

use std::collections::BTreeSet;

use failover_core::{DutyOrder, Effect, Epoch, Report, State};

use super::Micros;

#[derive(Clone, Debug, Default)]
pub struct Checks {
    pub broken: Vec<String>,
    /// How long plugins lived on both hosts.
    pub overlap: Micros,
    /// How long nobody's plugins have been ready.
    pub dark: Micros,
    epochs: BTreeSet<Epoch>,
    last: [Option<Epoch>; 2],
    by_hand: [bool; 2],
}

impl Checks {
    pub fn booted(&mut self, node: usize) {
        self.by_hand[node] = false;
    }

    pub fn highest(&self) -> Option<Epoch> {
        self.epochs.last().copied()
    }

    pub fn allow_by_hand(&mut self, node: usize) {
        self.by_hand[node] = true;
    }

    /// I2: unique in the pair, increasing on each node.
    pub fn ordered(&mut self, node: usize, order: DutyOrder) {
        let DutyOrder::Run { epoch, .. } = order else { return };
        if self.last[node] == Some(epoch) {
            return;
        }
        if self.last[node].is_some_and(|last| epoch <= last) {
            self.broken.push(format!("I2: epoch {epoch} after {:?}", self.last[node]));
        }
        if !self.epochs.insert(epoch) {
            self.broken.push(format!("I2: epoch {epoch} was used before"));
        }
        self.last[node] = Some(epoch);
    }

    pub fn transition(&mut self, node: usize, before: &Report, after: &Report, effects: &[Effect]) {
        for effect in effects {
            // I3: plugins are started only where they may run.
            if matches!(effect, Effect::Order(DutyOrder::Run { .. })) {
                let may = matches!(after.state, State::TakingOver | State::Active | State::Standalone);
                let passed = effects
                    .iter()
                    .any(|effect| matches!(effect, Effect::Record(event) if event.transition.is_some()));
                if !may && !passed {
                    self.broken.push(format!("I3: a start was ordered in {}", after.state));
                }
            }
        }
        // I6: every transition is recorded, and before it is announced.
        if before.state != after.state {
            let recorded = effects.iter().position(
                |effect| matches!(effect, Effect::Record(event) if event.transition.is_some_and(|(_, to)| to == after.state)),
            );
            let announced = effects.iter().position(|effect| matches!(effect, Effect::Announce));
            match (recorded, announced) {
                (None, _) => {
                    self.broken.push(format!("I6: {} -> {} was not recorded", before.state, after.state))
                }
                (Some(recorded), Some(announced)) if announced < recorded => {
                    self.broken.push("I6: announced before it was recorded".to_owned());
                }
                (Some(_), _) => {}
            }
        }
        // I5: maintenance holds everything but the return of the last holder, and a person's hand.
        let took = !before.state.may_run_plugins() && after.state == State::TakingOver;
        let same_holder = before.last_held.is_some_and(|held| held >= before.highest_epoch);
        if took
            && after.maintenance.window.is_some()
            && before.maintenance.window.is_some()
            && !same_holder
            && !self.by_hand[node]
        {
            self.broken.push("I5: the duty was taken during maintenance".to_owned());
        }
    }
}
