//! Who this node is: 16 random bytes made at its first start and kept in its data directory, and 16 more for each
//! run, so that a peer can tell a restart from a twin.

use std::io;
use std::path::{Path, PathBuf};

use failover_core::{Identity, InstanceId, NodeId, NodeName};
use thiserror::Error;

use crate::atomic_file;

/// The file in the data directory.
const FILE: &str = "node-id";
/// Longer files are not ours.
const LONGEST: u64 = 128;
/// Names for damaged files; with all of them used the last one is replaced.
const MOST_KEPT: u32 = 100;

/// Why a node cannot know who it is.
#[derive(Debug, Error)]
pub enum NodeIdentityError {
    /// The file is there but cannot be read: a new identity would be wrong, since the old one is still valid.
    #[error("the node id in {path} cannot be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("the node id cannot be kept in {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No random bytes.
    #[error("the operating system gives no random bytes")]
    Random(#[source] io::Error),
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The identity of this run.
    pub identity: Identity,
    /// Where a damaged file was kept, if there was one. To be said loudly: the peer knows this node by its old id.
    pub kept_aside: Option<PathBuf>,
}

/// The identity of this run of the node whose data is in `data_dir`, which is made if it is not there.
///
/// # Errors
///
/// When the file cannot be read or written. A damaged file is no error: it is kept aside and said loudly.
pub fn open_or_create(data_dir: &Path, name: NodeName) -> Result<Found, NodeIdentityError> {
    let path = data_dir.join(FILE);
    let instance = InstanceId(random()?);
    let (known, kept_aside) = match read(&path) {
        Ok(known) => (known, None),
        Err(Trouble::Damaged) => {
            let aside = keep_aside(&path)
                .map_err(|source| NodeIdentityError::Write { path: path.clone(), source })?;
            tracing::error!(
                "the node id in {} was damaged; it is kept as {}, and this node has a new one: its peer will see a \
                 stranger with the right key",
                path.display(),
                aside.display()
            );
            (None, Some(aside))
        }
        Err(Trouble::Unreadable(source)) => return Err(NodeIdentityError::Read { path, source }),
    };
    let node = match known {
        Some(node) => node,
        None => create(data_dir, &path)?,
    };
    Ok(Found { identity: Identity { node, instance, name }, kept_aside })
}

enum Trouble {
    Damaged,
    Unreadable(io::Error),
}

fn read(path: &Path) -> Result<Option<NodeId>, Trouble> {
    match std::fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() || metadata.len() > LONGEST => return Err(Trouble::Damaged),
        Ok(_) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Trouble::Unreadable(e)),
    }
    let text = std::fs::read(path).map_err(Trouble::Unreadable)?;
    std::str::from_utf8(&text).ok().and_then(|text| parse(text.trim())).map(Some).ok_or(Trouble::Damaged)
}

fn parse(text: &str) -> Option<NodeId> {
    let hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = hex.then(|| u128::from_str_radix(text, 16).ok())??;
    // All zeros is what a file system leaves after a crash, not what we write.
    (number != 0).then(|| NodeId(number.to_be_bytes()))
}

fn create(data_dir: &Path, path: &Path) -> Result<NodeId, NodeIdentityError> {
    let node = NodeId(random()?);
    std::fs::create_dir_all(data_dir)
        .and_then(|()| atomic_file::write_with_mode(path, format!("{node}\n").as_bytes(), 0o644))
        .map_err(|source| NodeIdentityError::Write { path: path.to_owned(), source })?;
    Ok(node)
}

fn keep_aside(path: &Path) -> io::Result<PathBuf> {
    let named = |n: u32| path.with_file_name(format!("{FILE}.corrupt-{n}"));
    let n = (1..MOST_KEPT).find(|n| std::fs::symlink_metadata(named(*n)).is_err()).unwrap_or(MOST_KEPT);
    std::fs::rename(path, named(n))?;
    Ok(named(n))
}

fn random() -> Result<[u8; 16], NodeIdentityError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|e| NodeIdentityError::Random(io::Error::other(e)))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn name() -> NodeName {
        NodeName::try_from("line1-a".to_owned()).unwrap()
    }

    #[test]
    fn the_node_keeps_its_id_and_each_run_has_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = folder.path().join("data");
        let first = open_or_create(&data_dir, name()).unwrap();
        let second = open_or_create(&data_dir, name()).unwrap();
        assert_eq!(first.identity.node, second.identity.node);
        assert_ne!(first.identity.instance, second.identity.instance);
        assert_eq!((first.kept_aside, second.kept_aside), (None, None));
        let text = std::fs::read_to_string(data_dir.join("node-id")).unwrap();
        assert_eq!(text, format!("{}\n", first.identity.node));
    }

    #[test]
    fn a_damaged_file_is_kept_aside_and_a_new_id_is_made() {
        let damaged: [&[u8]; 6] = [b"", b"\0\0\0\0", b"123", &[0xff; 32], &[b'0'; 32], &[b'a'; 5000]];
        for bytes in damaged {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("node-id"), bytes).unwrap();
            let found = open_or_create(folder.path(), name()).unwrap();
            let aside = folder.path().join("node-id.corrupt-1");
            assert_eq!(found.kept_aside.as_ref(), Some(&aside));
            assert_eq!(std::fs::read(aside).unwrap(), bytes);
            assert_eq!(open_or_create(folder.path(), name()).unwrap().identity.node, found.identity.node);
        }
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_an_error_that_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let blocked = folder.path().join("file");
        std::fs::write(&blocked, b"").unwrap();
        let error = open_or_create(&blocked, name()).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("the node id in {} cannot be read", blocked.join("node-id").display())
        );
        assert!(std::error::Error::source(&error).is_some());
    }
}
