//! Reads the PKI folders and makes a bundle of them, whenever something has changed.
//!
//! ```text
//!   stamps of all files ── same as at the last reading ─► nothing to do (a few calls of stat)
//!        │ other
//!        ▼
//!   read everything ─► Bundle ── same as the last ─► nothing to say
//!                        └─ other ─► revision + 1, published to every BundleReceiver
//! ```
//!
//! Looked at by the watcher (`watch.rs`) when the kernel reports a change, and before each dial ([`TrustKeeper::refresh`]). A
//! file that cannot be read takes no trust in the others away, and each such problem is logged once while it lasts. Where
//! something is missing that speaks *against* certificates, it is the other way round: an unreadable revocation list or
//! folder of rejected ones lets nothing pass that it could have spoken against.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::pki_types::CertificateRevocationListDer;
use rustls::pki_types::pem::PemObject;
use tokio::sync::{Semaphore, watch};

use service_kit::with_causes;

use crate::bundle::{
    Bundle, BundleReceiver, BundleSender, Der, Later, OwnPair, SystemRoots, TrustKeeper, Unknown,
};
use crate::files::{Stamp, stamp};
use crate::identity::OwnIdentity;
use crate::pki::{PkiStore, list, read_certificates};
use crate::rejected::{self, Kept};
use crate::system::SystemStore;
use crate::{Fingerprint, chain, files};

/// Files looked at in one folder, in the order of their names; a pair needs one or two. More are skipped and said, so that
/// a folder filled by mistake does not slow each dial.
pub(crate) const MAX_FILES: usize = 256;
/// Bytes of certificates taken from one folder: a bundle travels.
const MAX_BYTES: usize = 1024 * 1024;
/// One revocation list, and all together.
pub(crate) const MAX_CRL: usize = 1024 * 1024;
pub(crate) const MAX_CRLS: usize = 2 * 1024 * 1024;
/// Rejected certificates; above that nobody is trusted, because one of the rest may be meant.
pub(crate) const MAX_DISTRUSTED: usize = 4096;
/// Threads that may be in the folders at once. On a disk that hangs only these hang with it.
const FILE_THREADS: usize = 2;

/// The PKI folders of this process: they make the bundle, and keep unknown certificates. Clones share everything.
#[derive(Clone, Debug)]
pub struct TrustFolders(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: PkiStore,
    own: Option<OwnIdentity>,
    system: Option<SystemStore>,
    published: BundleSender,
    state: Mutex<State>,
    turns: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct State {
    /// At the last reading.
    stamps: Option<Stamps>,
    /// Whether that reading found nothing new. Until then the next look reads again: a file written twice within one tick of the
    /// file system's clock has the same stamp.
    settled: bool,
    system: Option<(Vec<Stamp>, SystemRoots)>,
    /// What was wrong at the last reading, so that each problem is said once. As many as files are read.
    said: BTreeSet<String>,
}

type Stamps = Vec<Stamp>;

impl TrustFolders {
    /// Nothing is read yet: the bundle is unusable until the first look. With an identity its certificate is part of the bundle
    /// and follows its files; with a system store the system's roots are.
    #[must_use]
    pub fn new(store: PkiStore, own: Option<OwnIdentity>, system: Option<SystemStore>) -> Self {
        let mut first = Bundle::unusable("the certificate folders have not been read yet");
        first.own = own.as_ref().map(OwnIdentity::pair);
        Self(Arc::new(Inner {
            store,
            own,
            system,
            published: watch::Sender::new(Arc::new(first)),
            state: Mutex::default(),
            turns: Arc::new(Semaphore::new(FILE_THREADS)),
        }))
    }

    /// What the folders of a node say now, for whoever looks once and changes nothing.
    ///
    /// Reads files: not for an async thread.
    #[must_use]
    pub fn read_once(root: &Path, system: Option<SystemStore>) -> Bundle {
        let folders = Self::new(PkiStore::at(root), None, system);
        let _first = folders.look();
        let bundle = folders.0.published.borrow();
        Bundle::clone(&bundle)
    }

    /// The bundles, from the newest on.
    #[must_use]
    pub fn receiver(&self) -> BundleReceiver {
        self.0.published.subscribe()
    }

    /// The folders.
    #[must_use]
    pub fn store(&self) -> &PkiStore {
        &self.0.store
    }

    /// Looks whether something has changed, and publishes it; says whether a bundle was published.
    ///
    /// Reads files: not for an async thread.
    pub fn look(&self) -> bool {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        let stamps = self.stamps();
        if state.settled && state.stamps.as_ref() == Some(&stamps) {
            return false;
        }
        state.stamps = Some(stamps);
        let mut bundle = self.read(&mut state);
        state.say(&bundle);
        let changed = self.0.published.send_if_modified(|last| {
            bundle.revision = last.revision;
            if last.revision > 0 && bundle == **last {
                return false;
            }
            bundle.revision += 1;
            *last = Arc::new(bundle);
            true
        });
        state.settled = !changed;
        changed
    }

    /// Whether the next look reads again whatever the stamps say.
    pub(crate) fn is_settled(&self) -> bool {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).settled
    }

    /// The folders that a change can happen in.
    pub(crate) fn watched(&self) -> Vec<PathBuf> {
        let store = &self.0.store;
        let mut folders = vec![store.trusted(), store.issuers(), store.distrusted(), store.own()];
        folders.extend(store.crls());
        folders
    }

    fn stamps(&self) -> Stamps {
        let store = &self.0.store;
        let [trusted_crl, issuers_crl] = store.crls();
        let mut stamps = Vec::new();
        for folder in [store.trusted(), store.issuers(), store.distrusted(), trusted_crl, issuers_crl] {
            stamps.push(stamp(folder.clone()));
            stamps.extend(list(&folder).unwrap_or_default().into_iter().take(MAX_DISTRUSTED).map(stamp));
        }
        if let Some(own) = &self.0.own {
            stamps.extend(own.files().map(stamp));
        }
        stamps.extend(self.system_stamps());
        stamps
    }

    fn system_stamps(&self) -> Stamps {
        let paths = self.0.system.as_ref().map(SystemStore::paths).unwrap_or_default();
        paths.file.into_iter().chain(paths.folders).map(stamp).collect()
    }

    fn read(&self, state: &mut State) -> Bundle {
        let store = &self.0.store;
        let mut bundle = Bundle::default();
        match read_folder(&store.trusted(), &mut bundle.problems) {
            Ok(certificates) => bundle.trust(certificates),
            Err(why) => bundle.unusable = Some(format!("the trusted certificates cannot be read: {why}")),
        }
        match read_folder(&store.issuers(), &mut bundle.problems) {
            Ok(certificates) => bundle.intermediates = certificates,
            Err(why) => bundle.problems.push(why),
        }
        if let Err(why) = read_distrusted(&store.distrusted(), &mut bundle) {
            bundle.unusable = Some(format!("the rejected certificates cannot be read: {why}"));
        }
        for folder in store.crls() {
            read_crls(&folder, &mut bundle);
        }
        bundle.system = self.read_system(state);
        bundle.own = self.read_own(&mut bundle.problems);
        bundle
    }

    fn read_system(&self, state: &mut State) -> Option<SystemRoots> {
        let store = self.0.system.as_ref()?;
        let stamps = self.system_stamps();
        match &state.system {
            Some((at_last, roots)) if *at_last == stamps && state.settled => Some(roots.clone()),
            Some(_) | None => {
                let roots = store.read();
                state.system = Some((stamps, roots.clone()));
                Some(roots)
            }
        }
    }

    /// A pair that cannot be read, or does not match, leaves the last one in place.
    fn read_own(&self, problems: &mut Vec<String>) -> Option<OwnPair> {
        let own = self.0.own.as_ref()?;
        match own.reload() {
            Ok(true) => tracing::info!(certificate = %own.facts(), "new connections show this certificate"),
            Ok(false) => {}
            Err(error) => problems.push(format!(
                "this node goes on showing its certificate {}: {}",
                own.fingerprint(),
                with_causes(&error)
            )),
        }
        Some(own.pair())
    }

    /// Files are read and written away from the async threads, which carry heartbeats. Callers wait here in turn, each
    /// until its own deadline. None: the process is ending.
    async fn off_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Option<T> {
        let turn = Arc::clone(&self.0.turns).acquire_owned().await.ok()?;
        let folders = self.clone();
        let work = move || {
            let done = work(&folders);
            drop(turn);
            done
        };
        tokio::task::spawn_blocking(work).await.ok()
    }
}

impl TrustKeeper for TrustFolders {
    fn refresh(&self) -> Later<'_, ()> {
        Box::pin(async {
            let _ = self.off_thread(Self::look).await;
        })
    }

    fn keep(&self, unknown: Unknown) -> Later<'_, Kept> {
        Box::pin(async {
            let kept = self.off_thread(move |folders| rejected::keep(&folders.0.store, &unknown)).await;
            kept.unwrap_or_else(|| Kept::Failed("this node is stopping".to_owned()))
        })
    }
}

impl State {
    fn say(&mut self, bundle: &Bundle) {
        let mut problems: BTreeSet<String> = bundle.problems.iter().cloned().collect();
        problems.extend(bundle.unusable.clone());
        problems.extend(bundle.unreadable_crls.iter().map(|why| {
            format!(
                "{why}. Until it is mended or removed no certificate is accepted because of who signed it"
            )
        }));
        for problem in problems.difference(&self.said) {
            tracing::warn!("certificate folders: {problem}");
        }
        if let Some(system) = &bundle.system {
            let summary = system.problems.join("; ");
            if system.roots.is_empty() {
                let why = format!(
                    "the operating system's store has no root certificate: nobody is trusted: {summary}"
                );
                if !self.said.contains(&why) {
                    tracing::error!("{why}");
                }
                problems.insert(why);
            } else if !summary.is_empty() {
                let why = format!("the operating system's store of root certificates: {summary}");
                if !self.said.contains(&why) {
                    tracing::warn!("{why}");
                }
                problems.insert(why);
            }
        }
        self.said = problems;
    }
}

/// All certificates of a folder, PEM or DER. Err: the folder itself cannot be read.
fn read_folder(folder: &Path, problems: &mut Vec<String>) -> Result<Vec<Der>, String> {
    let paths = list(folder).map_err(|error| with_causes(&error))?;
    if paths.len() > MAX_FILES {
        problems.push(format!(
            "`{}` has {} files: only the first {MAX_FILES} by name are read",
            folder.display(),
            paths.len()
        ));
    }
    let mut room = MAX_BYTES;
    let mut certificates: Vec<Der> = Vec::new();
    for path in paths.into_iter().take(MAX_FILES) {
        match read_certificates(&path) {
            Ok(found) => {
                let size: usize = found.iter().map(|der| der.len()).sum();
                if size > room {
                    problems.push(format!(
                        "`{}` is skipped: the certificates of this folder have more than {MAX_BYTES} bytes",
                        path.display()
                    ));
                    continue;
                }
                room -= size;
                certificates.extend(found.iter().map(|der| der.to_vec()));
            }
            Err(problem) => problems.push(format!("`{}` is skipped: {problem}", path.display())),
        }
    }
    certificates.sort();
    certificates.dedup();
    Ok(certificates)
}

/// The name of a file counts as much as what is in it: a damaged one still says which certificate is meant.
fn read_distrusted(folder: &Path, bundle: &mut Bundle) -> Result<(), String> {
    let paths = match list(folder) {
        Err(error) if error.source.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(|error| with_causes(&error))?,
    };
    if paths.len() > MAX_DISTRUSTED {
        return Err(format!("`{}` has more than {MAX_DISTRUSTED} files", folder.display()));
    }
    for path in paths {
        let named = path.file_stem().and_then(|name| name.to_str()).and_then(Fingerprint::parse);
        bundle.distrusted.extend(named);
        if named.is_some() {
            continue;
        }
        match read_certificates(&path) {
            Ok(found) => bundle.distrusted.extend(found.iter().map(|der| Fingerprint::of(der))),
            Err(problem) => {
                let path = path.display();
                bundle
                    .problems
                    .push(format!("`{path}` rejects nothing: {problem}, and its name is no fingerprint"));
            }
        }
    }
    Ok(())
}

fn read_crls(folder: &Path, bundle: &mut Bundle) {
    let paths = match list(folder) {
        Ok(paths) => paths,
        Err(error) if error.source.kind() == io::ErrorKind::NotFound => return,
        Err(error) => {
            bundle
                .unreadable_crls
                .push(format!("the revocation lists cannot be read: {}", with_causes(&error)));
            return;
        }
    };
    let mut room = MAX_CRLS - bundle.crls.iter().map(Vec::len).sum::<usize>();
    for path in paths {
        let found =
            files::read_bounded(&path, MAX_CRL).map_err(|error| error.to_string()).and_then(|bytes| {
                let found = parse_crls(&bytes)?;
                let size = found.iter().map(Vec::len).sum::<usize>();
                room = room.checked_sub(size).ok_or_else(|| {
                    format!("all revocation lists together have more than {MAX_CRLS} bytes")
                })?;
                Ok(found)
            });
        match found {
            Ok(found) => bundle.crls.extend(found),
            Err(why) => {
                bundle
                    .unreadable_crls
                    .push(format!("the revocation list `{}` cannot be used: {why}", path.display()));
            }
        }
    }
}

/// All revocation lists in these bytes, PEM or DER, each checked to be one that can be used. Takes any bytes.
///
/// # Errors
/// Says in words what is wrong.
pub fn parse_crls(bytes: &[u8]) -> Result<Vec<Der>, String> {
    let crls: Vec<Der> = if bytes.first() == Some(&0x30) {
        vec![bytes.to_vec()]
    } else {
        CertificateRevocationListDer::pem_slice_iter(bytes)
            .map(|crl| crl.map(|crl| crl.to_vec()))
            .collect::<Result<_, _>>()
            .map_err(|error| format!("its PEM text is cut or damaged: {error}"))?
    };
    if crls.is_empty() {
        return Err("it holds no revocation list".to_owned());
    }
    crls.iter().try_for_each(|der| chain::check_crl(der))?;
    Ok(crls)
}

#[cfg(test)]
mod tests;
