//! From the settings to what the machine of `failover-core` goes by.

use std::collections::BTreeMap;
use std::time::Duration;

use failover_core::{Identity, Role, Settings};

use super::Loaded;
use super::node::NodeSettings;
use super::plugin::PluginDefinition;

impl NodeSettings {
    /// The settings of the machine. `last_role` is the role that a node in mode `deactivated` had before.
    #[must_use]
    pub fn core(&self, identity: Identity, last_role: Option<Role>) -> Settings {
        let redundancy = &self.redundancy;
        let role = redundancy.mode.role().or(last_role).unwrap_or(Role::Primary);
        Settings {
            identity,
            mode: redundancy.mode,
            role,
            interval: redundancy.secondary.interval,
            timeout: redundancy.primary.timeout,
            takeover_after: redundancy.secondary.takeover_after,
            paths: redundancy
                .secondary
                .address
                .iter()
                .flat_map(|address| address.all().iter().map(ToString::to_string))
                .collect(),
            confirm_refusals: redundancy.secondary.takeover_confirm.0.is_some(),
            startup_wait: self.startup_wait(role),
            failback: redundancy.failback.mode,
            stable_for: redundancy.failback.stable_for,
            flap_limit: redundancy.flap.limit,
            flap_window: redundancy.flap.window,
            on_unproved: redundancy.secondary.on_unproved,
            handover_on_stop: redundancy.handover_on_stop,
            start_limit: self.start_limit(),
            stop_limit: self.stop_limit(),
            arbitration: self.arbitration.mode,
            unsafe_settings: Vec::new(),
        }
    }

    /// Upper bound for starting every plugin: those that wait for each other one after the other, each as long as it
    /// may take; the others at the same time.
    #[must_use]
    pub fn start_limit(&self) -> Duration {
        self.longest_chain(|plugin| plugin.ready.within)
    }

    /// Upper bound for stopping every plugin, in the reverse order: each its whole grace, then the kill.
    #[must_use]
    pub fn stop_limit(&self) -> Duration {
        let kill = failover_core::timing::KILL_TIME + failover_core::timing::SCHEDULING_DELAY;
        self.longest_chain(|plugin| plugin.stop.grace + kill)
    }

    /// The most expensive path through the order of the plugins.
    fn longest_chain(&self, cost: impl Fn(&PluginDefinition) -> Duration) -> Duration {
        let mut ends: BTreeMap<&str, Duration> = BTreeMap::new();
        // One more link of a path is known after each round; a circle, which the checks refuse, ends with them.
        for _ in 0..self.plugins.len() {
            for (name, plugin) in &self.plugins {
                let before = plugin.after.iter().filter_map(|other| ends.get(other.as_str())).max();
                let end = before.copied().unwrap_or_default() + cost(plugin);
                ends.insert(name, end);
            }
        }
        ends.into_values().max().unwrap_or_default()
    }
}

impl Loaded {
    /// [`NodeSettings::core`], with the lasting warnings.
    #[must_use]
    pub fn core(&self, identity: Identity, last_role: Option<Role>) -> Settings {
        Settings { unsafe_settings: self.warnings.clone(), ..self.settings.core(identity, last_role) }
    }
}
