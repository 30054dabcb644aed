//! What the machine wants kept over a restart. Losing it is safe; keeping it makes starts shorter and better informed.

use serde::{Deserialize, Serialize};

use crate::{Epoch, Identity, Maintenance, Role, TimingsInForce};

/// What is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// The last peer whose key was proved. A node that was never paired never takes over from silence as secondary.
    pub paired_with: Option<Identity>,
    /// The timings the peer last told.
    pub peer_timings: Option<TimingsInForce>,
    /// Maintenance.
    pub maintenance: Maintenance,
    /// The ends of the last automatic moves, in seconds of the Unix clock, for the flap latch.
    pub flap_marks_unix: Vec<u64>,
    /// The last role, for mode `deactivated`.
    pub last_role: Option<Role>,
    /// The last epoch this node held.
    pub last_held: Option<Epoch>,
    /// Whether the peer ran without redundancy (mode `deactivated`) when it was last heard: its silence is no reason to
    /// take over, for it starts its plugins whatever this node does.
    pub peer_alone: bool,
    /// The role of the peer when it was last heard. Where it is this node's own, two nodes are being swapped, and neither
    /// has the primary's right to start after a short look.
    pub peer_role: Option<Role>,
    /// The highest epoch seen of either node.
    pub highest_epoch: Epoch,
}
