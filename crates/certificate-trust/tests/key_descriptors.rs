//! What keeps the keys from being read may leave no trace on their files. Alone in its process, which runs out of descriptors.
#![allow(clippy::unwrap_used, reason = "a test may fail by unwrapping")]

use certificate_trust::{KeyFiles, KeySources, KeyStore, PairKey, write_key_file};
use rustix::process::{Resource, getrlimit, setrlimit};
use service_kit::Clock;
use tempfile::TempDir;

#[tokio::test]
async fn keys_that_could_not_be_read_are_read_again_though_no_file_has_changed_since() {
    let folder = TempDir::new().unwrap();
    let files = KeyFiles::of(&folder.path().join("pair.key"));
    write_key_file(files.key(), &PairKey::generate().unwrap()).unwrap();
    files.prepare(None).unwrap();
    files.use_next().unwrap();
    let sources = KeySources { key_file: Some(files.key()), ..KeySources::default() };
    let store = KeyStore::open(sources, false, Clock::real()).unwrap();
    assert!(!store.look());
    let count = || store.ring().newest().count();
    let enough = getrlimit(Resource::Nofile);
    let mut none = enough;
    none.current = Some(0);

    files.finish().unwrap();
    setrlimit(Resource::Nofile, none).unwrap();
    assert!(!store.look() && count() == 2);
    let said = store.trouble().borrow().clone();
    setrlimit(Resource::Nofile, enough).unwrap();
    assert!(said[0].contains("stay in force"), "{said:?}");
    assert!(store.look() && count() == 1, "the key that was dropped is not accepted any more");

    // One beside it that is accepted: not for this either.
    files.prepare(None).unwrap();
    assert!(store.look() && count() == 2);
    setrlimit(Resource::Nofile, none).unwrap();
    store.refresh().await;
    let said = store.trouble().borrow().clone();
    setrlimit(Resource::Nofile, enough).unwrap();
    assert!(count() == 2 && said.len() == 1, "{said:?}");
    store.refresh().await;
    assert!(count() == 2 && store.trouble().borrow().is_empty());
}
