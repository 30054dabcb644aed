//! `certificates`: what a person imports, certificates and revocation lists, in PEM or DER, alone or as chains. The bytes are
//! the file.
//!
//! An import is whole or nothing: what it says it did is what the folders and the node's own reading of them then hold, and
//! a refused one leaves no trace. The same bytes decide the same twice, and what was rejected stays out.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use certificate_trust::{
    Accepted, Bundle, CertificateFacts, Change, Exported, Fingerprint, ImportAs, ManageError, PkiStore,
    Place, Purpose, Question, TrustFolders, TrustMode, certificates_in, decide, parse_crls,
};
use tempfile::TempDir;

/// The time of every decision here: in November 2026.
const NOW: u64 = 1_795_000_000;
/// The words with which an import is kept.
const REASON: &str = "imported by an operator";

/// Every file of the folders.
type Files = BTreeMap<PathBuf, Vec<u8>>;

/// The folders that this thread imports into, empty before and after each use.
struct Folders {
    root: TempDir,
    store: PkiStore,
}

impl Folders {
    fn new() -> Self {
        let root = TempDir::with_prefix("onduty-fuzzing-").expect("a folder");
        let store = PkiStore::open(root.path()).expect("the certificate folders");
        Self { root, store }
    }

    fn files(&self) -> Files {
        let mut files = Files::new();
        collect(self.root.path(), &mut files);
        files
    }

    fn clear(&self) {
        for path in self.files().into_keys() {
            fs::remove_file(path).expect("a file of this test");
        }
    }
}

fn collect(folder: &Path, files: &mut Files) {
    for entry in fs::read_dir(folder).expect("a folder of this test") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, files);
        } else {
            let bytes = fs::read(&path).expect("a file of this test");
            files.insert(path, bytes);
        }
    }
}

thread_local! {
    static FOLDERS: RefCell<Option<Folders>> = const { RefCell::new(None) };
}

/// What a person imports.
///
/// # Panics
///
/// When a promise of the import, or of the reading of certificates, is broken.
pub fn certificates(bytes: &[u8]) {
    let found = read(bytes);
    FOLDERS.with_borrow_mut(|folders| {
        let folders = folders.get_or_insert_with(Folders::new);
        for import_as in [ImportAs::Peer, ImportAs::Authority, ImportAs::Intermediate] {
            import(folders, bytes, import_as);
            if found.is_empty() {
                break; // Without a certificate it does not matter for what it is imported.
            }
        }
    });
}

/// The certificates in the bytes, each of them looked at.
fn read(bytes: &[u8]) -> Vec<Vec<u8>> {
    let found = certificates_in(bytes);
    assert_eq!(found, certificates_in(bytes), "the same bytes decide the same");
    let found = match found {
        Ok(found) => found,
        Err(why) => {
            is_harmless(&why);
            return Vec::new();
        }
    };
    assert!(!found.is_empty());
    let pem = Exported { entries: Vec::new(), chain: found.clone() }.pem();
    assert_eq!(certificates_in(pem.as_bytes()).as_ref(), Ok(&found), "the same after another trip");
    found.iter().for_each(|der| look_at(der));
    found
}

fn look_at(der: &[u8]) {
    let facts = CertificateFacts::read(der).expect("found to be a certificate");
    assert_eq!(facts.fingerprint, Fingerprint::of(der));
    assert!(facts.names.len() <= 16 && (facts.more_names == 0 || facts.names.len() == 16), "{facts:?}");
    facts.names.iter().chain([&facts.subject, &facts.issuer]).for_each(|text| {
        is_harmless(text);
        assert!(text.chars().count() <= 260, "{text}");
    });
    is_harmless(&facts.to_string());
    is_harmless(&facts.validity_text());
    assert!(CertificateFacts::read(&der[..der.len() - 1]).is_err(), "cut by a byte it is still one");
    assert!(CertificateFacts::read(&[der, &[0]].concat()).is_err(), "with a byte more it is still one");

    // Nobody trusts it, and it has not even been signed by itself: no store accepts it but one that holds it.
    let (mode, shown) = (TrustMode::Store, [der]);
    let question = |purpose| Question { mode, shown: &shown, name: None, now_unix: NOW, purpose };
    for purpose in [Purpose::Server, Purpose::Client] {
        let stranger = decide(&Bundle::default(), &question(purpose)).expect_err("nobody trusts it");
        is_harmless(&stranger.to_string());
        let mut pinned = Bundle::default();
        pinned.trust(vec![der.to_vec()]);
        if let Ok(accepted) = decide(&pinned, &question(purpose)) {
            assert_eq!(accepted, Accepted::Pinned);
            let now = i64::try_from(NOW).unwrap_or(i64::MAX);
            assert!(facts.not_before <= now && now <= facts.not_after, "out of its time: {facts:?}");
        }
        pinned.distrusted.insert(facts.fingerprint);
        assert!(decide(&pinned, &question(purpose)).is_err(), "rejected, and accepted all the same");
    }
}

/// One import into empty folders, and what has to follow from it.
fn import(folders: &Folders, bytes: &[u8], import_as: ImportAs) {
    let Folders { store, .. } = folders;
    let outcome = store.import(bytes, import_as, NOW);
    let files = folders.files();
    match &outcome {
        Err(error) => {
            is_harmless(&error.to_string());
            assert!(!matches!(error, ManageError::Io(_)), "{error}");
            assert!(files.is_empty(), "refused, and written: {:?}", files.keys());
        }
        Ok(change) => {
            holds(folders, bytes, change);
            store.import(bytes, import_as, NOW).expect("what could be imported can be imported again");
            assert_eq!(folders.files(), files, "the second time changes nothing");
            rejected_stays_out(folders, bytes, import_as, change);
            folders.clear();
        }
    }
    let again = store.import(bytes, import_as, NOW);
    assert_eq!(told(&outcome), told(&again), "the same bytes decide the same");
    folders.clear();
}

/// Whether the folders hold what the change says, all that was in the bytes, and nothing else.
fn holds(folders: &Folders, bytes: &[u8], change: &Change) {
    is_harmless(&change.to_string());
    let listing = folders.store.list().expect("folders of this test");
    assert!(listing.problems.is_empty(), "{:?}", listing.problems);
    let said: BTreeSet<(Place, Fingerprint)> = change
        .certificates
        .iter()
        .map(|moved| (moved.to.expect("a place"), moved.facts.fingerprint))
        .collect();
    let there: BTreeSet<(Place, Fingerprint)> =
        listing.entries.iter().map(|entry| (entry.place, entry.facts.fingerprint)).collect();
    assert_eq!(said, there, "what was said and what is there");
    for entry in &listing.entries {
        assert_eq!(entry.reason.as_deref(), Some(REASON), "{entry:?}");
        assert!(entry.since.is_some(), "{entry:?}");
    }
    let in_bytes: BTreeSet<Fingerprint> =
        certificates_in(bytes).unwrap_or_default().iter().map(|der| Fingerprint::of(der)).collect();
    assert_eq!(in_bytes, there.iter().map(|(_, fingerprint)| *fingerprint).collect(), "all of it");
    assert_eq!(change.crls.len(), listing.crls.len(), "{:?}", change.crls);
    let lists = parse_crls(bytes).map_or(0, |lists| lists.len());
    assert!(listing.crls.len() <= lists && (lists == 0) == listing.crls.is_empty(), "all of it");

    // The node's own reading of the folders, which is what decides in a handshake.
    let bundle = TrustFolders::read_once(folders.root.path(), None);
    let trouble = (&bundle.unusable, &bundle.unreadable_crls, &bundle.problems);
    assert_eq!(trouble, (&None, &Vec::new(), &Vec::new()), "the node cannot use what was imported");
    let kept = |place: Place| there.iter().filter(|(there, _)| *there == place).count();
    assert_eq!(bundle.pinned.len(), kept(Place::Trusted));
    assert_eq!(bundle.intermediates.len(), kept(Place::Issuers));
    assert_eq!(bundle.crls.len(), listing.crls.len());
}

/// An import does not take back what an operator has rejected.
fn rejected_stays_out(folders: &Folders, bytes: &[u8], import_as: ImportAs, change: &Change) {
    let Some(first) = change.certificates.first() else { return };
    folders.store.reject(&first.facts.fingerprint.to_hex(), NOW).expect("it is there");
    let files = folders.files();
    let again = folders.store.import(bytes, import_as, NOW);
    assert!(matches!(again, Err(ManageError::WasRejected { .. })), "{again:?}");
    assert_eq!(folders.files(), files, "refused, and written");
}

fn told(outcome: &Result<Change, ManageError>) -> Result<&Change, String> {
    outcome.as_ref().map_err(|error| format!("{} {error}", error.code()))
}

/// A stranger's words in ours: on one line, and no command for a terminal.
fn is_harmless(text: &str) {
    let is_safe = |c: char| !c.is_control() && !('\u{202A}'..='\u{202E}').contains(&c);
    assert!(text.chars().all(is_safe), "{text:?}");
}
