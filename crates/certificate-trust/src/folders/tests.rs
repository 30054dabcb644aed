//! What is said of a folder that is not as it should be.
#![allow(clippy::unwrap_used, reason = "a test may fail by unwrapping")]

use tempfile::TempDir;
use tracing_subscriber::fmt::MakeWriter;

use std::fs;

use super::*;

/// What was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

fn place() -> (TempDir, TrustFolders) {
    let folder = TempDir::new().unwrap();
    let store = PkiStore::open(folder.path()).unwrap();
    (folder, TrustFolders::new(store, None, None))
}

/// A dial each second must not fill the log, and a problem that comes back must be said again.
#[test]
fn a_problem_is_said_once_while_it_lasts() {
    let (folder, folders) = place();
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_writer(log.clone()).with_ansi(false).finish();
    tracing::subscriber::with_default(subscriber, || {
        let bad = folders.store().trusted().join("bad.pem");
        fs::write(&bad, "hello").unwrap();
        fs::write(folder.path().join("trusted/crl/list.crl"), "x").unwrap();
        folders.look();
        let said = log.take();
        assert!(said.contains("bad.pem` is skipped: it holds no certificate"), "{said}");
        assert!(said.contains("list.crl` cannot be used: it holds no revocation list"), "{said}");
        folders.look();
        assert_eq!(log.take(), "");
        fs::remove_file(&bad).unwrap();
        folders.look();
        fs::write(&bad, "hello").unwrap();
        folders.clone().look();
        assert!(log.take().contains("bad.pem"));
    });
}

#[test]
fn a_folder_with_too_many_files_is_read_in_part_and_said() {
    let (_folder, folders) = place();
    let der = rcgen::generate_simple_self_signed(vec!["node-a".to_owned()]).unwrap().cert.der().to_vec();
    for number in 0..MAX_FILES {
        fs::write(folders.store().trusted().join(format!("{number:04}")), "").unwrap();
    }
    fs::write(folders.store().trusted().join("9999"), &der).unwrap();
    folders.look();
    let bundles = folders.receiver();
    assert!(bundles.borrow().pinned.is_empty());
    assert!(bundles.borrow().problems.iter().any(|problem| problem.contains("has 257 files")));
    fs::remove_file(folders.store().trusted().join("0000")).unwrap();
    folders.look();
    assert_eq!(bundles.borrow().pinned.len(), 1);
}

/// One of the rest may be meant: better nobody is trusted.
#[test]
fn too_many_rejected_ones_are_not_read_in_part() {
    let (_folder, folders) = place();
    for number in 0..=MAX_DISTRUSTED {
        fs::write(folders.store().distrusted().join(format!("{number:064X}.pem")), "").unwrap();
    }
    folders.look();
    let why = folders.receiver().borrow().unusable.clone().unwrap();
    assert!(why.contains("more than 4096 files"), "{why}");
}
