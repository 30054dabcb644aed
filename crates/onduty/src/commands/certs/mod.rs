//! `onduty certs …`: the certificates of a node, whether it runs or not.
//!
//! ```text
//!   the node runs ───────► its socket ─► CertificateService ─┐
//!   it does not, and ────► folders, locked, in this process ─┴─► the same code, the same words
//!   --config or --data-dir says where
//! ```

mod place;
pub(super) mod text;
pub(crate) mod verify;

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

use onduty_api::errors;
use onduty_api::trust::MAX_IMPORT;
use onduty_api::wire::trust::v1 as wire;
use onduty_api::wire::trust::v1::CertificateStore;
use onduty_api::wire::trust::v1::import_certificate_request::Purpose;
use tonic::Status;

use crate::cli::{CertsArgs, CertsStore, KeptCommand};
use crate::failure::Failure;
use crate::output;
use place::{Place, ask};

/// The selector of the node's own certificate.
const OWN: &str = "own";

/// Carries one of the commands out.
pub(crate) async fn run(command: &KeptCommand) -> Result<(), Failure> {
    let mut place = Place::find(command.place()).await?;
    let at = &mut place;
    let done = match command {
        KeptCommand::List { place: args, store } => list(at, args, *store).await,
        KeptCommand::Show { place: args, fingerprint } => show(at, args, fingerprint.as_deref()).await,
        KeptCommand::Trust { place: args, fingerprint, authority } => {
            trust(at, args, fingerprint, *authority).await
        }
        KeptCommand::Reject { place: args, fingerprint } => reject(at, args, fingerprint).await,
        KeptCommand::Import { place: args, file, authority, intermediate } => {
            let purpose = match (authority, intermediate) {
                (true, _) => Purpose::Authority,
                (false, true) => Purpose::Intermediate,
                (false, false) => Purpose::Unspecified,
            };
            import(at, args, file, purpose).await
        }
        KeptCommand::Renew { place: args, now } => renew(at, args, *now).await,
        KeptCommand::Request { place: args, out } => request(at, args, out.as_deref()).await,
        KeptCommand::Install { place: args, file } => install(at, args, file).await,
        KeptCommand::Export { place: _, fingerprint, out } => {
            export(at, fingerprint.as_deref(), out.as_deref()).await
        }
        KeptCommand::Delete { place: args, fingerprint, store } => {
            delete(at, args, fingerprint, *store).await
        }
    };
    place.close();
    done
}

fn store_number(store: Option<CertsStore>) -> i32 {
    store.map_or(CertificateStore::Unspecified, CertificateStore::from) as i32
}

async fn list(place: &mut Place, args: &CertsArgs, store: Option<CertsStore>) -> Result<(), Failure> {
    let request = wire::ListCertificatesRequest { store: store_number(store) };
    let listed = ask!(place, list_certificates, request)?;
    if args.json {
        output::json(&text::list_json(&listed));
    } else {
        output::line(text::list(&listed));
    }
    Ok(())
}

async fn show(place: &mut Place, args: &CertsArgs, fingerprint: Option<&str>) -> Result<(), Failure> {
    // The own one has no name that a person would know before they have seen it.
    let selector = fingerprint.unwrap_or(OWN).to_owned();
    let got = ask!(place, get_certificate, wire::GetCertificateRequest { selector })?;
    if args.json {
        let mut value = text::json(&got.certificates.first().cloned().unwrap_or_default());
        value["stores"] = got.certificates.iter().map(text::store_name).collect();
        value["pem"] = got.pem.into();
        output::json(&value);
    } else {
        let shown: Vec<String> = got.certificates.iter().map(text::show).collect();
        output::line(shown.join("\n\n"));
    }
    Ok(())
}

async fn trust(
    place: &mut Place,
    args: &CertsArgs,
    fingerprint: &str,
    authority: bool,
) -> Result<(), Failure> {
    let request = wire::TrustCertificateRequest { selector: fingerprint.to_owned(), as_authority: authority };
    let wire::TrustCertificateResponse { certificate, changed, notes } =
        ask!(place, trust_certificate, request)?;
    let words = if changed { "now trusted; the next dial accepts it" } else { "was trusted already" };
    tell(args, &Told { certificates: certificate.into_iter().collect(), changed, notes, words });
    Ok(())
}

async fn reject(place: &mut Place, args: &CertsArgs, fingerprint: &str) -> Result<(), Failure> {
    let request = wire::RejectCertificateRequest { selector: fingerprint.to_owned() };
    let wire::RejectCertificateResponse { certificate, changed, notes } =
        ask!(place, reject_certificate, request)?;
    let words = if changed {
        "now rejected: the next dial refuses it; a session that runs goes on"
    } else {
        "was rejected already"
    };
    tell(args, &Told { certificates: certificate.into_iter().collect(), changed, notes, words });
    Ok(())
}

async fn import(place: &mut Place, args: &CertsArgs, file: &Path, purpose: Purpose) -> Result<(), Failure> {
    let content = read(file)?;
    let request = wire::ImportCertificateRequest { content, purpose: purpose as i32 };
    let wire::ImportCertificateResponse { certificates, changed, lists, mut notes } =
        ask!(place, import_certificate, request)
            .map_err(|failure| failure.about(&file.display().to_string()))?;
    notes.extend(lists.iter().map(|issuer| format!("the revocation list of `{issuer}` is in force")));
    let words = match (changed, purpose) {
        (false, _) => "was there already",
        (true, _) if certificates.is_empty() => "imported",
        (true, Purpose::Unspecified) => "imported, and now trusted",
        (true, Purpose::Authority) => "imported, and everything it has signed is trusted now",
        (true, Purpose::Intermediate) => "imported: it completes chains, and nobody is trusted by that alone",
    };
    tell(args, &Told { certificates, changed, notes, words });
    Ok(())
}

async fn delete(
    place: &mut Place,
    args: &CertsArgs,
    fingerprint: &str,
    store: Option<CertsStore>,
) -> Result<(), Failure> {
    let request =
        wire::DeleteCertificateRequest { selector: fingerprint.to_owned(), store: store_number(store) };
    let wire::DeleteCertificateResponse { certificate, notes } = ask!(place, delete_certificate, request)?;
    let certificates = certificate.into_iter().collect();
    tell(args, &Told { certificates, changed: true, notes, words: "deleted" });
    Ok(())
}

/// What became of certificates.
struct Told {
    certificates: Vec<wire::Certificate>,
    changed: bool,
    notes: Vec<String>,
    words: &'static str,
}

fn tell(args: &CertsArgs, told: &Told) {
    let Told { certificates, changed, notes, words } = told;
    if args.json {
        output::json(&serde_json::json!({
            "changed": changed,
            "certificates": certificates.iter().map(text::json).collect::<Vec<_>>(),
            "notes": notes,
        }));
        return;
    }
    for certificate in certificates {
        output::line(text::show(certificate));
    }
    output::line(words);
    for note in notes {
        output::line(format!("note: {note}"));
    }
}

async fn renew(place: &mut Place, args: &CertsArgs, now: bool) -> Result<(), Failure> {
    let wire::RenewCertificateResponse { certificate, changed, notes } =
        ask!(place, renew_certificate, wire::RenewCertificateRequest { now })?;
    let words = match (now, changed) {
        (true, _) => {
            "shown to new connections from now on; where the other node does not trust it yet, do it there now"
        }
        (false, true) => "prepared, and nobody is shown it yet",
        (false, false) => "was prepared already, and nobody is shown it yet",
    };
    tell(args, &Told { certificates: certificate.into_iter().collect(), changed, notes, words });
    if !now && !args.json {
        output::line(
            "next: `onduty certs export next --out FILE` here, `onduty certs import FILE` on the other node, then \
             `onduty certs renew --now` here",
        );
    }
    Ok(())
}

async fn request(place: &mut Place, args: &CertsArgs, out: Option<&Path>) -> Result<(), Failure> {
    let asked = ask!(place, request_certificate, wire::RequestCertificateRequest {})?;
    match (out, args.json) {
        (Some(path), _) => {
            write_new(path, &asked.pem)?;
            output::line(format!(
                "wrote the request to {}; have it signed, then `onduty certs install` the answer here",
                path.display()
            ));
        }
        (None, true) => output::json(&serde_json::json!({ "pem": asked.pem })),
        (None, false) => output::raw(&asked.pem),
    }
    Ok(())
}

async fn install(place: &mut Place, args: &CertsArgs, file: &Path) -> Result<(), Failure> {
    let content = read(file)?;
    let wire::InstallCertificateResponse { certificate, notes } =
        ask!(place, install_certificate, wire::InstallCertificateRequest { content })
            .map_err(|failure| failure.about(&file.display().to_string()))?;
    let words = "installed: shown to new connections from now on";
    tell(args, &Told { certificates: certificate.into_iter().collect(), changed: true, notes, words });
    Ok(())
}

async fn export(place: &mut Place, selector: Option<&str>, out: Option<&Path>) -> Result<(), Failure> {
    let selector = selector.unwrap_or_default().to_owned();
    let exported = ask!(place, export_certificate, wire::ExportCertificateRequest { selector })?;
    let Some(path) = out else {
        output::raw(&exported.pem);
        return Ok(());
    };
    write_new(path, &exported.pem)?;
    let certificate = exported.certificate.unwrap_or_default();
    output::line(format!("wrote {} to {}", text::fingerprint(&certificate), path.display()));
    Ok(())
}

/// Into a file that must not exist yet.
fn write_new(path: &Path, text: &str) -> Result<(), Failure> {
    let written = OpenOptions::new().write(true).create_new(true).open(path);
    written.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|error| {
        Failure::failed(if error.kind() == io::ErrorKind::AlreadyExists {
            format!("{} exists already and is not overwritten; choose another name", path.display())
        } else {
            format!("writing {}: {error}", path.display())
        })
    })
}

/// The bytes of a file, or of the standard input for `-`, as many as an import may have.
fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let limit = u64::try_from(MAX_IMPORT).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    let read = if file == Path::new("-") {
        io::stdin().lock().take(limit + 1).read_to_end(&mut bytes)
    } else {
        File::open(file).and_then(|file| file.take(limit + 1).read_to_end(&mut bytes))
    };
    let _count = read.map_err(|error| Failure::settings(format!("reading {}: {error}", file.display())))?;
    if bytes.len() > MAX_IMPORT {
        return Err(Failure::settings(format!(
            "{} has more than {MAX_IMPORT} bytes: no certificate or revocation list is that large",
            file.display()
        )));
    }
    Ok(bytes)
}

/// A refusal of the service as the exit code that fits it.
fn failure(status: Status) -> Failure {
    let message = status.message();
    match errors::reason(&status).as_deref() {
        Some("IS_AUTHORITY") => Failure::refused(format!("{message} (--authority, --intermediate)")),
        Some("SELECTOR_TOO_SHORT" | "SELECTOR_AMBIGUOUS") => Failure::usage(message),
        Some("IMPORT_EMPTY" | "PRIVATE_KEY_GIVEN" | "NOTHING_IMPORTED") => Failure::settings(message),
        Some("STORE_FULL" | "SIGNED_BY_OTHER" | "REQUEST_OUT" | "NEXT_PREPARED" | "OWN_UNUSABLE") => {
            Failure::refused(message)
        }
        Some("STORE_UNUSABLE") => Failure::failed(message),
        Some(_) | None => status.into(),
    }
}
