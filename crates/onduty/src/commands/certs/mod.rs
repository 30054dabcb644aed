//! `onduty certs …`: the certificates of a node, whether it runs or not.
//!
//! ```text
//!   the node runs ───────► its socket ─► CertificateService ─┐
//!   it does not, and ────► folders, locked, in this process ─┴─► the same code, the same words
//!   --config or --data-dir says where
//! ```

mod place;
mod text;

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

use onduty_api::errors;
use onduty_api::trust::MAX_DER;
use onduty_api::wire::trust::v1 as wire;
use onduty_api::wire::trust::v1::CertificateStore;
use tonic::Status;

use crate::cli::{CertsArgs, CertsCommand, CertsStore};
use crate::failure::Failure;
use crate::output;
use place::{Place, ask};

/// Carries one of the commands out.
pub(crate) async fn run(command: &CertsCommand) -> Result<(), Failure> {
    let mut place = Place::find(command.place()).await?;
    let done = match command {
        CertsCommand::List { place: args, store } => list(&mut place, args, *store).await,
        CertsCommand::Show { place: args, fingerprint } => show(&mut place, args, fingerprint).await,
        CertsCommand::Trust { place: args, fingerprint } => trust(&mut place, args, fingerprint).await,
        CertsCommand::Reject { place: args, fingerprint } => reject(&mut place, args, fingerprint).await,
        CertsCommand::Import { place: args, file, issuer } => import(&mut place, args, file, *issuer).await,
        CertsCommand::Export { fingerprint, out, .. } => {
            export(&mut place, fingerprint.as_deref(), out.as_deref()).await
        }
        CertsCommand::Delete { place: args, fingerprint } => delete(&mut place, args, fingerprint).await,
    };
    place.close();
    done
}

async fn list(place: &mut Place, args: &CertsArgs, store: Option<CertsStore>) -> Result<(), Failure> {
    let store = store.map_or(CertificateStore::Unspecified, CertificateStore::from) as i32;
    let listed = ask!(place, list_certificates, wire::ListCertificatesRequest { store })?;
    if args.json {
        output::json(&text::list_json(&listed));
        return Ok(());
    }
    output::line(text::list(&listed));
    Ok(())
}

async fn show(place: &mut Place, args: &CertsArgs, fingerprint: &Option<String>) -> Result<(), Failure> {
    // The own one has no name that a person would know before they have seen it.
    let (certificate, pem) = match fingerprint {
        Some(selector) => {
            let request = wire::GetCertificateRequest { selector: selector.clone() };
            let got = ask!(place, get_certificate, request)?;
            (got.certificate, got.pem)
        }
        None => {
            let got = ask!(place, export_certificate, wire::ExportCertificateRequest::default())?;
            (got.certificate, got.pem)
        }
    };
    let certificate = certificate.unwrap_or_default();
    if args.json {
        let mut value = text::json(&certificate);
        value["pem"] = pem.into();
        output::json(&value);
    } else {
        output::line(text::show(&certificate));
    }
    Ok(())
}

async fn trust(place: &mut Place, args: &CertsArgs, fingerprint: &str) -> Result<(), Failure> {
    let request = wire::TrustCertificateRequest { selector: fingerprint.to_owned() };
    let done = ask!(place, trust_certificate, request)?;
    let words = if done.changed { "now trusted; the next dial accepts it" } else { "was trusted already" };
    changed(args, done.certificate, done.changed, words);
    Ok(())
}

async fn reject(place: &mut Place, args: &CertsArgs, fingerprint: &str) -> Result<(), Failure> {
    let request = wire::RejectCertificateRequest { selector: fingerprint.to_owned() };
    let done = ask!(place, reject_certificate, request)?;
    let words = if done.changed {
        "now rejected: the next dial refuses it; a session that runs goes on"
    } else {
        "was rejected already"
    };
    changed(args, done.certificate, done.changed, words);
    Ok(())
}

async fn import(place: &mut Place, args: &CertsArgs, file: &Path, issuer: bool) -> Result<(), Failure> {
    let certificate = read(file)?;
    let store = if issuer { CertificateStore::Issuer } else { CertificateStore::Trusted } as i32;
    let done = ask!(place, import_certificate, wire::ImportCertificateRequest { certificate, store })
        .map_err(|failure| failure.about(&file.display().to_string()))?;
    let words = match (done.changed, issuer) {
        (true, false) => "imported, and now trusted",
        (true, true) => "imported as an issuer: it completes chains, and nobody is trusted by that alone",
        (false, _) => "was there already",
    };
    changed(args, done.certificate, done.changed, words);
    Ok(())
}

async fn export(place: &mut Place, selector: Option<&str>, out: Option<&Path>) -> Result<(), Failure> {
    let selector = selector.unwrap_or_default().to_owned();
    let exported = ask!(place, export_certificate, wire::ExportCertificateRequest { selector })?;
    let Some(path) = out else {
        output::raw(&exported.pem);
        return Ok(());
    };
    let written = OpenOptions::new().write(true).create_new(true).open(path);
    written.and_then(|mut file| file.write_all(exported.pem.as_bytes())).map_err(|error| {
        Failure::failed(if error.kind() == io::ErrorKind::AlreadyExists {
            format!("{} exists already and is not overwritten; choose another name", path.display())
        } else {
            format!("writing {}: {error}", path.display())
        })
    })?;
    let certificate = exported.certificate.unwrap_or_default();
    output::line(format!("wrote {} to {}", text::fingerprint(&certificate), path.display()));
    Ok(())
}

async fn delete(place: &mut Place, args: &CertsArgs, fingerprint: &str) -> Result<(), Failure> {
    let request = wire::DeleteCertificateRequest { selector: fingerprint.to_owned() };
    let done = ask!(place, delete_certificate, request)?;
    changed(args, done.certificate, true, "deleted; a peer that shows it is unknown again");
    Ok(())
}

/// Tells what became of a certificate.
fn changed(args: &CertsArgs, certificate: Option<wire::Certificate>, changed: bool, words: &str) {
    let certificate = certificate.unwrap_or_default();
    if args.json {
        let mut value = text::json(&certificate);
        value["changed"] = changed.into();
        output::json(&value);
    } else {
        output::line(text::show(&certificate));
        output::line(words);
    }
}

/// The bytes of a file, or of the standard input for `-`, as many as a certificate may have.
fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let limit = u64::try_from(MAX_DER).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    let read = if file == Path::new("-") {
        io::stdin().lock().take(limit + 1).read_to_end(&mut bytes)
    } else {
        File::open(file).and_then(|file| file.take(limit + 1).read_to_end(&mut bytes))
    };
    let _count = read.map_err(|error| Failure::settings(format!("reading {}: {error}", file.display())))?;
    if bytes.len() > MAX_DER {
        return Err(Failure::settings(format!(
            "{} has more than {MAX_DER} bytes: no certificate is that large",
            file.display()
        )));
    }
    Ok(bytes)
}

/// A refusal of the service as the exit code that fits it.
fn failure(status: Status) -> Failure {
    let message = status.message();
    match errors::reason(&status).as_deref() {
        Some("SELECTOR_MALFORMED" | "SELECTOR_AMBIGUOUS") => Failure::usage(message),
        Some(
            "NOT_A_CERTIFICATE"
            | "PRIVATE_KEY_GIVEN"
            | "CERTIFICATE_EMPTY"
            | "CERTIFICATE_TOO_LARGE"
            | "MANY_CERTIFICATES",
        ) => Failure::settings(message),
        Some("STORE_FULL") => Failure::refused(message),
        Some("STORE_UNUSABLE") => Failure::failed(message),
        Some(_) | None => status.into(),
    }
}
