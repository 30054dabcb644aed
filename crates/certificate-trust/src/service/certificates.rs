//! `CertificateService`: the certificates for operators. What may be done with them is in `manage`; here it is given a name, a
//! gRPC status and a place in the journal.

use core::fmt;
use std::sync::Arc;
use std::time::Duration;

use onduty_api::caller::caller;
use onduty_api::errors::with_reason;
use onduty_api::trust::{CertificateEntry, MAX_LISTED, MAX_PROBLEMS, selector};
use onduty_api::wire::trust::v1 as wire;
use onduty_api::wire::trust::v1::CertificateStore;
use onduty_api::wire::trust::v1::certificate_service_server::CertificateService;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tonic::{Code, Request, Response, Status};

use super::convert::sentence;
use crate::TrustFolders;
use crate::manage::{self, Change, Entry, ManageError, Place};

/// Operators' threads in the folders at once; on a disk that hangs only these hang with it.
const FILE_THREADS: usize = 2;
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
                let done = work(&folders);
                drop(turn);
                done
            });
            worked.await.map_err(|_gone| stopping())?.map_err(|error| status(&error))
        };
        timeout(DISK, working).await.unwrap_or_else(|_elapsed| {
            Err(with_reason(
                Code::Unavailable,
                "STORE_UNUSABLE",
                format!("the certificate folders: the disk has not answered within {} s", DISK.as_secs()),
            ))
        })
    }

    /// Changes something, has it published, and writes it down.
    async fn change(
        &self,
        by: String,
        done: &'static str,
        work: impl FnOnce(&TrustFolders) -> Result<Change, ManageError> + Send + 'static,
    ) -> Result<(wire::Certificate, bool), Status> {
        let record = Arc::clone(&self.options.record);
        // Written down where it is done: a caller that leaves early changes nothing about that.
        let work = move |folders: &TrustFolders| {
            let Change { entry, changed } = work(folders)?;
            if changed {
                let facts = &entry.facts;
                let what = sentence(&format!("{by} {done} the certificate {facts}"));
                tracing::info!("{what}");
                record(what);
                let _published = folders.look();
            }
            Ok((entry, changed))
        };
        let (entry, changed) = self.work(work).await?;
        Ok((to_wire(entry), changed))
    }
}

fn to_wire(entry: Entry) -> wire::Certificate {
    let Entry { facts, place, path, reason, seen_unix, .. } = entry;
    CertificateEntry {
        fingerprint: *facts.fingerprint.as_bytes(),
        store: match place {
            Place::Own => CertificateStore::Own,
            Place::Trusted => CertificateStore::Trusted,
            Place::Issuers => CertificateStore::Issuer,
            Place::Rejected => CertificateStore::Rejected,
            Place::Distrusted => CertificateStore::Distrusted,
        },
        is_issuer: facts.is_authority,
        subject: facts.subject,
        issuer: facts.issuer,
        names: facts.names,
        more_names: facts.more_names,
        not_before: facts.not_before,
        not_after: facts.not_after,
        for_servers: facts.for_servers,
        file: path.display().to_string(),
        reason: reason.unwrap_or_default(),
        seen: seen_unix,
    }
    .into()
}

/// The one place where these errors become statuses.
fn status(error: &ManageError) -> Status {
    let (code, reason) = match error {
        ManageError::Malformed { .. } => (Code::InvalidArgument, "SELECTOR_MALFORMED"),
        ManageError::Ambiguous { .. } => (Code::InvalidArgument, "SELECTOR_AMBIGUOUS"),
        ManageError::Unknown { .. } => (Code::NotFound, "CERTIFICATE_UNKNOWN"),
        ManageError::Own { .. } => (Code::FailedPrecondition, "OWN_CERTIFICATE"),
        ManageError::Full { .. } => (Code::ResourceExhausted, "STORE_FULL"),
        ManageError::NoCertificate(_) => (Code::InvalidArgument, "NOT_A_CERTIFICATE"),
        ManageError::PrivateKey => (Code::InvalidArgument, "PRIVATE_KEY_GIVEN"),
        ManageError::Empty => (Code::InvalidArgument, "CERTIFICATE_EMPTY"),
        ManageError::TooLarge { .. } => (Code::InvalidArgument, "CERTIFICATE_TOO_LARGE"),
        ManageError::Many { .. } => (Code::InvalidArgument, "MANY_CERTIFICATES"),
        ManageError::Folder(_) => (Code::Unavailable, "STORE_UNUSABLE"),
    };
    with_reason(code, reason, with_causes(error))
}

fn with_causes(error: &dyn core::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words.push_str(": ");
        words.push_str(&error.to_string());
        cause = error.source();
    }
    words
}

/// The store that a request names; `None`: none.
fn place(store: i32) -> Result<Option<Place>, Status> {
    match CertificateStore::try_from(store) {
        Ok(CertificateStore::Unspecified) => Ok(None),
        Ok(CertificateStore::Own) => Ok(Some(Place::Own)),
        Ok(CertificateStore::Trusted) => Ok(Some(Place::Trusted)),
        Ok(CertificateStore::Issuer) => Ok(Some(Place::Issuers)),
        Ok(CertificateStore::Rejected) => Ok(Some(Place::Rejected)),
        Ok(CertificateStore::Distrusted) => Ok(Some(Place::Distrusted)),
        Err(_unknown) => Err(Status::invalid_argument("`store` is not known to this version")),
    }
}

#[tonic::async_trait]
impl CertificateService for Certificates {
    async fn list_certificates(
        &self,
        request: Request<wire::ListCertificatesRequest>,
    ) -> Result<Response<wire::ListCertificatesResponse>, Status> {
        let wanted = place(request.get_ref().store)?;
        let manage::Listing { entries, mut problems } =
            self.work(|folders| manage::list(folders.store())).await?;
        let mut entries: Vec<Entry> =
            entries.into_iter().filter(|entry| wanted.is_none_or(|wanted| entry.place == wanted)).collect();
        if entries.len() > MAX_LISTED {
            problems.insert(0, format!("only the first {MAX_LISTED} of {} are listed", entries.len()));
            entries.truncate(MAX_LISTED);
        }
        problems.truncate(MAX_PROBLEMS);
        Ok(Response::new(wire::ListCertificatesResponse {
            certificates: entries.into_iter().map(to_wire).collect(),
            problems: problems.iter().map(|problem| sentence(problem)).collect(),
        }))
    }

    async fn get_certificate(
        &self,
        request: Request<wire::GetCertificateRequest>,
    ) -> Result<Response<wire::GetCertificateResponse>, Status> {
        let selector = selector(request.into_inner().selector)?;
        let entry = self.work(move |folders| manage::find(folders.store(), &selector)).await?;
        let pem = entry.pem();
        Ok(Response::new(wire::GetCertificateResponse { certificate: Some(to_wire(entry)), pem }))
    }

    async fn trust_certificate(
        &self,
        request: Request<wire::TrustCertificateRequest>,
    ) -> Result<Response<wire::TrustCertificateResponse>, Status> {
        let by = self.operator(&request);
        let selector = selector(request.into_inner().selector)?;
        let work = move |folders: &TrustFolders| manage::trust(folders.store(), &selector);
        let (certificate, changed) = self.change(by, "trusted", work).await?;
        Ok(Response::new(wire::TrustCertificateResponse { certificate: Some(certificate), changed }))
    }

    async fn reject_certificate(
        &self,
        request: Request<wire::RejectCertificateRequest>,
    ) -> Result<Response<wire::RejectCertificateResponse>, Status> {
        let by = self.operator(&request);
        let selector = selector(request.into_inner().selector)?;
        let work = move |folders: &TrustFolders| manage::reject(folders.store(), &selector);
        let (certificate, changed) = self.change(by, "rejected", work).await?;
        Ok(Response::new(wire::RejectCertificateResponse { certificate: Some(certificate), changed }))
    }

    async fn import_certificate(
        &self,
        request: Request<wire::ImportCertificateRequest>,
    ) -> Result<Response<wire::ImportCertificateResponse>, Status> {
        let by = self.operator(&request);
        let wire::ImportCertificateRequest { certificate, store } = request.into_inner();
        let (into, done) = match place(store)? {
            None | Some(Place::Trusted) => (Place::Trusted, "imported, and so trusted,"),
            Some(Place::Issuers) => (Place::Issuers, "imported as an issuer"),
            Some(Place::Own | Place::Rejected | Place::Distrusted) => {
                return Err(Status::invalid_argument("`store` must be TRUSTED or ISSUER"));
            }
        };
        let work = move |folders: &TrustFolders| manage::import(folders.store(), &certificate, into);
        let (certificate, changed) = self.change(by, done, work).await?;
        Ok(Response::new(wire::ImportCertificateResponse { certificate: Some(certificate), changed }))
    }

    async fn export_certificate(
        &self,
        request: Request<wire::ExportCertificateRequest>,
    ) -> Result<Response<wire::ExportCertificateResponse>, Status> {
        let selector = selector(request.into_inner().selector)?;
        let entry = self
            .work(move |folders| {
                if selector.is_empty() {
                    manage::own(folders.store())
                } else {
                    manage::find(folders.store(), &selector)
                }
            })
            .await?;
        let pem = entry.pem();
        Ok(Response::new(wire::ExportCertificateResponse { certificate: Some(to_wire(entry)), pem }))
    }

    async fn delete_certificate(
        &self,
        request: Request<wire::DeleteCertificateRequest>,
    ) -> Result<Response<wire::DeleteCertificateResponse>, Status> {
        let by = self.operator(&request);
        let selector = selector(request.into_inner().selector)?;
        let work = move |folders: &TrustFolders| manage::delete(folders.store(), &selector);
        let (certificate, _changed) = self.change(by, "deleted", work).await?;
        Ok(Response::new(wire::DeleteCertificateResponse { certificate: Some(certificate) }))
    }
}
