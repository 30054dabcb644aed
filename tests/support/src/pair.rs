//! Two nodes with one key, each with a canary, and the steps that every story begins with.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use crate::node::{own_program, run};
use crate::{Canary, Node, NodeOptions, Role};

/// How long a pair may take from its start to redundancy, on a loaded machine.
pub(crate) const READY_LIMIT: Duration = Duration::from_secs(30);

/// The timings of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// 1 s / 3 s.
    Standard,
    /// 100 ms / 500 ms.
    Fast,
}

impl Profile {
    /// As the settings name it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Fast => "fast",
        }
    }

    /// The heartbeat interval.
    #[must_use]
    pub const fn interval(self) -> Duration {
        match self {
            Self::Standard => Duration::from_secs(1),
            Self::Fast => Duration::from_millis(100),
        }
    }

    /// The silence after which a takeover is due.
    #[must_use]
    pub const fn timeout(self) -> Duration {
        match self {
            Self::Standard => Duration::from_secs(3),
            Self::Fast => Duration::from_millis(500),
        }
    }
}

/// The services of a node that is a primary, in a process each; the first is the heartbeat.
pub const OF_PRIMARY: [&str; 4] =
    ["heartbeat-server", "plugin-supervisor", "certificate-trust", "management"];
/// Those of a secondary.
pub const OF_SECONDARY: [&str; 4] =
    ["heartbeat-client", "plugin-supervisor", "certificate-trust", "management"];

/// What a pair is made of.
#[derive(Clone, Debug)]
pub struct PairOptions {
    /// The program.
    pub binary: PathBuf,
    /// Its timings.
    pub profile: Profile,
    /// Whether the primary takes the duty back by itself.
    pub automatic: bool,
    /// More lines for `[plugins]`, the same on both nodes; `{folder}` stands for the node's folder.
    pub plugins: String,
    /// Namespaces and addresses of primary and secondary; the loopback of this machine otherwise.
    pub network: Option<[(String, String); 2]>,
}

impl PairOptions {
    /// A pair on this machine with a canary, profile `fast` and automatic hand-back. `ONDUTY_BIN` wins over `binary`.
    #[must_use]
    pub fn new(binary: &str) -> Self {
        let binary = std::env::var_os("ONDUTY_BIN").map_or_else(|| PathBuf::from(binary), PathBuf::from);
        Self { binary, profile: Profile::Fast, automatic: true, plugins: String::new(), network: None }
    }

    /// With other timings.
    #[must_use]
    pub fn profile(self, profile: Profile) -> Self {
        Self { profile, ..self }
    }

    /// Without automatic hand-back.
    #[must_use]
    pub fn manual(self) -> Self {
        Self { automatic: false, ..self }
    }

    /// With more plugins.
    #[must_use]
    pub fn plugins(self, plugins: &str) -> Self {
        Self { plugins: plugins.to_owned(), ..self }
    }
}

/// Two nodes. The fields are in the order in which they are dropped: the folder last.
#[derive(Debug)]
pub struct Pair {
    /// The primary, named `node-a`.
    pub primary: Node,
    /// The secondary, named `node-b`.
    pub secondary: Node,
    /// What it was made of.
    pub options: PairOptions,
    /// The primary's port; the secondary's is one higher.
    pub port: u16,
    folder: tempfile::TempDir,
}

impl Pair {
    /// Makes key, folders and settings; starts nothing.
    ///
    /// # Panics
    ///
    /// When any of it cannot be made.
    #[must_use]
    pub fn prepare(options: PairOptions) -> Self {
        let folder =
            tempfile::Builder::new().prefix("onduty-").tempdir().expect("make a folder for the pair");
        generate_key(&options.binary, &folder.path().join("pair.key"));
        let port = free_ports();
        let node = |role: Role| {
            let (name, index) = match role {
                Role::Primary => ("node-a", 0),
                Role::Secondary => ("node-b", 1),
            };
            let own_folder = folder.path().join(name);
            fs::create_dir_all(&own_folder).expect("make the node's folder");
            let tag = folder.path().file_name().unwrap_or_default().to_string_lossy();
            let program = own_program(&options.binary, &format!("{tag}-{name}"), &own_folder);
            Node::prepare(NodeOptions {
                settings: settings(&options, role, folder.path(), &program, port),
                program,
                name: name.to_owned(),
                folder: own_folder,
                namespace: options.network.as_ref().map(|network| network[index].0.clone()),
            })
        };
        Self { primary: node(Role::Primary), secondary: node(Role::Secondary), port, folder, options }
    }

    /// Starts both and waits for redundancy: the primary active, the secondary ready to take over.
    ///
    /// # Panics
    ///
    /// When that takes longer than half a minute.
    #[must_use]
    #[track_caller]
    pub fn running(options: PairOptions) -> Self {
        let mut pair = Self::prepare(options);
        pair.primary.start();
        pair.secondary.start();
        pair.redundant();
        pair
    }

    /// Starts every service of both nodes in a process of its own. Does not wait for anything.
    ///
    /// # Panics
    ///
    /// When one runs already.
    #[track_caller]
    pub fn start_apart(&mut self) {
        OF_PRIMARY.into_iter().for_each(|service| self.primary.start_service(service));
        OF_SECONDARY.into_iter().for_each(|service| self.secondary.start_service(service));
    }

    /// Waits for redundancy with the primary active.
    ///
    /// # Panics
    ///
    /// When that takes longer than half a minute.
    #[track_caller]
    pub fn redundant(&self) {
        let ready = |state: &'static str| {
            move |status: &crate::Status| status.redundancy() == "ready" && status.state() == state
        };
        self.primary.reaches("redundancy with the primary active", READY_LIMIT, ready("active"));
        self.secondary.reaches("redundancy with the secondary on standby", READY_LIMIT, ready("standby"));
    }

    /// Brings the duty to the secondary, for stories that begin there; the pair must be `manual`.
    ///
    /// # Panics
    ///
    /// When it does not move.
    #[track_caller]
    pub fn move_to_secondary(&self) {
        let answer = self.primary.ask(&["switchover"]);
        assert_eq!(answer.code, Some(0), "switchover: {answer:?}");
        self.secondary.reaches("the secondary active", READY_LIMIT, |status| {
            status.redundancy() == "ready" && status.state() == "active"
        });
        self.primary.reaches("the primary on standby", READY_LIMIT, |status| {
            status.redundancy() == "ready" && status.state() == "standby"
        });
    }

    /// Everything the canaries of both nodes have written.
    ///
    /// # Panics
    ///
    /// When a line is not a stamp.
    #[must_use]
    #[track_caller]
    pub fn canary(&self) -> Canary {
        Canary::read(&[self.primary.canary_file(), self.secondary.canary_file()])
    }

    /// The key file of the pair.
    #[must_use]
    pub fn key_file(&self) -> PathBuf {
        self.folder.path().join("pair.key")
    }

    /// Makes another key in the pair's folder; gives its file.
    ///
    /// # Panics
    ///
    /// When it cannot be made.
    #[must_use]
    #[track_caller]
    pub fn another_key(&self) -> PathBuf {
        let file = self.folder.path().join("other.key");
        generate_key(&self.options.binary, &file);
        file
    }

    /// The pair's folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

#[track_caller]
fn generate_key(binary: &Path, file: &Path) {
    let mut generate = Command::new(binary);
    generate.args(["key", "generate", "--out"]).arg(file);
    let answer = run(generate);
    assert_eq!(answer.code, Some(0), "key generate: {answer:?}");
}

/// The settings of one node of a pair.
fn settings(options: &PairOptions, role: Role, pair_folder: &Path, program: &Path, port: u16) -> String {
    let (name, mode, own_port) = match role {
        Role::Primary => ("node-a", "primary", port),
        Role::Secondary => ("node-b", "secondary", port + 1),
    };
    let folder = pair_folder.join(name);
    let addresses = options.network.as_ref().map_or(["127.0.0.1", "127.0.0.1"], |[a, b]| [&a.1, &b.1]);
    let own_address = match role {
        Role::Primary => addresses[0],
        Role::Secondary => addresses[1],
    };
    let secondary = match role {
        Role::Primary => String::new(),
        Role::Secondary => {
            format!(
                "[redundancy.secondary]\naddress = \"https://{}:{port}\"\ntrust = \"all\"\n\n",
                addresses[0]
            )
        }
    };
    let failback = if options.automatic { "automatic" } else { "manual" };
    let plugins = options.plugins.replace("{folder}", &folder.display().to_string());
    format!(
        "[node]\nname = \"{name}\"\nlisten = \"{own_address}:{own_port}\"\ndata_dir = \"{data}\"\n\n\
         [redundancy]\nmode = \"{mode}\"\nprofile = \"{profile}\"\nkey_file = \"{key}\"\n\n{secondary}\
         [redundancy.failback]\nmode = \"{failback}\"\n\n\
         [log]\nlevel = \"info,duty=debug,heartbeat_client=debug,heartbeat_server=debug\"\nformat = \"human\"\n\n\
         [plugins.canary]\ncommand = [\"{program}\", \"canary\", \"--file\", \"{canary}\"]\n\
         ready = {{ stays_up = \"50ms\" }}\nstop = {{ grace = \"2s\" }}\n\n{plugins}",
        data = folder.join("data").display(),
        profile = options.profile.name(),
        key = pair_folder.join("pair.key").display(),
        program = program.display(),
        canary = folder.join("canary").display(),
    )
}

/// Two neighbouring ports that nobody has: the first of them.
///
/// Below the range from which the kernel takes the ports of outgoing connections, so that nobody gets one of them
/// between this look and the node's start; test programs that run beside each other start at different places.
fn free_ports() -> u16 {
    const FIRST: u16 = 10_000;
    const PAIRS: u16 = 9_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let offset = u16::try_from(std::process::id() % u32::from(PAIRS)).unwrap_or(0);
    let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let mut tries = 0..PAIRS;
    let found = tries.find_map(|_| {
        let next = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_mul(7).wrapping_add(offset);
        let port = FIRST + 2 * (next % PAIRS);
        (free(port) && free(port + 1)).then_some(port)
    });
    found.expect("two free neighbouring ports")
}
