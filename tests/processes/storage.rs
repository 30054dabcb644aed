//! Disks that are full, read-only or slow, and files that are damaged: heartbeats go on, a takeover takes as long as with
//! a good disk, and the trouble is said loudly, as is its end.
//!
//! A sick disk is a small file system of its own below the node's data directory (needs root and mount), or a library
//! between the node and its files (needs a C compiler). Where these are missing the tests say so and are skipped.
#![allow(clippy::print_stderr, reason = "a test tells its figures, and loudly when it is skipped")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use test_support::{Pair, Signal, Status, beside_others, boot_ns, ms_between, timed, until};

use crate::{PATIENCE, at_most, has_event, one_at_a_time, options, runs_again, tells, undisturbed};

/// The figure of the profile `fast`: frozen or dropped.
const TAKEOVER_MS: f64 = 520.0;

/// A file system of its own in a node's data directory; unmounted when dropped.
struct Disk(PathBuf);

impl Disk {
    /// `None`, and a word why, where this machine does not let us.
    fn mount(at: &Path) -> Option<Self> {
        fs::create_dir_all(at).expect("make the data directory");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=4m,mode=700", "onduty-test"])
            .arg(at)
            .output();
        if mounted.as_ref().is_ok_and(|output| output.status.success()) {
            return Some(Self(at.to_owned()));
        }
        eprintln!("SKIPPED: a sick disk needs root and mount: {mounted:?}");
        None
    }

    /// Writes until nothing more fits; gives the file that takes the room.
    fn fill(&self) -> PathBuf {
        let path = self.0.join("filler");
        let mut file = fs::File::create(&path).expect("a file");
        let mut piece = vec![0; 64 * 1024];
        while !piece.is_empty() {
            if file.write_all(&piece).is_err() {
                piece.truncate(piece.len() / 2);
            }
        }
        path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let gone = Command::new("umount").arg("-l").arg(&self.0).status();
        if !gone.is_ok_and(|status| status.success()) && !std::thread::panicking() {
            panic!("{} stays mounted", self.0.display());
        }
    }
}

/// Whether a node says that it cannot write.
fn degraded(status: &Status) -> bool {
    status.warns("journal_degraded") || status.warns("storage_degraded")
}

/// The disk of the secondary becomes sick, the primary fails, the secondary takes over in time and says what is wrong; then
/// the disk is well again, and that is said, too.
fn falls_sick(pair: &mut Pair, sicken: impl FnOnce(), heal: impl FnOnce()) {
    pair.primary.start();
    pair.secondary.start();
    pair.redundant();
    sicken();
    let since = boot_ns();
    // Something to write: it cannot be.
    let answer = pair.primary.ask(&["maintenance", "on", "--reason", "a sick disk", "--for", "1m"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    let status = pair.secondary.reaches("the warning", PATIENCE, degraded);
    eprintln!("said: {}; {}", status.warning("journal_degraded"), status.warning("storage_degraded"));
    assert_eq!(pair.primary.ask(&["maintenance", "off"]).code, Some(0));
    until("four takeover times", PATIENCE, || (ms_between(since, boot_ns()) > 2000.0).then_some(()));
    undisturbed(pair, &pair.primary, since);
    for node in [&pair.primary, &pair.secondary] {
        assert!(!has_event(node, "peer_disconnected"), "{}: heartbeats go on", node.name());
    }
    pair.redundant();
    let killed = pair.primary.kill_everything();
    let runs = runs_again(pair, &pair.secondary, killed);
    at_most("a takeover with a sick disk", TAKEOVER_MS, killed, runs);
    eprintln!("took over after {:.0} ms", ms_between(killed, runs));
    one_at_a_time(pair);
    tells(&pair.secondary, "redundancy_active");
    assert!(has_event(&pair.secondary, "journal_degraded") || has_event(&pair.secondary, "storage_degraded"));
    heal();
    pair.secondary.reaches("the end of the warnings", PATIENCE * 2, |status| !degraded(status));
    assert!(has_event(&pair.secondary, "journal_restored") || has_event(&pair.secondary, "storage_restored"));
}

#[test]
fn a_full_disk_delays_no_takeover_and_is_said() {
    let _turn = timed();
    let mut pair = Pair::prepare(options());
    let Some(disk) = Disk::mount(&pair.secondary.data_dir()) else { return };
    falls_sick(
        &mut pair,
        || drop(disk.fill()),
        || fs::remove_file(disk.0.join("filler")).expect("make room"),
    );
    pair.secondary.clean_up();
}

#[test]
fn a_read_only_disk_delays_no_takeover_and_is_said() {
    let _turn = timed();
    let mut pair = Pair::prepare(options());
    let Some(()) = make_disks_sick_at_will(&mut pair) else { return };
    let flag = pair.folder().join("read-only");
    falls_sick(
        &mut pair,
        || fs::write(&flag, "").expect("break the disks"),
        || fs::remove_file(&flag).expect("mend the disks"),
    );
}

#[test]
fn a_disk_that_stalls_two_seconds_per_sync_delays_neither_heartbeats_nor_takeover() {
    let _turn = timed();
    let mut pair = Pair::prepare(options());
    let Some(()) = make_disks_sick_at_will(&mut pair) else { return };
    let flag = pair.folder().join("stall");
    falls_sick(
        &mut pair,
        || fs::write(&flag, "").expect("break the disks"),
        || fs::remove_file(&flag).expect("mend the disks"),
    );
}

/// Between the node and its files: while the file named by `ONDUTY_TEST_STALL` is there every sync takes two seconds, and
/// while the one named by `ONDUTY_TEST_READ_ONLY` is there nothing below `ONDUTY_TEST_DATA` can be changed, as after the
/// kernel has remounted a broken disk. (A disk that is written to cannot be remounted by hand.)
const SICK_DISK: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
static int on(const char *name) {
    const char *flag = getenv(name);
    return flag && access(flag, F_OK) == 0;
}
static int ours(const char *path) {
    const char *data = getenv("ONDUTY_TEST_DATA");
    return data && path && strncmp(path, data, strlen(data)) == 0 && on("ONDUTY_TEST_READ_ONLY");
}
static int ours_fd(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    return ours(path);
}
#define NEXT(name, type) ((type)dlsym(RTLD_NEXT, #name))
#define REFUSE_IF(condition) if (condition) { errno = EROFS; return -1; }
static void stall(void) {
    struct timespec span = {2, 0};
    if (on("ONDUTY_TEST_STALL")) nanosleep(&span, NULL);
}
int fsync(int fd) { stall(); return NEXT(fsync, int (*)(int))(fd); }
int fdatasync(int fd) { stall(); return NEXT(fdatasync, int (*)(int))(fd); }
int sync_file_range(int fd, off64_t from, off64_t count, unsigned int flags) {
    stall();
    return NEXT(sync_file_range, int (*)(int, off64_t, off64_t, unsigned int))(fd, from, count, flags);
}
#define CHANGES (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC)
#define OPEN(name) int name(const char *path, int flags, ...) { \
    va_list more; va_start(more, flags); mode_t mode = va_arg(more, int); va_end(more); \
    REFUSE_IF((flags & CHANGES) && ours(path)) \
    return NEXT(name, int (*)(const char *, int, ...))(path, flags, mode); }
OPEN(open)
OPEN(open64)
#define PWRITE(name) ssize_t name(int fd, const void *bytes, size_t length, off64_t at) { \
    REFUSE_IF(ours_fd(fd)) \
    return NEXT(name, ssize_t (*)(int, const void *, size_t, off64_t))(fd, bytes, length, at); }
PWRITE(pwrite)
PWRITE(pwrite64)
ssize_t write(int fd, const void *bytes, size_t length) {
    REFUSE_IF(ours_fd(fd))
    return NEXT(write, ssize_t (*)(int, const void *, size_t))(fd, bytes, length);
}
#define TRUNCATE(name) int name(int fd, off64_t length) { \
    REFUSE_IF(ours_fd(fd)) return NEXT(name, int (*)(int, off64_t))(fd, length); }
TRUNCATE(ftruncate)
TRUNCATE(ftruncate64)
int rename(const char *from, const char *to) {
    REFUSE_IF(ours(from)) return NEXT(rename, int (*)(const char *, const char *))(from, to);
}
int unlink(const char *path) { REFUSE_IF(ours(path)) return NEXT(unlink, int (*)(const char *))(path); }
int mkdir(const char *path, mode_t mode) {
    REFUSE_IF(ours(path)) return NEXT(mkdir, int (*)(const char *, mode_t))(path, mode);
}
"#;

/// Builds the library, and gives it to both nodes of a pair that has not been started; `None`, and a word why, where there
/// is no C compiler.
fn make_disks_sick_at_will(pair: &mut Pair) -> Option<()> {
    let (source, library) = (pair.folder().join("sick.c"), pair.folder().join("sick.so"));
    fs::write(&source, SICK_DISK).expect("write the source");
    let built =
        Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).arg("-ldl").output();
    if !built.as_ref().is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: a disk that is sick at will needs a C compiler: {built:?}");
        return None;
    }
    let (stall, read_only) = (pair.folder().join("stall"), pair.folder().join("read-only"));
    for node in [&mut pair.primary, &mut pair.secondary] {
        node.set_variable("LD_PRELOAD", &library);
        node.set_variable("ONDUTY_TEST_STALL", &stall);
        node.set_variable("ONDUTY_TEST_READ_ONLY", &read_only);
        node.set_variable("ONDUTY_TEST_DATA", node.data_dir());
    }
    Some(())
}

/// The files of a data directory that were kept aside.
fn kept_aside(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            names.extend(kept_aside(&path));
        } else if path.to_string_lossy().contains(".corrupt-") {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names
}

#[test]
fn damaged_files_are_kept_aside_and_said_and_the_node_works() {
    let _turn = beside_others();
    let mut pair = Pair::running(options());
    let data = pair.primary.data_dir();
    // Crashed, so that the run file of its guard is left, too.
    pair.primary.kill_everything();
    pair.secondary.reaches("the duty", PATIENCE, |status| status.state() == "active");
    let mut damaged = vec!["journal.db", "epochs", "memory.json", "node-id"];
    if data.join("run/guard.json").exists() {
        damaged.push("run/guard.json");
    }
    for name in &damaged {
        assert!(data.join(name).exists(), "{name} is not there");
        for beside in ["-wal", "-shm"] {
            let _none = fs::remove_file(data.join(format!("{name}{beside}")));
        }
        fs::write(data.join(name), b"\x00\xffthis is not what anybody wrote\x00").expect("damage it");
    }
    pair.primary.start();
    let back = pair.primary.reaches("its duty", PATIENCE * 2, |status| status.state() == "active");
    assert_ne!(back.redundancy(), "", "{back:#?}");
    let kept = kept_aside(&data);
    let events = pair.primary.ask(&["events", "--json", "--limit", "500"]).stdout;
    let log = pair.primary.log();
    for name in damaged {
        let name = name.rsplit('/').next().expect("a name");
        let aside = format!("{name}.corrupt-");
        assert!(kept.iter().any(|kept| kept.starts_with(&aside)), "{name} is not kept aside: {kept:?}");
        assert!(events.contains(&aside), "the journal does not say where {name} is: {events}");
        assert!(log.contains(&aside), "the log does not say where {name} is");
    }
    assert!(events.contains("\"trust_notice\"") && events.contains("\"epoch_trouble\""), "{events}");
    assert_eq!(
        events.contains("\"plugin_changed\""),
        data.join("run").exists() && events.contains("run file")
    );
    one_at_a_time(&pair);
}

#[test]
fn a_damaged_certificate_keeps_the_node_from_starting_and_is_named() {
    let _turn = beside_others();
    let mut pair = Pair::prepare(options());
    pair.primary.start();
    runs_again(&pair, &pair.primary, 0);
    pair.primary.signal(Signal::SIGTERM);
    pair.primary.ended(PATIENCE);
    let own = pair.primary.data_dir().join("pki/own");
    let files: Vec<_> = fs::read_dir(&own).expect("its folder").flatten().map(|entry| entry.path()).collect();
    assert!(files.len() >= 2, "{files:?}");
    for file in files {
        let good = fs::read(&file).expect("read it");
        fs::write(&file, b"not a certificate").expect("damage it");
        pair.primary.start();
        let ended = pair.primary.ended(PATIENCE);
        let log = pair.primary.log();
        let last = log.lines().last().unwrap_or_default();
        assert_eq!(ended.code(), Some(3), "{log}");
        assert!(last.contains("certificate") || last.contains("private key"), "{last}");
        assert!(last.contains("pki/own"), "the file is named: {last}");
        assert!(last.ends_with("[pki_unusable]"), "{last}");
        fs::write(&file, good).expect("mend it");
    }
    pair.primary.start();
    pair.primary.reaches("its duty", PATIENCE, |status| status.state() == "active");
}

#[test]
fn the_first_start_of_a_pair_reserves_its_epochs_before_it_uses_them() {
    let _turn = beside_others();
    let pair = Pair::running(options());
    for node in [&pair.primary, &pair.secondary] {
        until("the reserve", PATIENCE, || node.data_dir().join("epochs").exists().then_some(()));
        assert!(!node.log().contains("without having been reserved"), "{}", node.log());
    }
}

/// The secondary is started anew on a disk that is sick already: it says so, and takes over all the same.
fn starts_sick(pair: &mut Pair, sicken: impl FnOnce()) {
    pair.primary.start();
    pair.secondary.start();
    pair.redundant();
    pair.secondary.signal(Signal::SIGTERM);
    pair.secondary.ended(PATIENCE);
    sicken();
    pair.secondary.start();
    let status = pair.secondary.reaches("a warning", PATIENCE * 2, degraded);
    eprintln!("said: {}; {}", status.warning("journal_degraded"), status.warning("storage_degraded"));
    pair.secondary.reaches("the link", PATIENCE, |status| {
        status.link() == "established" && status.state() == "standby"
    });
    let killed = pair.primary.kill_everything();
    let runs = runs_again(pair, &pair.secondary, killed);
    at_most("a takeover with a disk that was sick from the start", TAKEOVER_MS, killed, runs);
    one_at_a_time(pair);
}

#[test]
fn a_node_whose_disk_is_full_at_its_start_takes_over_all_the_same() {
    let _turn = timed();
    let mut pair = Pair::prepare(options());
    let Some(disk) = Disk::mount(&pair.secondary.data_dir()) else { return };
    starts_sick(&mut pair, || drop(disk.fill()));
    pair.secondary.clean_up();
}

#[test]
fn a_node_whose_disk_stalls_at_its_start_takes_over_all_the_same() {
    let _turn = timed();
    let mut pair = Pair::prepare(options());
    let Some(()) = make_disks_sick_at_will(&mut pair) else { return };
    let flag = pair.folder().join("stall");
    starts_sick(&mut pair, || fs::write(&flag, "").expect("break the disks"));
}
