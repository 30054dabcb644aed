//! `CertificateService`: the certificates for operators. What may be done with them is in `manage`; here it is given a name, a
//! gRPC status and a place in the journal.

use core::fmt;
use std::sync::Arc;
use std::time::Duration;

use onduty_api::Invalid;
use onduty_api::caller::caller;
use onduty_api::errors::with_reason;
use onduty_api::trust::{CertificateEntry, ListEntry, MAX_LISTED, MAX_LISTS, sentences_for_answer};
use onduty_api::wire::trust::v1 as wire;
use onduty_api::wire::trust::v1::CertificateStore;
use onduty_api::wire::trust::v1::certificate_service_server::CertificateService;
use service_kit::Clock;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status};

use super::convert::sentence;
use super::refusals::{self, query, refuse_import};
use crate::manage::{
    Action, Change, CrlEntry, Entry, Exported, ImportAs, Listing, ManageError, Moved, Place,
};
use crate::{CertificateFacts, PkiStore, TrustFolders};

/// The selector of the node's own certificate.
const OWN: &str = "own";
/// Operators' threads in the folders at once; on a disk that hangs only these hang with it.
const FILE_THREADS: usize = 2;
/// How often the end of the own certificate is looked at.
const RENEWAL: Duration = Duration::from_secs(3600);
/// How long an operator waits for the disk.
const DISK: Duration = Duration::from_secs(10);

/// How the service learns who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operators {
    /// They are at the other end of the socket.
    Direct,
    /// They come through a forwarder, whose word for who they are is taken.
    Forwarded,
    /// There is one, in this process.
    Named(String),
}

/// Takes the sentence of a change for the journal; must not wait.
pub type ChangeRecorder = Arc<dyn Fn(String) + Send + Sync>;

/// What the service is made of.
#[derive(Clone)]
pub struct CertificateOptions {
    /// The folders.
    pub folders: TrustFolders,
    /// Who asks.
    pub operators: Operators,
    /// The names that a certificate of this node is made for.
    pub names: Vec<String>,
    /// The clock.
    pub clock: Clock,
    /// Where changes are written down.
    pub record: ChangeRecorder,
}

impl fmt::Debug for CertificateOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateOptions").field("operators", &self.operators).finish_non_exhaustive()
    }
}

/// The service. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Certificates {
    options: CertificateOptions,
    turns: Arc<Semaphore>,
}

impl Certificates {
    /// Reads nothing yet.
    #[must_use]
    pub fn new(options: CertificateOptions) -> Self {
        Self { options, turns: Arc::new(Semaphore::new(FILE_THREADS)) }
    }

    /// Renews the node's own certificate by itself as its end comes near, until `stop`. Only where the node makes its own.
    pub async fn keep_renewed(self, stop: CancellationToken) {
        let renewing = async {
            loop {
                let names = self.options.names.clone();
                if let Err(error) = self.change_when_due(names).await {
                    tracing::warn!("renewing this node's own certificate: {}", error.message());
                }
                tokio::time::sleep(RENEWAL).await;
            }
        };
        let _stopped = stop.run_until_cancelled_owned(renewing).await;
    }

    async fn change_when_due(&self, names: Vec<String>) -> Result<(), Status> {
        let record = Arc::clone(&self.options.record);
        let now = self.options.clock.now().unix;
        self.work(move |folders| {
            let Some(change) = folders.store().renew_when_due(&names, now)? else { return Ok(()) };
            let todo = if change.action == Action::Prepared {
                "; it is shown from one day before the end of the one in use on: until then have it trusted on the other \
                     node (`onduty certs export next` here, `onduty certs import` there)"
            } else {
                "; where the other node does not trust it yet, `onduty certs trust` it there"
            };
            let what = sentence(&format!("renewed by itself: {change}{todo}"));
            tracing::warn!(code = change.action.code(), "{what}");
            record(what);
            let _published = folders.look();
            Ok(())
        })
        .await
    }

    /// One certificate, everywhere it is; near ones when there is none.
    async fn find(&self, selector: String) -> Result<Exported, Status> {
        let query = query(selector)?;
        self.work(move |folders| folders.store().show(&query)).await
    }

    fn operator<T>(&self, request: &Request<T>) -> String {
        match &self.options.operators {
            Operators::Direct => caller(request, false),
            Operators::Forwarded => caller(request, true),
            Operators::Named(name) => name.clone(),
        }
    }

    /// Works in the folders, away from the async threads. A work that was begun is carried out, also when the caller leaves.
    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&TrustFolders) -> Result<T, ManageError> + Send + 'static,
    ) -> Result<T, Status> {
        let working = async {
            let stopping = || Status::unavailable("this node is stopping");
            let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(|_closed| stopping())?;
            let folders = self.options.folders.clone();
            let worked = tokio::task::spawn_blocking(move || {
                let done = work(&folders).map_err(|error| refusals::status(&error, folders.store()));
                drop(turn);
                done
            });
            worked.await.map_err(|_gone| stopping())?
        };
        timeout(DISK, working).await.unwrap_or_else(|_elapsed| {
            Err(with_reason(
                Code::Unavailable,
                "STORE_UNUSABLE",
                format!("the certificate folders: the disk has not answered within {} s", DISK.as_secs()),
            ))
        })
    }

    /// Changes something, has it published, and writes it down where it is done: a caller that leaves early changes nothing
    /// about that.
    async fn change(
        &self,
        by: String,
        work: impl FnOnce(&PkiStore, u64) -> Result<Change, ManageError> + Send + 'static,
    ) -> Result<Done, Status> {
        let record = Arc::clone(&self.options.record);
        let now_unix = self.options.clock.now().unix;
        self.work(move |folders| {
            let change = work(folders.store(), now_unix)?;
            let changed = has_changed(&change);
            if changed {
                let what = sentence(&format!("{by}: {change}"));
                tracing::info!(code = change.action.code(), "{what}");
                record(what);
                let _published = folders.look();
            }
            let Change { certificates, crls, notes, .. } = change;
            let now = folders.store().list().unwrap_or_default();
            let certificates = certificates.into_iter().map(|moved| now_at(&now, moved)).collect();
            Ok(Done { certificates, lists: crls, notes: sentences_for_answer(notes), changed })
        })
        .await
    }
}

/// A change, as it is told.
struct Done {
    certificates: Vec<wire::Certificate>,
    lists: Vec<String>,
    notes: Vec<String>,
    changed: bool,
}

impl Done {
    fn certificate(&mut self) -> Option<wire::Certificate> {
        self.certificates.pop()
    }
}

/// Whether anything is other than before.
fn has_changed(change: &Change) -> bool {
    let moved = |moved: &Moved| match change.action {
        // Their `from` is where it was taken out.
        Action::Trusted | Action::Rejected | Action::Deleted => !moved.from.is_empty(),
        Action::Imported | Action::Prepared | Action::Shown => {
            moved.to.is_none_or(|to| !moved.from.contains(&to))
        }
    };
    !change.crls.is_empty() || change.certificates.iter().any(moved)
}

/// A certificate as it is kept after a change.
fn now_at(now: &Listing, moved: Moved) -> wire::Certificate {
    let Moved { facts, to, .. } = moved;
    let is_it = |entry: &&Entry| Some(entry.place) == to && entry.facts.fingerprint == facts.fingerprint;
    match now.entries.iter().find(is_it) {
        Some(entry) => to_wire(entry.clone()),
        None => facts_to_wire(facts, CertificateStore::Unspecified, String::new()),
    }
}

fn to_wire(entry: Entry) -> wire::Certificate {
    let Entry { place, file, facts, der: _, reason, since, changed_unix } = entry;
    let mut certificate = facts_to_wire(facts, store_of(place), file.display().to_string());
    certificate.reason = sentence(&reason.unwrap_or_default());
    certificate.since = since.unwrap_or_default();
    certificate.changed = i64::try_from(changed_unix).ok().map(moment);
    certificate
}

fn facts_to_wire(facts: CertificateFacts, store: CertificateStore, file: String) -> wire::Certificate {
    CertificateEntry {
        fingerprint: *facts.fingerprint.as_bytes(),
        store,
        subject: facts.subject,
        issuer: facts.issuer,
        names: facts.names,
        more_names: facts.more_names,
        not_before: facts.not_before,
        not_after: facts.not_after,
        is_authority: facts.is_authority,
        file,
        reason: String::new(),
        since: String::new(),
        changed_unix: None,
    }
    .into()
}

const fn store_of(place: Place) -> CertificateStore {
    match place {
        Place::Own => CertificateStore::Own,
        Place::Trusted => CertificateStore::Trusted,
        Place::Issuers => CertificateStore::Issuers,
        Place::Rejected => CertificateStore::Rejected,
        Place::Distrusted => CertificateStore::Distrusted,
    }
}

/// The store that a request names; `None`: none.
fn place(store: i32) -> Result<Option<Place>, Status> {
    match CertificateStore::try_from(store) {
        Ok(CertificateStore::Unspecified) => Ok(None),
        Ok(CertificateStore::Own) => Ok(Some(Place::Own)),
        Ok(CertificateStore::Trusted) => Ok(Some(Place::Trusted)),
        Ok(CertificateStore::Issuers) => Ok(Some(Place::Issuers)),
        Ok(CertificateStore::Rejected) => Ok(Some(Place::Rejected)),
        Ok(CertificateStore::Distrusted) => Ok(Some(Place::Distrusted)),
        Err(_unknown) => Err(Invalid::new("store", "is not known to this version").into()),
    }
}

fn import_as(purpose: i32) -> Result<ImportAs, Status> {
    use wire::import_certificate_request::Purpose;
    match Purpose::try_from(purpose) {
        Ok(Purpose::Unspecified) => Ok(ImportAs::Peer),
        Ok(Purpose::Authority) => Ok(ImportAs::Authority),
        Ok(Purpose::Intermediate) => Ok(ImportAs::Intermediate),
        Err(_unknown) => Err(Invalid::new("purpose", "is not known to this version").into()),
    }
}

#[tonic::async_trait]
impl CertificateService for Certificates {
    async fn list_certificates(
        &self,
        request: Request<wire::ListCertificatesRequest>,
    ) -> Result<Response<wire::ListCertificatesResponse>, Status> {
        let wanted = place(request.get_ref().store)?;
        let Listing { mut entries, mut crls, mut problems } =
            self.work(|folders| Ok(folders.store().list()?)).await?;
        entries.retain(|entry| wanted.is_none_or(|wanted| entry.place == wanted));
        crls.retain(|_| wanted.is_none());
        if entries.len() > MAX_LISTED || crls.len() > MAX_LISTS {
            let (certificates, lists) = (entries.len(), crls.len());
            problems.insert(
                0,
                format!(
                    "not all are listed: {certificates} certificates (at most {MAX_LISTED}), {lists} revocation lists (at \
                     most {MAX_LISTS})"
                ),
            );
        }
        Ok(Response::new(wire::ListCertificatesResponse {
            certificates: entries.into_iter().take(MAX_LISTED).map(to_wire).collect(),
            lists: crls.into_iter().take(MAX_LISTS).map(list_to_wire).collect(),
            problems: sentences_for_answer(problems),
        }))
    }

    async fn get_certificate(
        &self,
        request: Request<wire::GetCertificateRequest>,
    ) -> Result<Response<wire::GetCertificateResponse>, Status> {
        let found = self.find(request.into_inner().selector).await?;
        let pem = found.pem();
        let certificates = found.entries.into_iter().map(to_wire).collect();
        Ok(Response::new(wire::GetCertificateResponse { certificates, pem }))
    }

    async fn trust_certificate(
        &self,
        request: Request<wire::TrustCertificateRequest>,
    ) -> Result<Response<wire::TrustCertificateResponse>, Status> {
        let by = self.operator(&request);
        let wire::TrustCertificateRequest { selector, as_authority } = request.into_inner();
        let query = query(selector)?;
        let work = move |store: &PkiStore, now: u64| store.trust(&query, as_authority, now);
        let mut done = self.change(by, work).await?;
        let certificate = done.certificate();
        let Done { notes, changed, .. } = done;
        Ok(Response::new(wire::TrustCertificateResponse { certificate, changed, notes }))
    }

    async fn reject_certificate(
        &self,
        request: Request<wire::RejectCertificateRequest>,
    ) -> Result<Response<wire::RejectCertificateResponse>, Status> {
        let by = self.operator(&request);
        let query = query(request.into_inner().selector)?;
        let mut done = self.change(by, move |store, now| store.reject(&query, now)).await?;
        let certificate = done.certificate();
        let Done { notes, changed, .. } = done;
        Ok(Response::new(wire::RejectCertificateResponse { certificate, changed, notes }))
    }

    async fn import_certificate(
        &self,
        request: Request<wire::ImportCertificateRequest>,
    ) -> Result<Response<wire::ImportCertificateResponse>, Status> {
        let by = self.operator(&request);
        let wire::ImportCertificateRequest { content, purpose } = request.into_inner();
        let import_as = import_as(purpose)?;
        refuse_import(&content)?;
        let done = self.change(by, move |store, now| store.import(&content, import_as, now)).await?;
        let Done { certificates, lists, notes, changed } = done;
        Ok(Response::new(wire::ImportCertificateResponse { certificates, changed, lists, notes }))
    }

    async fn renew_certificate(
        &self,
        request: Request<wire::RenewCertificateRequest>,
    ) -> Result<Response<wire::RenewCertificateResponse>, Status> {
        let (by, names) = (self.operator(&request), self.options.names.clone());
        let now = request.get_ref().now;
        let work = move |store: &PkiStore, at: u64| {
            if now { store.show_next(&names, at) } else { store.prepare(&names, at) }
        };
        let mut done = self.change(by, work).await?;
        let certificate = done.certificate();
        let Done { notes, changed, .. } = done;
        Ok(Response::new(wire::RenewCertificateResponse { certificate, changed, notes }))
    }

    async fn request_certificate(
        &self,
        request: Request<wire::RequestCertificateRequest>,
    ) -> Result<Response<wire::RequestCertificateResponse>, Status> {
        let (by, names) = (self.operator(&request), self.options.names.clone());
        let now = self.options.clock.now().unix;
        let record = Arc::clone(&self.options.record);
        let pem = self
            .work(move |folders| {
                let pem = folders.store().request(&names, now)?;
                record(sentence(&format!("{by}: asked for a certificate of this node to be signed")));
                Ok(pem)
            })
            .await?;
        Ok(Response::new(wire::RequestCertificateResponse { pem }))
    }

    async fn install_certificate(
        &self,
        request: Request<wire::InstallCertificateRequest>,
    ) -> Result<Response<wire::InstallCertificateResponse>, Status> {
        let (by, names) = (self.operator(&request), self.options.names.clone());
        let content = request.into_inner().content;
        refuse_import(&content)?;
        let work = move |store: &PkiStore, at: u64| store.install(&content, &names, at);
        let mut done = self.change(by, work).await?;
        let certificate = done.certificate();
        Ok(Response::new(wire::InstallCertificateResponse { certificate, notes: done.notes }))
    }

    async fn export_certificate(
        &self,
        request: Request<wire::ExportCertificateRequest>,
    ) -> Result<Response<wire::ExportCertificateResponse>, Status> {
        let selector = request.into_inner().selector;
        let found = self.find(if selector.is_empty() { OWN.to_owned() } else { selector }).await?;
        let pem = found.pem();
        let certificate = found.entries.into_iter().next().map(to_wire);
        Ok(Response::new(wire::ExportCertificateResponse { certificate, pem }))
    }

    async fn delete_certificate(
        &self,
        request: Request<wire::DeleteCertificateRequest>,
    ) -> Result<Response<wire::DeleteCertificateResponse>, Status> {
        let by = self.operator(&request);
        let wire::DeleteCertificateRequest { selector, store } = request.into_inner();
        let (query, place) = (query(selector)?, place(store)?);
        let mut done = self.change(by, move |store, _now| store.delete(&query, place)).await?;
        let certificate = done.certificate();
        Ok(Response::new(wire::DeleteCertificateResponse { certificate, notes: done.notes }))
    }
}

fn list_to_wire(entry: CrlEntry) -> wire::RevocationList {
    let CrlEntry { file, issuer, made_unix, next_unix, revoked } = entry;
    ListEntry { issuer, file: file.display().to_string(), made: made_unix, next: next_unix, revoked }.into()
}

const fn moment(seconds: i64) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds, nanos: 0 }
}
