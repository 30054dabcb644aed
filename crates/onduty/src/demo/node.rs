//! The two node processes of the demo: start, kill, look, and never leave one behind.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use onduty_api::wire::events::v1::events_service_client::EventsServiceClient;
use onduty_api::wire::events::v1::{Event, ListEventsRequest};
use onduty_api::wire::failover::v1::GetStatusRequest;
use onduty_api::wire::failover::v1::NodeStatus;
use onduty_api::wire::failover::v1::failover_service_client::FailoverServiceClient;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::demo::place::{Place, Site};
use crate::failure::Failure;
use crate::{node, output};

/// How often a node is asked while something is awaited.
const LOOK: Duration = Duration::from_millis(25);
/// How long a node may take to stop in good order before it is killed.
const STOP: Duration = Duration::from_secs(10);
/// How much of a node's log is shown when the demo fails, in lines.
const LOG_LINES: usize = 25;

/// Both nodes.
#[derive(Debug)]
pub(crate) struct Nodes([Node; 2]);

/// One node.
#[derive(Debug)]
pub(crate) struct Node {
    site: Site,
    process: Option<Child>,
    /// It goes on after the demo: nothing of it is cleaned up.
    left: bool,
}

impl Nodes {
    pub(crate) fn new(place: &Place) -> Self {
        Self(place.sites.clone().map(|site| Node { site, process: None, left: false }))
    }

    /// Primary and secondary.
    pub(crate) fn both(&mut self) -> (&mut Node, &mut Node) {
        let [a, b] = &mut self.0;
        (a, b)
    }

    pub(crate) fn pids(&self) -> [u32; 2] {
        [0, 1].map(|index: usize| self.0[index].pid())
    }

    /// They go on without us.
    pub(crate) fn leave_running(mut self) {
        for node in &mut self.0 {
            node.left = true;
        }
    }

    /// The ends of both logs, on the standard error.
    pub(crate) fn tell_logs(&self) {
        for node in &self.0 {
            let log = fs::read_to_string(&node.site.log).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let end = lines.len().saturating_sub(LOG_LINES);
            let text = lines.get(end..).unwrap_or_default().join("\n  ");
            output::complain(&format!("the last lines of {}:\n  {text}", node.site.name));
        }
    }

    /// Stops both in good order, the standby first so that the active has nobody to hand over to; kills what does not.
    pub(crate) async fn end(mut self) {
        for node in self.0.iter_mut().rev() {
            node.end().await;
        }
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for node in &mut self.0 {
            node.destroy();
        }
    }
}

impl Node {
    pub(crate) fn pid(&self) -> u32 {
        self.process.as_ref().map_or(0, Child::id)
    }

    /// Starts `onduty up` in a process group of its own, so that Ctrl-C is ours to handle.
    pub(crate) fn start(&mut self) -> Result<(), Failure> {
        let failed = |error: std::io::Error| Failure::failed(format!("starting {}: {error}", self.site.name));
        let log = File::options().append(true).create(true).open(&self.site.log).map_err(failed)?;
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        for (name, _value) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ONDUTY_") {
                let _ = command.env_remove(name);
            }
        }
        let child = command
            .args(["up", "--config"])
            .arg(&self.site.settings)
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(failed)?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        self.process = Some(child);
        Ok(())
    }

    /// `kill -9` of the manager; its guard lives on for a moment.
    pub(crate) fn kill(&mut self) -> Result<(), Failure> {
        if let Some(mut child) = self.process.take() {
            let killed = child.kill().and_then(|()| child.wait());
            let _status =
                killed.map_err(|error| Failure::failed(format!("killing {}: {error}", self.site.name)))?;
        }
        Ok(())
    }

    /// Waits until the node's status is as wanted.
    pub(crate) async fn reaches(
        &mut self,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&NodeStatus) -> bool,
    ) -> Result<NodeStatus, Failure> {
        let until = Instant::now() + limit;
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = None;
        while Instant::now() < until {
            let _ = looks.tick().await;
            if let Some(Ok(Some(status))) = self.process.as_mut().map(Child::try_wait) {
                self.process = None;
                return Err(Failure::failed(format!("{} has ended by itself ({status})", self.site.name)));
            }
            last = self.status().await.or(last);
            if let Some(status) = last.take_if(|status| wanted(status)) {
                return Ok(status);
            }
        }
        let said = last.map_or_else(|| "it does not answer".to_owned(), |status| status.redundancy_reason);
        Err(Failure::failed(format!(
            "{}: waited {} s in vain for {what}; {said}",
            self.site.name,
            limit.as_secs()
        )))
    }

    /// What it says of itself; `None` while nobody answers.
    pub(crate) async fn status(&self) -> Option<NodeStatus> {
        let mut client = FailoverServiceClient::new(node::connect_to(&self.site.socket()).await.ok()?);
        client.get_status(GetStatusRequest {}).await.ok()?.into_inner().status
    }

    /// Its newest event with one of these codes.
    pub(crate) async fn event(&self, codes: &[&str]) -> Option<Event> {
        let mut client = EventsServiceClient::new(node::connect_to(&self.site.socket()).await.ok()?);
        let request = ListEventsRequest { after: 0, limit: 200 };
        let events = client.list_events(request).await.ok()?.into_inner().events;
        events.into_iter().rfind(|event| codes.contains(&event.code.as_str()))
    }

    async fn end(&mut self) {
        if let Some(child) = &self.process {
            if let Ok(pid) = i32::try_from(child.id()) {
                // A process that is gone already needs no signal.
                let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            }
            let until = Instant::now() + STOP;
            let mut looks = interval(LOOK);
            while Instant::now() < until
                && self.process.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
            {
                let _ = looks.tick().await;
            }
        }
        self.destroy();
    }

    /// Kills the manager, then whatever its guard and plugins have left.
    fn destroy(&mut self) {
        if self.left {
            return;
        }
        if let Some(mut child) = self.process.take() {
            let _ = child.kill();
            let _ = child.wait();
        } else if !self.site.run_dir().exists() {
            return;
        }
        if let Err(error) = plugin_supervisor::clear_leftovers(&self.site.run_dir()) {
            output::complain(&format!("cleaning up after {}: {error}", self.site.name));
        }
    }
}
