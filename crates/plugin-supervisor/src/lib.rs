//! Starts, watches and stops the plugins, through a guard that outlives the manager.
