//! A node whose services run in processes of their own.

use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::{Node, own_program};
use crate::process::{self, Pid};
use crate::{boot_ns, until};

impl Node {
    /// Has a service run by a program of its own from its next start on, instead of by `serve`.
    pub fn use_program(&mut self, service: &'static str, binary: &Path) {
        let tag = self.options.program.file_name().unwrap_or_default().to_string_lossy();
        let own = own_program(binary, &format!("{tag}-{service}"), &self.options.folder);
        self.programs.insert(service, own);
    }

    /// Starts one service of the node in a process of its own. Does not wait for anything.
    ///
    /// # Panics
    ///
    /// When it was started already or the program cannot be started.
    #[track_caller]
    pub fn start_service(&mut self, service: &'static str) {
        assert!(!self.services.contains_key(service), "{service} of {} runs already", self.name());
        let child = match self.programs.get(service) {
            Some(own) => self.spawn(own, &[]),
            None => self.spawn(&self.options.program, &["serve", service]),
        };
        self.services.insert(service, child);
    }

    /// The process of a service.
    ///
    /// # Panics
    ///
    /// When it was not started.
    #[must_use]
    #[track_caller]
    pub fn service(&self, service: &str) -> Pid {
        let child = self.services.get(service);
        let child = child.unwrap_or_else(|| panic!("{service} of {} does not run", self.name()));
        Pid::from_raw(i32::try_from(child.id()).expect("a process id"))
    }

    /// `kill -9` of one service; gives the time just before.
    ///
    /// # Panics
    ///
    /// When it does not run.
    #[track_caller]
    pub fn kill_service(&mut self, service: &str) -> u64 {
        let pid = self.service(service);
        let before = boot_ns();
        process::kill(pid, Signal::SIGKILL);
        if let Some(mut child) = self.services.remove(service) {
            child.wait().expect("reap a service");
        }
        before
    }

    /// Asks a service to end; gives the time just before.
    ///
    /// # Panics
    ///
    /// When it does not run.
    #[track_caller]
    pub fn ask_to_end(&self, service: &str) -> u64 {
        let before = boot_ns();
        process::kill(self.service(service), Signal::SIGTERM);
        before
    }

    /// Waits for a service that was asked to end.
    ///
    /// # Panics
    ///
    /// When it does not within the limit.
    #[track_caller]
    pub fn service_ended(&mut self, service: &str, limit: Duration) -> ExitStatus {
        let mut child = self.services.remove(service).expect("it runs");
        let what = format!("{service} of {} to end", self.name());
        until(&what, limit, || child.try_wait().expect("wait for a service"))
    }

    /// Asks a service to end and waits for it.
    ///
    /// # Panics
    ///
    /// When it does not within the limit.
    #[track_caller]
    pub fn end_service(&mut self, service: &str, limit: Duration) -> ExitStatus {
        self.ask_to_end(service);
        self.service_ended(service, limit)
    }
}
