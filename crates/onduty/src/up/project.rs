//! The fingerprint of the plugin definitions: both nodes of a pair should run the same.
//!
//! SHA-256 over the values that must not differ between the nodes. Commands, directories, users, variables and
//! addresses may (a path or an address of the node itself), so they are left out.

use sha2::{Digest, Sha256};

use service_kit::settings::Loaded;

/// The values that belong to a node rather than to the pair.
const PER_NODE: [&str; 8] = ["command", "env", "dir", "user", "ready", "alive", "preflight", "group"];

/// In hexadecimal.
pub(crate) fn fingerprint(loaded: &Loaded) -> String {
    let mut hash = Sha256::new();
    for name in loaded.settings.plugins.keys() {
        part(&mut hash, &format!("plugins.{name}"));
    }
    for value in loaded.effective() {
        let mut words = value.key.split('.');
        let plugin = words.next() == Some("plugins");
        let field = words.nth(1).unwrap_or_default();
        if plugin && !PER_NODE.contains(&field) {
            part(&mut hash, &value.key);
            part(&mut hash, value.value.as_deref().unwrap_or_default());
        }
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Length first, so that no two lists of texts are the same bytes.
fn part(hash: &mut Sha256, text: &str) {
    hash.update((text.len() as u64).to_be_bytes());
    hash.update(text.as_bytes());
}
