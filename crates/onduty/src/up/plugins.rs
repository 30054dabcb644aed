//! From the settings of plugins to what the supervisor runs.

use plugin_supervisor::{
    ContainmentChoice, OnNewEpoch, Plugin, Preflight, Readiness, Restart, RestartPolicy,
};
use service_kit::settings::{self, ContainmentMode, PluginDefinition, ReadyCheck};

/// One plugin.
pub(crate) fn plugin(name: &str, definition: &PluginDefinition) -> Plugin {
    let PluginDefinition {
        command, env, dir, user, after, ready, stop, restart, preflight, critical, ..
    } = definition;
    Plugin {
        env: env.0.clone(),
        dir: dir.clone(),
        user: user.clone(),
        after: after.clone(),
        ready: match ready.check() {
            ReadyCheck::Tcp(address) => Readiness::Tcp(address),
            ReadyCheck::Http(url) => Readiness::Http(url),
            ReadyCheck::Command(command) => Readiness::Command(command),
            ReadyCheck::StaysUp(span) => Readiness::StaysUp(span),
        },
        ready_within: ready.within,
        stop_signal: stop.signal.get(),
        stop_grace: stop.grace,
        restart: Restart {
            policy: match restart.policy {
                settings::RestartPolicy::OnFailure => RestartPolicy::OnFailure,
                settings::RestartPolicy::Always => RestartPolicy::Always,
                settings::RestartPolicy::Never => RestartPolicy::Never,
            },
            backoff: restart.backoff,
            limit: restart.limit,
            window: restart.window,
        },
        preflight: preflight.command.clone().map(|command| Preflight { command, within: preflight.within }),
        critical: *critical,
        reload_signal: definition.reload_signal.map(settings::Signal::get),
        on_new_epoch: match definition.on_new_epoch() {
            settings::OnNewEpoch::Restart => OnNewEpoch::Restart,
            settings::OnNewEpoch::Ignore => OnNewEpoch::Ignore,
        },
        ..Plugin::new(name, command.clone())
    }
}

/// The level of containment that is wanted.
pub(crate) const fn containment(mode: ContainmentMode) -> ContainmentChoice {
    match mode {
        ContainmentMode::Auto => ContainmentChoice::Auto,
        ContainmentMode::Namespace => ContainmentChoice::Namespace,
        ContainmentMode::Cgroup => ContainmentChoice::Cgroup,
        ContainmentMode::Group => ContainmentChoice::Group,
    }
}
