//! Where the demo happens: a temporary folder with one key, two certificates, two settings files and two free ports.
//!
//! The pair trusts by store, as a real one should: each node's own certificate is made here and put among the other's
//! trusted ones.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use certificate_trust::{OwnIdentity, PairKey, PkiStore, write_key_file};
use service_kit::Clock;

use crate::failure::Failure;

/// The demo's folder; removed when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    folder: tempfile::TempDir,
    /// The primary, then the secondary.
    pub(crate) sites: [Site; 2],
    /// Whether the profile is `fast`.
    pub(crate) fast: bool,
}

/// One node's part of it.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    pub(crate) name: &'static str,
    pub(crate) role: &'static str,
    pub(crate) data_dir: PathBuf,
    pub(crate) settings: PathBuf,
    pub(crate) canary: PathBuf,
    pub(crate) log: PathBuf,
    port: u16,
}

impl Site {
    pub(crate) fn socket(&self) -> PathBuf {
        self.data_dir.join(crate::node::SOCKET_NAME)
    }

    pub(crate) fn run_dir(&self) -> PathBuf {
        self.data_dir.join(crate::up::RUN_DIR)
    }
}

impl Place {
    /// Makes everything; starts nothing.
    pub(crate) fn make(fast: bool) -> Result<Self, Failure> {
        let folder = tempfile::Builder::new()
            .prefix("onduty-demo-")
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir()
            .map_err(|error| failed("making a temporary folder", &error))?;
        let [port_a, port_b] = free_ports().map_err(|error| failed("finding two free ports", &error))?;
        let site = |name: &'static str, role: &'static str, port| Site {
            name,
            role,
            data_dir: folder.path().join(name),
            settings: folder.path().join(format!("{name}.toml")),
            canary: folder.path().join(format!("{name}.canary")),
            log: folder.path().join(format!("{name}.log")),
            port,
        };
        let sites = [site("node-a", "primary", port_a), site("node-b", "secondary", port_b)];
        let place = Self { sites, fast, folder };
        place.fill()?;
        Ok(place)
    }

    /// Leaves the folder where it is.
    pub(crate) fn keep(mut self) {
        self.folder.disable_cleanup(true);
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    fn fill(&self) -> Result<(), Failure> {
        let key_file = self.path().join("pair.key");
        let key = PairKey::generate().map_err(|error| failed("making a key", &error))?;
        write_key_file(&key_file, &key).map_err(|error| failed("writing the key", &error))?;
        let program = std::env::current_exe().map_err(|error| failed("finding this program", &error))?;
        for site in &self.sites {
            let text = self.settings_of(site, &key_file, &program);
            fs::write(&site.settings, text).map_err(|error| failed("writing the settings", &error))?;
        }
        self.exchange_certificates()
    }

    /// Makes both certificates and puts each among the other node's trusted ones.
    fn exchange_certificates(&self) -> Result<(), Failure> {
        let now = Clock::real().now().unix;
        let pki = |site: &Site| site.data_dir.join(crate::up::PKI_DIR);
        for site in &self.sites {
            fs::create_dir_all(&site.data_dir).map_err(|error| failed("making a data directory", &error))?;
            let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
            let names: Vec<String> = [Some(site.name.to_owned()), host, Some("127.0.0.1".to_owned())]
                .into_iter()
                .flatten()
                .collect();
            let _made = OwnIdentity::open_or_create(&pki(site), &names, now)
                .map_err(|error| failed("making a certificate", &error))?;
        }
        let [a, b] = &self.sites;
        for (own, other) in [(a, b), (b, a)] {
            let trusted = PkiStore::open(&pki(other))
                .map_err(|error| failed("making the folders for certificates", &error))?;
            let _bytes = fs::copy(
                pki(own).join("own/certificate.pem"),
                trusted.trusted().join(format!("{}.pem", own.name)),
            )
            .map_err(|error| failed("exchanging certificates", &error))?;
        }
        Ok(())
    }

    fn settings_of(&self, site: &Site, key_file: &Path, program: &Path) -> String {
        let secondary = if site.role == "secondary" {
            format!(
                "\n[redundancy.secondary]\naddress = \"https://127.0.0.1:{}\"\ntrust = \"store\"\n",
                self.sites[0].port
            )
        } else {
            String::new()
        };
        format!(
            "# One node of `onduty demo`.\n\
             [node]\nname = {name}\nlisten = \"127.0.0.1:{port}\"\ndata_dir = {data}\n\n\
             [redundancy]\nmode = \"{role}\"\npair = \"demo\"\nkey_file = {key}\nprofile = \"{profile}\"\n{secondary}\n\
             [plugins.canary]\ncommand = [{program}, \"canary\", \"--file\", {canary}]\n\
             ready = {{ stays_up = \"50ms\" }}\nstop = {{ grace = \"2s\" }}\n",
            name = quoted(site.name),
            port = site.port,
            data = quoted(site.data_dir.display()),
            role = site.role,
            key = quoted(key_file.display()),
            profile = if self.fast { "fast" } else { "standard" },
            program = quoted(program.display()),
            canary = quoted(site.canary.display()),
        )
    }
}

/// A TOML string: the escapes of a JSON string are TOML's as well.
fn quoted(text: impl ToString) -> String {
    serde_json::Value::String(text.to_string()).to_string()
}

/// Two ports that nobody has now: held together, so that they differ, and given back when both are known.
fn free_ports() -> std::io::Result<[u16; 2]> {
    let held = [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?];
    Ok([held[0].local_addr()?.port(), held[1].local_addr()?.port()])
}

fn failed(what: &str, error: &dyn std::error::Error) -> Failure {
    Failure::failed(format!("{what}: {error}"))
}
