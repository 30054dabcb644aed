//! The process table, read from `/proc`: who descends from whom, and who still carries the mark of a node.
//!
//! A node of a test has a folder and a program file of its own with names that are used once. One of these paths is in
//! the command line or the environment of everything the node starts (manager, guard, plugins, their children), so that
//! each can be found also after its parent was killed and it was handed to another.

use std::fs;

use nix::errno::Errno;
use nix::sys::signal::{self, Signal};

/// A process id, as the kernel counts in the namespace of the test.
pub type Pid = nix::unistd::Pid;

/// One process.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) pid: Pid,
    pub(crate) parent: Pid,
    pub(crate) arguments: Vec<String>,
    marked: bool,
}

/// Whether a process exists and is not a zombie.
#[must_use]
pub fn alive(pid: Pid) -> bool {
    stat(pid).is_some_and(|(state, _)| state != 'Z' && state != 'X')
}

/// Sends a signal; a process that is gone already is fine.
///
/// # Panics
///
/// When the signal may not be sent.
pub fn kill(pid: Pid, signal: Signal) {
    match signal::kill(pid, signal) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(error) => panic!("cannot send {signal} to process {pid}: {error}"),
    }
}

/// Every living process that has one of `marks` in its command line or environment, or descends from one that has.
pub(crate) fn marked(marks: &[&str]) -> Vec<Process> {
    let mut table = table(marks);
    loop {
        let known: Vec<Pid> =
            table.iter().filter(|process| process.marked).map(|process| process.pid).collect();
        let is_new = |process: &&mut Process| !process.marked && known.contains(&process.parent);
        let added = table.iter_mut().filter(is_new).map(|process| process.marked = true).count();
        if added == 0 {
            break;
        }
    }
    let own = Pid::this();
    table.retain(|process| process.marked && process.pid != own);
    table
}

fn table(marks: &[&str]) -> Vec<Process> {
    let Ok(folder) = fs::read_dir("/proc") else { return Vec::new() };
    let pids =
        folder.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).map(Pid::from_raw);
    pids.filter_map(|pid| read(pid, marks)).collect()
}

/// `None` when the process is gone or a zombie.
fn read(pid: Pid, marks: &[&str]) -> Option<Process> {
    let (state, parent) = stat(pid)?;
    if state == 'Z' || state == 'X' {
        return None;
    }
    let command_line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let has = |bytes: &[u8], mark: &str| bytes.windows(mark.len()).any(|part| part == mark.as_bytes());
    let says = |bytes: &[u8]| marks.iter().any(|mark| has(bytes, mark));
    let arguments =
        command_line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned());
    let marked = says(&command_line) || says(&environment);
    Some(Process { pid, parent, arguments: arguments.filter(|word| !word.is_empty()).collect(), marked })
}

/// State and parent.
fn stat(pid: Pid) -> Option<(char, Pid)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the name in parentheses, which may contain anything.
    let mut rest = text.get(text.rfind(')')? + 1..)?.split_ascii_whitespace();
    let state = rest.next()?.chars().next()?;
    Some((state, Pid::from_raw(rest.next()?.parse().ok()?)))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_process_and_its_children_are_found_by_a_mark_and_are_gone_after_a_kill() {
        let mark = format!("onduty-mark-{}-{}", std::process::id(), crate::boot_ns());
        let mut shell = Command::new("sh")
            .args(["-c", "sleep 60 & wait"])
            .env("MARK", &mark)
            .stdin(Stdio::null())
            .spawn()
            .expect("sh starts");
        let found = crate::until("the shell and its child", Duration::from_secs(10), || {
            let found = marked(&[&mark]);
            (found.len() >= 2).then_some(found)
        });
        for process in &found {
            assert!(alive(process.pid), "{process:?}");
            kill(process.pid, Signal::SIGKILL);
        }
        shell.wait().expect("reaped");
        crate::until("both to be gone", Duration::from_secs(10), || {
            marked(&[&mark]).is_empty().then_some(())
        });
        kill(Pid::from_raw(i32::try_from(shell.id()).expect("a process id")), Signal::SIGKILL);
    }
}
