//! One node: a real `onduty up` process with a folder of its own, and the things people and machines do to it.
//!
//! ```text
//!   <folder>/onduty.toml   settings       <folder>/data     its data directory
//!   <folder>/log           its output     <folder>/canary   what its canary wrote
//!   <program>              a link to the program under test, with a name of its own
//! ```
//!
//! Its services in processes of their own are in `node/services.rs`. Dropping a node kills all it has started (see
//! `process`), also when the test panics; then its log is shown.

mod services;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::process::{self, Pid, Process};
use crate::{Status, boot_ns, until, within};

/// The longest a command of the command line may take: moves of the duty included.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);
/// How long killed processes may take to be gone.
const CLEANUP_LIMIT: Duration = Duration::from_secs(10);
/// How many bytes of a log are shown when a test fails.
const LOG_SHOWN: usize = 12_000;

/// The part a node plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `redundancy.mode = "primary"`.
    Primary,
    /// `redundancy.mode = "secondary"`.
    Secondary,
}

/// What a node is made of.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// Its own name for the program (see `own_program`); removed with the node.
    pub program: PathBuf,
    /// Its name.
    pub name: String,
    /// Its folder, made if need be. The path must be unique to the node.
    pub folder: PathBuf,
    /// The whole settings file.
    pub settings: String,
    /// The network namespace it runs in.
    pub namespace: Option<String>,
}

/// What a command of the command line said.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

/// A node, running or not.
#[derive(Debug)]
pub struct Node {
    options: NodeOptions,
    /// More variables for its next start.
    environment: Vec<(String, OsString)>,
    manager: Option<Child>,
    /// Its services, when they run apart.
    services: BTreeMap<&'static str, Child>,
    /// Their own programs; a service without one runs by `serve`.
    programs: BTreeMap<&'static str, PathBuf>,
}

impl Node {
    /// Writes the settings file; starts nothing.
    ///
    /// # Panics
    ///
    /// When the folder or the file cannot be made.
    #[must_use]
    pub fn prepare(options: NodeOptions) -> Self {
        fs::create_dir_all(&options.folder).expect("make the node's folder");
        fs::write(options.folder.join("onduty.toml"), &options.settings).expect("write the node's settings");
        Self {
            options,
            environment: Vec::new(),
            manager: None,
            services: BTreeMap::new(),
            programs: BTreeMap::new(),
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.options.name
    }

    /// Its settings file.
    #[must_use]
    pub fn settings_file(&self) -> PathBuf {
        self.options.folder.join("onduty.toml")
    }

    /// Its data directory.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.options.folder.join("data")
    }

    /// The file its canary writes.
    #[must_use]
    pub fn canary_file(&self) -> PathBuf {
        self.options.folder.join("canary")
    }

    /// Writes other settings, for its next start.
    ///
    /// # Panics
    ///
    /// When the file cannot be written.
    pub fn settle(&mut self, settings: &str) {
        fs::write(self.settings_file(), settings).expect("write the node's settings");
        settings.clone_into(&mut self.options.settings);
    }

    /// Gives it a variable in its environment, from its next start on.
    pub fn set_variable(&mut self, name: &str, value: impl Into<OsString>) {
        self.environment.push((name.to_owned(), value.into()));
    }

    /// Its settings.
    #[must_use]
    pub fn settings(&self) -> &str {
        &self.options.settings
    }

    /// Starts the manager. Does not wait for anything.
    ///
    /// # Panics
    ///
    /// When it runs already or the program cannot be started.
    #[track_caller]
    pub fn start(&mut self) {
        assert!(self.manager.is_none(), "{} runs already", self.name());
        self.manager = Some(self.spawn(&self.options.program, &["up"]));
    }

    fn spawn(&self, program: &Path, words: &[&str]) -> Child {
        let log = self.log_file();
        let again = log.try_clone().expect("a second handle of the log");
        let mut command = self.run_program(program);
        command.args(words).arg("--config").arg(self.settings_file());
        command.env("ONDUTY_TEST_NODE", &self.options.folder).stdin(Stdio::null()).stdout(log).stderr(again);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.spawn().expect("the program starts")
    }

    /// The program in its namespace, without settings from the environment of the test.
    fn program(&self) -> Command {
        self.run_program(&self.options.program)
    }

    fn run_program(&self, binary: &Path) -> Command {
        let mut command = match &self.options.namespace {
            None => Command::new(binary),
            Some(namespace) => {
                // `ip netns exec` becomes the program: the process id stays.
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace]).arg(binary);
                command
            }
        };
        let foreign = std::env::vars_os().map(|(name, _)| name);
        foreign.filter(|name| name.to_string_lossy().starts_with("ONDUTY_")).for_each(|name| {
            command.env_remove(name);
        });
        command
    }

    fn log_file(&self) -> File {
        let path = self.options.folder.join("log");
        OpenOptions::new().append(true).create(true).open(path).expect("open the node's log")
    }

    /// What it has logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        let bytes = fs::read(self.options.folder.join("log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The manager's process.
    ///
    /// # Panics
    ///
    /// When it was not started, or has been reaped.
    #[must_use]
    #[track_caller]
    pub fn manager(&self) -> Pid {
        let child = self.manager.as_ref().unwrap_or_else(|| panic!("{} does not run", self.name()));
        Pid::from_raw(i32::try_from(child.id()).expect("a process id"))
    }

    /// The program under the node's own name.
    #[must_use]
    pub fn program_file(&self) -> &Path {
        &self.options.program
    }

    /// Everything it has started that is alive: manager, guard, plugins and what those started.
    #[must_use]
    pub fn everything(&self) -> Vec<Pid> {
        self.processes().into_iter().map(|(process, _)| process.pid).collect()
    }

    /// The processes of its plugins (and what those started) that are alive.
    #[must_use]
    pub fn plugins(&self) -> Vec<Pid> {
        let others = self.processes().into_iter().filter(|process| !self.is_onduty(process));
        others.map(|(process, _)| process.pid).collect()
    }

    /// Manager, guard and whatever else is onduty itself, not a plugin.
    #[must_use]
    pub fn onduty_processes(&self) -> Vec<Pid> {
        let own = self.processes().into_iter().filter(|process| self.is_onduty(process));
        own.map(|(process, _)| process.pid).collect()
    }

    /// Each with the program that it runs. One that ends at this moment runs none any more.
    fn processes(&self) -> Vec<(Process, PathBuf)> {
        let folder = self.options.folder.to_string_lossy();
        // The names of the services' programs begin with this one.
        let marked = process::marked(&[&folder, &self.options.program.to_string_lossy()]);
        let runs = |process: Process| {
            let program = fs::read_link(format!("/proc/{}/exe", process.pid)).ok()?;
            Some((process, program))
        };
        marked.into_iter().filter_map(runs).collect()
    }

    /// The same program and not its sample workload. The guard may call itself as it likes: what it runs decides.
    fn is_onduty(&self, (process, program): &(Process, PathBuf)) -> bool {
        let same = *program == self.options.program || self.programs.values().any(|own| own == program);
        let canary = process.arguments.get(1).is_some_and(|word| word == "canary");
        same && !canary
    }

    /// Sends a signal to the manager; gives the time just before.
    ///
    /// # Panics
    ///
    /// When it does not run.
    #[track_caller]
    pub fn signal(&self, signal: Signal) -> u64 {
        let pid = self.manager();
        let before = boot_ns();
        process::kill(pid, signal);
        before
    }

    /// `kill -9` of the manager alone; gives the time just before.
    ///
    /// # Panics
    ///
    /// When it does not run.
    #[track_caller]
    pub fn kill_manager(&mut self) -> u64 {
        let before = self.signal(Signal::SIGKILL);
        self.reap();
        before
    }

    /// `kill -9` of everything that is onduty, at once; gives the time just before the first.
    ///
    /// # Panics
    ///
    /// When it does not run.
    #[track_caller]
    pub fn kill_everything(&mut self) -> u64 {
        let all = self.onduty_processes();
        assert!(!all.is_empty(), "{} does not run", self.name());
        let before = boot_ns();
        all.into_iter().for_each(|pid| process::kill(pid, Signal::SIGKILL));
        self.reap();
        for (_, mut child) in std::mem::take(&mut self.services) {
            child.wait().expect("reap a service");
        }
        before
    }

    /// Waits for the manager to end by itself.
    ///
    /// # Panics
    ///
    /// When it does not within the limit.
    #[track_caller]
    pub fn ended(&mut self, limit: Duration) -> ExitStatus {
        let name = self.options.name.clone();
        let child = self.manager.as_mut().unwrap_or_else(|| panic!("{name} does not run"));
        let status =
            until(&format!("{name} to end"), limit, || child.try_wait().expect("wait for the manager"));
        self.manager = None;
        status
    }

    /// Whether the manager runs.
    pub fn runs(&mut self) -> bool {
        self.manager.as_mut().is_some_and(|child| child.try_wait().is_ok_and(|ended| ended.is_none()))
    }

    fn reap(&mut self) {
        if let Some(mut child) = self.manager.take() {
            child.wait().expect("reap the manager");
        }
    }

    /// Runs a command of the command line; `--config` is added.
    ///
    /// # Panics
    ///
    /// When it cannot be started or takes longer than a minute.
    #[track_caller]
    pub fn ask(&self, arguments: &[&str]) -> Answer {
        let mut command = self.program();
        command.args(arguments).arg("--config").arg(self.settings_file());
        run(command)
    }

    /// What it says about itself; `None` while nobody answers.
    #[must_use]
    pub fn status(&self) -> Option<Status> {
        let answer = self.ask(&["status", "--json"]);
        Status::parse(&answer.stdout).filter(|_| answer.code == Some(0))
    }

    /// Waits until its status is as wanted.
    ///
    /// # Panics
    ///
    /// When it is not within the limit; the message has the last status.
    #[track_caller]
    pub fn reaches(&self, what: &str, limit: Duration, wanted: impl Fn(&Status) -> bool) -> Status {
        let mut last = None;
        let found = within(limit, || {
            last = self.status();
            last.clone().filter(|status| wanted(status))
        });
        found.unwrap_or_else(|| {
            panic!("{}: waited {limit:?} in vain for {what}; status: {last:#?}", self.name())
        })
    }

    /// Kills all it has started, and waits until it is gone.
    pub fn clean_up(&mut self) {
        let gone = within(CLEANUP_LIMIT, || {
            let left = self.processes();
            for (process, _) in &left {
                process::kill(process.pid, Signal::SIGKILL);
            }
            // A process that is ending has no command line any more, but still its files and locks: it is gone when it is
            // reaped. An error means that it is reaped already.
            let children = self.manager.iter_mut().chain(self.services.values_mut());
            let ending = children.map(Child::try_wait).filter(|ended| matches!(ended, Ok(None))).count();
            (left.is_empty() && ending == 0).then_some(())
        });
        self.manager = None;
        self.services.clear();
        if gone.is_none() && !std::thread::panicking() {
            panic!("{}: processes survive SIGKILL: {:?}", self.name(), self.processes());
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.clean_up();
        // A link that stays behind costs a name in the build folder, nothing else.
        for program in std::iter::once(&self.options.program).chain(self.programs.values()) {
            let _removed = fs::remove_file(program);
        }
        if std::thread::panicking() {
            let log = self.log();
            let from =
                log.char_indices().map(|(at, _)| at).find(|at| log.len() - at <= LOG_SHOWN).unwrap_or(0);
            eprintln!("---- log of {} ----\n{}\n---- end ----", self.name(), &log[from..]);
        }
    }
}

/// Runs a command to its end.
#[track_caller]
pub(crate) fn run(mut command: Command) -> Answer {
    let shown = format!("{command:?}");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {shown}: {error}"));
    // Read beside each other, so that a full pipe never holds the command up.
    let reader = |pipe: Option<Box<dyn Read + Send>>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let _torn = pipe.map(|mut pipe| pipe.read_to_end(&mut bytes));
            String::from_utf8_lossy(&bytes).into_owned()
        })
    };
    let stdout = reader(child.stdout.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>));
    let stderr = reader(child.stderr.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>));
    let ended = within(COMMAND_LIMIT, || child.try_wait().expect("wait for a command"));
    if ended.is_none() {
        child.kill().expect("kill a command that hangs");
        child.wait().expect("reap a command that hung");
    }
    let text = |thread: std::thread::JoinHandle<String>| thread.join().expect("read a pipe");
    let (stdout, stderr) = (text(stdout), text(stderr));
    let status = ended.unwrap_or_else(|| panic!("{shown} hung; it said:\n{stdout}\n{stderr}"));
    Answer { code: status.code(), stdout, stderr }
}

/// A name of its own for the program under test, so that everything a node runs can be told from what others run: a
/// hard link beside the program, or a copy in the node's folder where the system refuses links.
pub(crate) fn own_program(binary: &Path, unique: &str, folder: &Path) -> PathBuf {
    let binary = binary.canonicalize();
    let binary = binary.unwrap_or_else(|error| panic!("the program under test is not there: {error}"));
    let link = binary.with_file_name(unique);
    if fs::hard_link(&binary, &link).is_ok() {
        return link;
    }
    let copy = folder.join("program");
    fs::copy(&binary, &copy).expect("copy the program under test");
    copy
}
