//! The exchange of the key on the disk: every step, every order, a power cut at every point, and what a running node makes of it.
#![allow(clippy::unwrap_used, reason = "a test may fail by unwrapping")]

mod support;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use certificate_trust::{
    KeyFiles, KeyFingerprint, KeyRing, KeySlot, KeySources, KeyStore, PairKey, PairKeys, RotationError,
    Standing, write_key_file,
};
use service_kit::Clock;
use support::keys;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// Far above what it takes, also on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(30);
const PASSPHRASE: &str = "correct horse battery stäple";

/// A node's keys on the disk.
struct Place {
    files: KeyFiles,
    _folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let files = KeyFiles::of(&folder.path().join("pair.key"));
        write_key_file(files.key(), &PairKey::generate().unwrap()).unwrap();
        Self { files, _folder: folder }
    }

    /// As the link would use them.
    fn load(&self) -> PairKeys {
        PairKeys::load(KeySources { key_file: Some(self.files.key()), ..KeySources::default() }).unwrap()
    }

    fn fingerprints(&self) -> Vec<KeyFingerprint> {
        self.load().newest_first().map(|(_, key)| key.fingerprint()).collect()
    }

    /// Which of the files are there, and that none of them is open to others.
    fn there(&self) -> [bool; 3] {
        let folder = self.files.key().parent().unwrap();
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            assert!(!entry.file_name().to_string_lossy().starts_with('.'), "left over: {entry:?}");
            assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o7777, 0o600, "{entry:?}");
        }
        [self.files.key().to_owned(), self.files.next(), self.files.previous()].map(|path| path.exists())
    }

    fn store(&self) -> KeyStore {
        let sources = KeySources { key_file: Some(self.files.key()), ..KeySources::default() };
        KeyStore::open(sources, false, Clock::real()).unwrap()
    }
}

fn copy(from: &Path, to: &Path) {
    fs::copy(from, to).unwrap();
}

fn refused(step: Result<Standing, RotationError>) -> String {
    match step {
        Err(RotationError::NotNow(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_four_stages_are_one_file_more_or_less_each_and_done_again_change_nothing() {
    let place = Place::new();
    let old = place.fingerprints()[0];
    let done = place.files.prepare(None).unwrap();
    let (slot, new) = done.other.unwrap();
    assert_eq!((done.current, slot, done.changed), (old, KeySlot::Next, true));
    assert_eq!((place.fingerprints(), place.there()), (vec![old, new], [true, true, false]));
    assert!(!place.files.prepare(None).unwrap().changed);
    assert!(refused(place.files.finish()).contains("not used yet"));

    let done = place.files.use_next().unwrap();
    assert_eq!(done, Standing { current: new, other: Some((KeySlot::Previous, old)), changed: true });
    assert_eq!((place.fingerprints(), place.there()), (vec![new, old], [true, false, true]));
    assert!(!place.files.use_next().unwrap().changed);
    assert!(refused(place.files.prepare(None)).contains("rotate finish"), "one rotation at a time");

    let done = place.files.finish().unwrap();
    assert_eq!(done, Standing { current: new, other: None, changed: true });
    assert_eq!((place.fingerprints(), place.there()), (vec![new], [true, false, false]));
    assert!(!place.files.finish().unwrap().changed && !place.files.abort().unwrap().changed);
    assert!(refused(place.files.use_next()).contains("rotate prepare"));
}

#[test]
fn what_was_prepared_or_used_is_taken_back() {
    let place = Place::new();
    let old = place.fingerprints();
    for is_used in [false, true] {
        place.files.prepare(None).unwrap();
        if is_used {
            place.files.use_next().unwrap();
        }
        assert!(place.files.abort().unwrap().changed);
        assert_eq!((place.fingerprints(), place.there()), (old.clone(), [true, false, false]));
    }
}

#[test]
fn the_other_node_takes_the_same_key_and_no_other() {
    let (a, b) = (Place::new(), Place::new());
    copy(a.files.key(), b.files.key());
    a.files.prepare(None).unwrap();
    let text = fs::read_to_string(a.files.next()).unwrap();
    assert!(b.files.prepare(Some(&text)).unwrap().changed);
    assert!(!b.files.prepare(Some(&text)).unwrap().changed, "twice is no harm");
    assert_eq!(a.fingerprints(), b.fingerprints());
    let third = PairKey::generate().unwrap();
    assert!(refused(b.files.prepare(Some(&third))).contains("rotate abort"));
    let in_use = fs::read_to_string(a.files.key()).unwrap();
    assert!(refused(b.files.prepare(Some(&in_use))).contains("in use already"));
    for (wrong, words) in [("short", "has 5 bytes"), ("odk1_cut", "cut or changed"), ("", "empty")] {
        let Err(RotationError::Key(error)) = b.files.prepare(Some(wrong)) else { panic!("{wrong}") };
        assert!(error.to_string().contains(words), "{error}");
    }
}

/// What a power cut can leave between two changes of `use`: the node starts with both keys, and the step is done again.
#[test]
fn a_power_cut_in_the_middle_leaves_keys_that_can_be_used() {
    let place = Place::new();
    let old = place.fingerprints()[0];
    place.files.prepare(None).unwrap();
    let new = place.fingerprints()[1];
    let (key, next, previous) = (place.files.key(), place.files.next(), place.files.previous());

    copy(key, &previous);
    assert_eq!(place.fingerprints(), [old, new], "the key before is written");
    let done = place.files.use_next().unwrap();
    assert_eq!((done.current, place.fingerprints(), done.changed), (new, vec![new, old], true));

    copy(key, &next);
    assert_eq!(place.fingerprints(), [new, old], "the next key is in its place, and still where it was");
    assert!(!place.files.use_next().unwrap().changed);
    assert_eq!(place.there(), [true, false, true], "and the rest is tidied up");

    // `abort` has put the key before back, and not yet removed it.
    copy(&previous, key);
    assert_eq!(place.fingerprints(), [old]);
    assert!(place.files.abort().unwrap().changed);
    assert_eq!((place.fingerprints(), place.there()), (vec![old], [true, false, false]));

    // Half a file under the name that is renamed last.
    fs::write(key.with_file_name(".pair.key.next.onduty"), "odk1_ha").unwrap();
    assert_eq!(place.fingerprints(), [old]);
    place.files.prepare(None).unwrap();
    assert_eq!(place.there(), [true, true, false]);
}

/// Without a lock one step removes the half-written file of another, and takes it for its own.
#[test]
fn steps_that_are_taken_at_once_come_one_after_the_other() {
    let place = Place::new();
    let old = place.fingerprints()[0];
    let steps = |number: usize| {
        for round in 0..60 {
            let taken = match (number + round) % 3 {
                0 => place.files.prepare(None),
                1 => place.files.use_next(),
                _ => place.files.abort(),
            };
            match taken {
                Ok(_) | Err(RotationError::NotNow(_)) => {}
                Err(error) => panic!("{error:?}"),
            }
        }
    };
    std::thread::scope(|scope| {
        for number in 0..6 {
            scope.spawn(move || steps(number));
        }
    });
    place.files.abort().unwrap();
    assert_eq!((place.fingerprints(), place.there()), (vec![old], [true, false, false]), "never lost");
}

#[test]
fn what_is_of_no_use_beside_the_key_is_removed_at_the_end_and_named_before() {
    let place = Place::new();
    let write = |path: &Path, text: &[u8]| {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
    };
    let half = |of: &str| write(&place.files.key().with_file_name(of), b"odk1_ha");
    let current = fs::read(place.files.key()).unwrap();

    for is_over in [KeyFiles::finish, KeyFiles::abort] {
        write(&place.files.next(), &current);
        half(".pair.key.onduty");
        half(".pair.key.next.onduty");
        half(".pair.key.previous.onduty");
        assert!(is_over(&place.files).unwrap().changed);
        assert_eq!(place.there(), [true, false, false]);
    }

    write(&place.files.previous(), b"odk1_cut");
    for step in [place.files.prepare(None), place.files.use_next(), place.files.abort()] {
        let words = service_kit::with_causes(&step.unwrap_err());
        assert!(words.contains("delete it") && words.contains("pair.key.previous"), "{words}");
    }
    assert!(place.files.finish().unwrap().changed);
    assert_eq!(place.there(), [true, false, false]);

    // The next key that is prepared stays.
    let new = place.files.prepare(None).unwrap().other;
    write(&place.files.previous(), b"odk1_cut");
    assert_eq!(place.files.finish().unwrap().other, new);
    assert_eq!(place.there(), [true, true, false]);
    // One that is none does not keep the rotation from being taken back.
    write(&place.files.next(), b"odk1_cut");
    assert!(place.files.abort().unwrap().changed);
    assert_eq!(place.there(), [true, false, false]);
}

#[test]
fn a_key_beside_that_cannot_be_used_is_left_out_and_said() {
    let place = Place::new();
    place.files.prepare(None).unwrap();
    let sources = KeySources { key_file: Some(place.files.key()), ..KeySources::default() };
    let load = || {
        let (keys, left_out) = PairKeys::load_all(sources).unwrap();
        (keys.count(), left_out.first().map(|error| (error.code(), error.to_string())))
    };
    assert_eq!(load(), (2, None));
    for mode in [0o604, 0o602, 0o644, 0o666] {
        fs::set_permissions(place.files.next(), Permissions::from_mode(mode)).unwrap();
        let (count, left_out) = load();
        let (code, words) = left_out.unwrap();
        assert_eq!((count, code), (1, "key.permissions"), "{words}");
        assert!(words.contains("the next key in"), "{words}");
    }
    assert!(place.files.use_next().is_err(), "and does not become the key");
    fs::set_permissions(place.files.next(), Permissions::from_mode(0o600)).unwrap();
    fs::write(place.files.next(), "odk1_cut").unwrap();
    assert_eq!(load().1.unwrap().0, "key.malformed");
    fs::write(place.files.next(), fs::read(place.files.key()).unwrap()).unwrap();
    assert_eq!(load(), (1, None), "the same key is no rotation");
    fs::write(place.files.next(), &*PairKey::generate().unwrap()).unwrap();
    fs::write(place.files.previous(), &*PairKey::generate().unwrap()).unwrap();
    fs::set_permissions(place.files.previous(), Permissions::from_mode(0o600)).unwrap();
    let (count, left_out) = load();
    assert_eq!((count, left_out.unwrap().0), (2, "key.one_too_many"));
    assert_eq!(place.load().newest_first().last().unwrap().0, KeySlot::Previous);
    // The one that the settings name comes before the one beside.
    let named = place.files.key().with_file_name("named");
    write_key_file(&named, &PairKey::generate().unwrap()).unwrap();
    let keys = PairKeys::load(KeySources { previous_key_file: Some(&named), ..sources }).unwrap();
    assert_eq!(keys.previous.unwrap().origin().file(), Some(named.as_path()));
}

/// Root works on the keys of the user that onduty runs as; a group that may read keeps its right.
#[test]
fn new_files_take_after_the_key_file() {
    let place = Place::new();
    fs::set_permissions(place.files.key(), Permissions::from_mode(0o640)).unwrap();
    let is_root = std::os::unix::fs::chown(place.files.key(), Some(54_321), None).is_ok();
    place.files.prepare(None).unwrap();
    place.files.use_next().unwrap();
    for path in [place.files.key(), &place.files.previous()] {
        let about = fs::metadata(path).unwrap();
        assert_eq!(about.permissions().mode() & 0o7777, 0o640);
        let owner = std::os::unix::fs::MetadataExt::uid(&about);
        assert!(!is_root || owner == 54_321, "{owner}");
    }
}

#[test]
fn a_fingerprint_is_that_of_another_implementation_and_tells_keys_apart() {
    let text = "odk1_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
    // HKDF-SHA-256, salt "onduty-psk/1", info "public fingerprint", computed with Python's hmac.
    assert_eq!(PairKey::parse(text).unwrap().fingerprint().to_string(), "f2fa487a");
    assert_ne!(
        PairKey::parse(PASSPHRASE).unwrap().fingerprint(),
        PairKey::parse(text).unwrap().fingerprint()
    );
    let other = PairKey::generate().unwrap();
    assert_ne!(PairKey::parse(&other).unwrap().fingerprint(), PairKey::parse(text).unwrap().fingerprint());
}

async fn becomes(ring: &KeyRing, wanted: &[KeyFingerprint]) {
    let mut changes = ring.changes();
    let seen = async {
        loop {
            let now: Vec<_> = ring.states().iter().map(|state| state.fingerprint).collect();
            if now == wanted {
                return;
            }
            changes.next().await;
        }
    };
    tokio::time::timeout(PATIENCE, seen).await.unwrap_or_else(|_| panic!("{ring:?}, wanted {wanted:?}"));
}

#[tokio::test]
async fn a_running_node_follows_its_files_and_keeps_what_it_has_when_they_are_wrong() {
    let place = Place::new();
    let store = place.store();
    let (ring, mut trouble) = (store.ring(), store.trouble());
    let stop = CancellationToken::new();
    let watching = tokio::spawn(store.clone().watch(stop.clone()));
    let old = place.fingerprints()[0];
    let (_, new) = place.files.prepare(None).unwrap().other.unwrap();
    becomes(&ring, &[old, new]).await;
    place.files.use_next().unwrap();
    becomes(&ring, &[new, old]).await;

    fs::set_permissions(place.files.key(), Permissions::from_mode(0o644)).unwrap();
    let wrong = tokio::time::timeout(PATIENCE, trouble.wait_for(|why| !why.is_empty()));
    let said = wrong.await.unwrap().unwrap().clone();
    assert!(said[0].contains("mode 0644") && said[0].contains("stay in force"), "{said:?}");
    becomes(&ring, &[new, old]).await;
    fs::set_permissions(place.files.key(), Permissions::from_mode(0o600)).unwrap();
    tokio::time::timeout(PATIENCE, trouble.wait_for(Vec::is_empty)).await.unwrap().unwrap();

    place.files.finish().unwrap();
    becomes(&ring, &[new]).await;
    stop.cancel();
    tokio::time::timeout(PATIENCE, watching).await.unwrap().unwrap();
}

#[test]
fn a_file_beside_that_becomes_unusable_drops_no_key_and_one_that_is_removed_does() {
    let accepted = |store: &KeyStore| -> Vec<KeyFingerprint> {
        store.ring().states().iter().map(|state| state.fingerprint).collect()
    };
    let place = Place::new();
    let store = place.store();
    place.files.prepare(None).unwrap();
    assert!(store.look());
    let [old, new] = accepted(&store)[..] else { panic!("{store:?}") };
    let next = fs::read(place.files.next()).unwrap();
    let open = |path: &Path| fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
    let close = |path: &Path| fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
    open(&place.files.next());
    assert!(!store.look() && accepted(&store) == [old, new]);
    assert!(store.trouble().borrow()[0].contains("stay in force"), "{:?}", store.trouble().borrow());
    fs::write(place.files.next(), &next[..20]).unwrap();
    close(&place.files.next());
    assert!(!store.look() && accepted(&store) == [old, new]);
    fs::write(place.files.next(), &next).unwrap();
    assert!(!store.look() && store.trouble().borrow().is_empty());

    // The key that was the one in use is now the one before, in a file that was not there until now.
    place.files.use_next().unwrap();
    open(&place.files.previous());
    assert!(!store.look() && accepted(&store) == [old, new]);
    close(&place.files.previous());
    assert!(store.look() && accepted(&store) == [new, old]);

    // Another file that cannot be used keeps no key whose own file is gone.
    fs::write(place.files.next(), "odk1_cut").unwrap();
    close(&place.files.next());
    fs::remove_file(place.files.previous()).unwrap();
    assert!(store.look() && accepted(&store) == [new]);
}

#[test]
fn removing_the_previous_file_that_the_settings_name_drops_its_key() {
    let place = Place::new();
    let named = place.files.key().with_file_name("named");
    write_key_file(&named, &PairKey::generate().unwrap()).unwrap();
    let sources = KeySources {
        key_file: Some(place.files.key()),
        previous_key_file: Some(&named),
        ..KeySources::default()
    };
    let store = KeyStore::open(sources, false, Clock::real()).unwrap();
    assert_eq!(store.ring().newest().count(), 2);
    fs::remove_file(&named).unwrap();
    assert!(store.look());
    assert_eq!(store.ring().newest().count(), 1);
    assert!(store.trouble().borrow()[0].contains("previous_key_file"), "{:?}", store.trouble().borrow());
    let anew = KeyStore::open(sources, false, Clock::real()).unwrap();
    assert_eq!((anew.ring().newest().count(), anew.trouble().borrow().len()), (1, 1));
}

#[test]
fn with_trust_in_everybody_no_passphrase_comes_in_later() {
    let place = Place::new();
    let sources = KeySources { key_file: Some(place.files.key()), ..KeySources::default() };
    let store = KeyStore::open(sources, true, Clock::real()).unwrap();
    let before = store.ring().newest().current.fingerprint();
    let write = |path: &Path| {
        fs::write(path, PASSPHRASE).unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
    };
    write(&place.files.next());
    assert!(!store.look());
    assert!(store.trouble().borrow()[0].contains("is a passphrase"), "{:?}", store.trouble().borrow());
    write(place.files.key());
    assert!(!store.look());
    assert!(store.trouble().borrow()[0].contains("stay in force"), "{:?}", store.trouble().borrow());
    assert_eq!(store.ring().newest().current.fingerprint(), before);
    assert_eq!(KeyStore::open(sources, true, Clock::real()).unwrap_err().code(), "key.guessable");
}

#[test]
fn nothing_that_is_printed_shows_a_key() {
    let place = Place::new();
    place.files.prepare(None).unwrap();
    let text = fs::read_to_string(place.files.key()).unwrap();
    let store = place.store();
    let _lease = store.ring().begin_use(store.ring().newest().current.fingerprint());
    let shown = format!("{store:?} {:?} {:?}", store.ring(), keys(text.trim(), None));
    let body = text.trim().trim_start_matches("odk1_");
    assert!(!shown.contains(body) && !shown.contains("odk1_"), "{shown}");
}
