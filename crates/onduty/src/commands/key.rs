//! `onduty key generate`: the key that both nodes of a pair share.

use std::io;
use std::path::Path;

use certificate_trust::{PairKey, write_key_file};
use service_kit::codes::Code;

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
