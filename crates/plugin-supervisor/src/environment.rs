//! What a plugin finds in its environment: a few of the manager's variables, what onduty says about the duty, and
//! what its definition adds. Nothing else of the manager's environment, which may hold the pair's key.

use std::collections::BTreeMap;
use std::ffi::OsString;

use failover_core::Epoch;

use crate::core::Core;
use crate::leftovers::GUARD_ID;
use crate::wire::Spec;

/// Where programs are looked for when the manager itself does not know.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The variables that are handed on.
pub(crate) fn allowed(vars: impl Iterator<Item = (OsString, OsString)>) -> BTreeMap<String, String> {
    let mut env: BTreeMap<String, String> = vars
        .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(key, _)| matches!(key.as_str(), "PATH" | "LANG" | "LC_ALL" | "TZ"))
        .collect();
    env.entry("PATH".to_owned()).or_insert_with(|| DEFAULT_PATH.to_owned());
    env
}

impl Core {
    /// How `command` of the plugin at `at` is started.
    pub(crate) fn spec(&self, at: usize, command: &[String], epoch: Option<Epoch>) -> Option<Spec> {
        let plugin = &self.lives.get(at)?.plugin;
        let mut env = self.base_env.clone();
        let mut set = |key: &str, value: String| drop(env.insert(key.to_owned(), value));
        if let Some(epoch) = epoch {
            set("ONDUTY_EPOCH", epoch.to_string());
        }
        set("ONDUTY_EPOCH_FILE", self.epoch_file.path.display().to_string());
        set("ONDUTY_ROLE", self.context.role.clone());
        set("ONDUTY_NODE", self.context.node.clone());
        if let Some(peer) = &self.context.peer {
            set("ONDUTY_PEER", peer.clone());
        }
        set("ONDUTY_DATA_DIR", self.context.data_dir.display().to_string());
        env.extend(plugin.env.clone());
        if let Some(link) = &self.link {
            // Last: leftovers are found by it.
            env.insert(GUARD_ID.to_owned(), link.run().id.clone());
        }
        Some(Spec {
            command: command.to_vec(),
            env,
            dir: plugin.dir.clone(),
            user: plugin.user.clone(),
            group: plugin.group.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_of_the_manager_is_handed_on() {
        let vars = [("ONDUTY_REDUNDANCY__KEY", "odk1_x"), ("LANG", "de_DE.UTF-8"), ("AWS_SECRET", "y")];
        let env = allowed(vars.into_iter().map(|(key, value)| (key.into(), value.into())));
        let keys: Vec<&str> = env.keys().map(String::as_str).collect();
        assert_eq!(keys, ["LANG", "PATH"]);
    }
}
