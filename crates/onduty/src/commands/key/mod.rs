//! `onduty key …`: the key that both nodes of a pair share. It is made and shown here; how it is exchanged is in `rotate`.

pub(crate) mod rotate;
pub(crate) mod text;

use std::io;
use std::path::Path;

use certificate_trust::{PairKey, write_key_file};
use service_kit::codes::Code;

use crate::cli::DataArgs;
use crate::commands::{render, status};
use crate::failure::Failure;
use crate::output;

/// Makes a key, into a file that must not exist yet, or onto the standard output, or both.
pub(crate) fn generate(out: Option<&Path>, print: bool) -> Result<(), Failure> {
    let key = PairKey::generate().map_err(|error| Failure::failed(format!("making a key: {error}")))?;
    if let Some(path) = out {
        write_key_file(path, &key).map_err(|error| {
            let path = path.display();
            if error.kind() == io::ErrorKind::AlreadyExists {
                let why =
                    format!("{path} exists already, and a key is never overwritten; choose another name");
                Failure::failed(why).coded(Code::KeyFileExists)
            } else {
                Failure::failed(format!("writing {path}: {error}"))
            }
        })?;
        if !print {
            output::line(format!(
                "wrote a new key to {} (mode 0600); copy it to the other node by a safe way and name it there as \
                 redundancy.key_file",
                path.display()
            ));
        }
    }
    if print {
        output::line(key.as_str());
    }
    Ok(())
}

/// Shows the keys of a node that runs, by their fingerprints.
pub(crate) async fn show(args: &DataArgs) -> Result<(), Failure> {
    let keys = status::get(&args.node).await?.keys;
    let next_step = text::next_step(&keys);
    if args.json {
        let keys: Vec<_> = keys.iter().map(render::pair_key).collect();
        output::json(&serde_json::json!({ "keys": keys, "next_step": next_step }));
        return Ok(());
    }
    if keys.is_empty() {
        output::line("this node has no key");
    }
    for ((name, row), key) in text::rows(&keys).iter().zip(&keys) {
        let place = if key.file.is_empty() { "the settings" } else { &key.file };
        output::line(format!("{name:<13}{row}, in {place}"));
    }
    if let Some(next) = next_step {
        output::line(next);
    }
    Ok(())
}
