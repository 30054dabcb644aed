//! The control socket of a service: guarded by file permissions, and never taken away from somebody who answers.

use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;
use tokio::net::UnixListener;

/// `sockaddr_un` on Linux has 108 bytes, one of them for the end.
pub const LONGEST_PATH: usize = 107;

/// How long accepting rests after an error of the system (out of file descriptors).
const REST: Duration = Duration::from_millis(100);

/// Who may connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The owner only.
    Owner,
    /// The owner and the group.
    OwnerAndGroup,
}

/// Why there is no socket.
#[derive(Debug, Error)]
pub enum SocketError {
    /// Longer than the operating system allows.
    #[error(
        "the path of the socket, {path}, has {length} bytes; the operating system allows {LONGEST_PATH}: choose a \
         shorter `node.data_dir`"
    )]
    TooLong {
        /// The path.
        path: PathBuf,
        /// Its length.
        length: usize,
    },
    /// Somebody answers on it.
    #[error("another process answers on the socket {0}: is the node already running?")]
    InUse(PathBuf),
    /// Something else is in the way.
    #[error("{0} is in the way of the socket and is no socket: it is left alone")]
    NoSocket(PathBuf),
    /// The operating system says no.
    #[error("the socket {path} cannot be opened")]
    Io {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A listening socket; its file is removed when it is dropped.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of our file, so that somebody else's is not removed.
    file: (u64, u64),
}

impl Socket {
    /// Opens the socket. A file that a killed process left is replaced, but only when nobody answers on it. Must be
    /// called inside a runtime.
    ///
    /// # Errors
    ///
    /// When somebody answers there, or the path cannot be used.
    pub fn bind(path: &Path, access: Access) -> Result<Self, SocketError> {
        let io = |source| SocketError::Io { path: path.to_owned(), source };
        let length = path.as_os_str().len();
        if length > LONGEST_PATH {
            return Err(SocketError::TooLong { path: path.to_owned(), length });
        }
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(io)?;
        }
        remove_stale(path)?;
        // Bound under another name and private first: between bind and chmod the umask alone would decide.
        let private = private_name(path).map_err(io)?;
        let listener = UnixListener::bind(&private).map_err(io)?;
        let mode = match access {
            Access::Owner => 0o600,
            Access::OwnerAndGroup => 0o660,
        };
        let placed = std::fs::set_permissions(&private, std::fs::Permissions::from_mode(mode))
            .and_then(|()| std::fs::rename(&private, path))
            .and_then(|()| identity(path));
        match placed {
            Ok(file) => Ok(Self { listener, path: path.to_owned(), file }),
            Err(source) => {
                let _ = std::fs::remove_file(&private);
                Err(io(source))
            }
        }
    }

    /// Takes the next connection. Cancel-safe.
    ///
    /// # Errors
    ///
    /// What the operating system says about this one connection.
    pub async fn accept(&self) -> io::Result<tokio::net::UnixStream> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }

    /// Takes the next connection of a caller that is allowed: this very user, or root. Others are turned away and named in the
    /// log; after an error of the operating system accepting rests a moment, so that it does not spin. Cancel-safe.
    pub async fn accept_allowed(&self, name: &str) -> tokio::net::UnixStream {
        loop {
            match self.accept().await.map(|stream| check_caller(&stream).map(|()| stream)) {
                Ok(Ok(stream)) => return stream,
                Ok(Err(who)) => tracing::warn!(who, "turned a caller of {name} away"),
                Err(error) => {
                    tracing::warn!(%error, "accepting on {name}");
                    tokio::time::sleep(REST).await;
                }
            }
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Checks the kernel's word for who is at the other end: this very user, or root.
///
/// # Errors
///
/// Who it is instead, for the log.
fn check_caller(stream: &tokio::net::UnixStream) -> Result<(), String> {
    let caller = stream.peer_cred().map_err(|error| format!("unknown: {error}"))?;
    let own = rustix::process::geteuid().as_raw();
    if caller.uid() == own || caller.uid() == 0 { Ok(()) } else { Err(format!("user id {}", caller.uid())) }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|file| file == self.file) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = std::fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// A short free name in the same folder, within the length that sockets may have.
fn private_name(path: &Path) -> io::Result<PathBuf> {
    let mut random = [0; 3];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let name = format!(".{:02x}{:02x}{:02x}", random[0], random[1], random[2]);
    let private = path.with_file_name(name);
    if private.as_os_str().len() <= LONGEST_PATH {
        return Ok(private);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "the path is too long for a name beside it"))
}

fn remove_stale(path: &Path) -> Result<(), SocketError> {
    let io = |source| SocketError::Io { path: path.to_owned(), source };
    let metadata = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(io(e)),
    };
    if !metadata.file_type().is_socket() {
        return Err(SocketError::NoSocket(path.to_owned()));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        // Nobody listens any more: what a killed process leaves.
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path).map_err(io),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(_) => Err(SocketError::InUse(path.to_owned())),
        Err(e) => Err(io(e)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[tokio::test]
    async fn it_is_private_answers_and_is_gone_afterwards() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/onduty.sock");
        for (access, mode) in [(Access::Owner, 0o600), (Access::OwnerAndGroup, 0o660)] {
            let socket = Socket::bind(&path, access).unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode);
            let (client, server) = tokio::join!(tokio::net::UnixStream::connect(&path), socket.accept());
            assert!(client.is_ok() && server.is_ok());
            drop(socket);
            assert!(!path.exists());
        }
        assert_eq!(std::fs::read_dir(folder.path().join("run")).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_socket_somebody_answers_on_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let first = Socket::bind(&path, Access::Owner).unwrap();
        let error = Socket::bind(&path, Access::Owner).unwrap_err();
        let text =
            format!("another process answers on the socket {}: is the node already running?", path.display());
        assert_eq!(error.to_string(), text);
        drop(first);
        Socket::bind(&path, Access::Owner).unwrap();
    }

    #[tokio::test]
    async fn what_a_killed_process_left_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        // std's listener does not remove its file.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        Socket::bind(&path, Access::Owner).unwrap();
    }

    #[tokio::test]
    async fn a_file_in_the_way_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        std::fs::write(&path, b"mine").unwrap();
        let error = Socket::bind(&path, Access::Owner).unwrap_err();
        assert!(
            error.to_string().ends_with("is in the way of the socket and is no socket: it is left alone")
        );
        assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    }

    #[tokio::test]
    async fn a_path_that_is_too_long_is_said_with_its_length() {
        let path = PathBuf::from(format!("/tmp/{}/onduty.sock", "x".repeat(100)));
        let error = Socket::bind(&path, Access::Owner).unwrap_err().to_string();
        assert!(
            error.contains("has 117 bytes; the operating system allows 107: choose a shorter"),
            "{error}"
        );
    }
}
