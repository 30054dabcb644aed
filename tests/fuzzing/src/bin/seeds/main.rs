//! Writes the hand-made part of the corpora anew: `cargo run --package fuzzing --bin seeds`.
//!
//! ```text
//!   link.rs          handshake, heartbeat, tombstone     (made with the product's own encoders)
//!   certificates.rs  certificates                        (other keys each time: run it for what is new alone)
//!   settings.rs      settings                            (and the examples of this repository)
//! ```
//!
//! To be run when the wire or the settings have changed. What a fuzzer has found lies beside these files under the names it
//! gave, and is left alone. An argument names the one target to write.
#![allow(clippy::print_stdout, reason = "a command line tool talks through its two streams")]

mod certificates;
mod link;
mod settings;

use std::error::Error;
use std::path::Path;

/// A name, and the bytes.
type Seed = (&'static str, Vec<u8>);

fn main() -> Result<(), Box<dyn Error>> {
    let wanted = std::env::args().nth(1);
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    for (target, _) in fuzzing::TARGETS {
        if wanted.as_ref().is_some_and(|wanted| wanted != target) {
            continue;
        }
        let seeds = match target {
            "handshake" => link::handshake(),
            "heartbeat" => link::heartbeat(),
            "tombstone" => link::tombstone(),
            "certificates" => certificates::certificates()?,
            "settings" => settings::settings(),
            other => return Err(format!("no seeds for `{other}`").into()),
        };
        let folder = corpora.join(target);
        std::fs::create_dir_all(&folder)?;
        for (name, bytes) in &seeds {
            std::fs::write(folder.join(name), bytes)?;
        }
        println!("{target}: {} seeds", seeds.len());
    }
    Ok(())
}
