//! The disk of a host: what was written outlives the process, what was under way does not.

use std::time::Duration;

use duty::simulation::Disk;
use failover_core::{Epoch, Memory};

use crate::world::Shared;

/// The disk of one host.
#[derive(Clone, Debug)]
pub struct HostDisk {
    /// Where everything is kept.
    pub shared: Shared,
    /// Whose disk.
    pub node: usize,
}

impl Disk for HostDisk {
    fn found(&self) -> (Memory, Option<Epoch>) {
        let world = self.shared.lock();
        let host = &world.hosts[self.node];
        (host.memory.clone(), host.reserved_up_to)
    }

    fn next_write(&self) -> (Duration, Result<(), String>) {
        match self.shared.lock().hosts[self.node].write_takes {
            Some(takes) => (takes, Ok(())),
            None => (Duration::ZERO, Err("reserving epochs: no space left on device".to_owned())),
        }
    }

    fn written(&self, reserved_up_to: Option<Epoch>, memory: Option<&Memory>) {
        let mut world = self.shared.lock();
        let host = &mut world.hosts[self.node];
        if reserved_up_to.is_some() {
            host.reserved_up_to = host.reserved_up_to.max(reserved_up_to);
        }
        if let Some(memory) = memory {
            host.memory = memory.clone();
        }
    }
}
