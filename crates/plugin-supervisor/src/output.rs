//! What plugins write: taken line by line into rotated files, `plugins/<name>/output.log`.
//!
//! ```text
//!   plugin ─ pipe ─► reader (a task for each stream) ─ bounded, never waits ─► one thread ─► files
//! ```
//!
//! A plugin must never wait for a disk that is full or stalls. The readers always read; when the thread behind them
//! does not keep up, lines are dropped and counted, and the file says how many once it goes on.
#![allow(
    clippy::disallowed_methods,
    reason = "bounds how long the last output of an ended plugin is awaited"
)]

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

/// A longer line is cut into pieces of this length.
const LONGEST_LINE: usize = 16 * 1024;
/// Lines that wait for the disk. With [`WAITING_BYTES`] it bounds the memory; what comes beyond is dropped and
/// counted.
const WAITING_LINES: usize = 4096;
/// Bytes that wait for the disk.
const WAITING_BYTES: usize = 1024 * 1024;
/// After a failed write the file is opened again no sooner than this.
const RETRY: Duration = Duration::from_secs(1);

/// How much output is kept of each plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLimits {
    /// A file that has grown to this many bytes is put aside.
    pub max_bytes: u64,
    /// How many files are kept, the current one included.
    pub files: u32,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self { max_bytes: 8 * 1024 * 1024, files: 5 }
    }
}

/// Which stream of a plugin a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stream {
    Out,
    Err,
    /// Not the plugin: the supervisor's own remarks.
    Note,
}

struct Line {
    plugin: Arc<str>,
    stream: Stream,
    /// A piece of a line that goes on.
    cut: bool,
    bytes: Vec<u8>,
}

/// The way to the files.
#[derive(Clone)]
pub(crate) struct Output {
    lines: SyncSender<Line>,
    waiting: Arc<AtomicUsize>,
    dropped: Arc<AtomicU64>,
}

impl Output {
    /// Starts the thread that writes. It ends when the last reader has.
    pub(crate) fn start(data_dir: &Path, limits: LogLimits) -> io::Result<Self> {
        let (lines, queue) = sync_channel(WAITING_LINES);
        let output = Self { lines, waiting: Arc::default(), dropped: Arc::default() };
        let (waiting, dropped) = (output.waiting.clone(), output.dropped.clone());
        let dir = data_dir.join("plugins");
        let writer = Writer { dir, limits, files: BTreeMap::new(), waiting, dropped, in_trouble: false };
        std::thread::Builder::new().name("plugin-output".to_owned()).spawn(move || writer.run(&queue))?;
        Ok(output)
    }

    /// Pipes for a plugin's standard output and standard error, with their readers running. To be called within the
    /// runtime.
    pub(crate) fn pipes(&self, plugin: &Arc<str>) -> io::Result<Vec<OwnedFd>> {
        let mut ends = Vec::new();
        for stream in [Stream::Out, Stream::Err] {
            let (reading, writing) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
            let reader = pipe::Receiver::from_owned_fd(reading)?;
            tokio::spawn(read(reader, self.clone(), plugin.clone(), stream));
            ends.push(writing);
        }
        Ok(ends)
    }

    /// Writes a remark of the supervisor's own between the plugin's lines.
    pub(crate) fn note(&self, plugin: &Arc<str>, text: String) {
        self.put(Line { plugin: plugin.clone(), stream: Stream::Note, cut: false, bytes: text.into_bytes() });
    }

    fn put(&self, line: Line) {
        let length = line.bytes.len();
        let waiting = self.waiting.fetch_add(length, Ordering::Relaxed);
        if waiting + length > WAITING_BYTES || self.lines.try_send(line).is_err() {
            self.waiting.fetch_sub(length, Ordering::Relaxed);
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Reads one stream to its end.
async fn read(mut pipe: pipe::Receiver, output: Output, plugin: Arc<str>, stream: Stream) {
    let mut line = Vec::new();
    let mut chunk = vec![0; 8 * 1024];
    let put = |bytes: Vec<u8>, cut| output.put(Line { plugin: plugin.clone(), stream, cut, bytes });
    loop {
        let read = match pipe.read(&mut chunk).await {
            Ok(0) | Err(_) => break,
            Ok(read) => read,
        };
        for byte in chunk.iter().take(read) {
            if *byte == b'\n' {
                put(std::mem::take(&mut line), false);
            } else {
                line.push(*byte);
                if line.len() >= LONGEST_LINE {
                    put(std::mem::take(&mut line), true);
                }
            }
        }
    }
    if !line.is_empty() {
        put(line, false);
    }
}

/// The thread's side.
struct Writer {
    dir: PathBuf,
    limits: LogLimits,
    files: BTreeMap<Arc<str>, Log>,
    waiting: Arc<AtomicUsize>,
    dropped: Arc<AtomicU64>,
    in_trouble: bool,
}

struct Log {
    file: Option<File>,
    size: u64,
    failed: Option<Instant>,
}

impl Writer {
    fn run(mut self, queue: &Receiver<Line>) {
        while let Ok(line) = queue.recv() {
            self.waiting.fetch_sub(line.bytes.len(), Ordering::Relaxed);
            let outcome = self.write(&line);
            match outcome {
                Ok(()) => self.in_trouble = false,
                Err(error) => {
                    self.dropped.fetch_add(1, Ordering::Relaxed);
                    if !std::mem::replace(&mut self.in_trouble, true) {
                        tracing::warn!(plugin = %line.plugin, %error, "cannot write a plugin's output; lines are dropped");
                    }
                }
            }
        }
    }

    fn write(&mut self, line: &Line) -> io::Result<()> {
        let dir = self.dir.join(&*line.plugin);
        let log = self.files.entry(line.plugin.clone()).or_insert(Log { file: None, size: 0, failed: None });
        if log.failed.is_some_and(|failed| failed.elapsed() < RETRY) {
            return Err(io::Error::other("the file could not be written an instant ago"));
        }
        let mut text = Vec::with_capacity(line.bytes.len() + 64);
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            compose(
                &mut text,
                Stream::Note,
                false,
                format!("{dropped} lines of plugins were dropped").as_bytes(),
            );
        }
        compose(&mut text, line.stream, line.cut, &line.bytes);
        let outcome = log.append(&dir, &text, self.limits);
        if outcome.is_err() {
            self.dropped.fetch_add(dropped, Ordering::Relaxed);
            *log = Log { file: None, size: 0, failed: Some(Instant::now()) };
        }
        outcome
    }
}

/// `2026-11-22T19:15:51.123Z out text`; a stream with `+` goes on in the next line.
fn compose(text: &mut Vec<u8>, stream: Stream, cut: bool, bytes: &[u8]) {
    let word = match stream {
        Stream::Out => "out",
        Stream::Err => "err",
        Stream::Note => "---",
    };
    let time = jiff::Timestamp::now();
    text.extend_from_slice(format!("{time:.3} {word}{} ", if cut { "+" } else { "" }).as_bytes());
    text.extend_from_slice(bytes);
    text.push(b'\n');
}

impl Log {
    fn append(&mut self, dir: &Path, text: &[u8], limits: LogLimits) -> io::Result<()> {
        let path = dir.join("output.log");
        let mut file = match self.file.take() {
            Some(file) => file,
            None => {
                fs::create_dir_all(dir)?;
                let file = OpenOptions::new().create(true).append(true).open(&path)?;
                self.size = file.metadata()?.len();
                file
            }
        };
        let length = u64::try_from(text.len()).unwrap_or(u64::MAX);
        if self.size > 0 && self.size.saturating_add(length) > limits.max_bytes {
            rotate(dir, limits.files);
            file = OpenOptions::new().create(true).append(true).open(&path)?;
            self.size = file.metadata()?.len();
        }
        file.write_all(text)?;
        self.size = self.size.saturating_add(length);
        self.failed = None;
        self.file = Some(file);
        Ok(())
    }
}

/// `output.log` → `output.log.1` → … ; the oldest goes.
fn rotate(dir: &Path, files: u32) {
    let name = |n: u32| if n == 0 { dir.join("output.log") } else { dir.join(format!("output.log.{n}")) };
    let oldest = files.saturating_sub(1);
    let _ = fs::remove_file(name(oldest));
    for n in (0..oldest).rev() {
        let _ = fs::rename(name(n), name(n + 1));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn writer(dir: &Path, max_bytes: u64, files: u32) -> Writer {
        Writer {
            dir: dir.join("plugins"),
            limits: LogLimits { max_bytes, files },
            files: BTreeMap::new(),
            waiting: Arc::default(),
            dropped: Arc::default(),
            in_trouble: false,
        }
    }

    fn line(bytes: &[u8]) -> Line {
        Line { plugin: "p".into(), stream: Stream::Out, cut: false, bytes: bytes.to_vec() }
    }

    #[test]
    fn files_are_rotated_and_only_so_many_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = writer(dir.path(), 200, 3);
        for n in 0..50 {
            writer.write(&line(format!("line number {n}").as_bytes())).unwrap();
        }
        let logs = dir.path().join("plugins/p");
        let mut names: Vec<_> = fs::read_dir(&logs).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["output.log", "output.log.1", "output.log.2"]);
        for name in names {
            assert!(fs::metadata(logs.join(name)).unwrap().len() <= 200);
        }
        assert!(fs::read_to_string(logs.join("output.log")).unwrap().contains("out line number 49\n"));
    }

    #[test]
    fn a_disk_that_refuses_costs_lines_and_is_asked_again_later() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("plugins"), "in the way").unwrap();
        let mut writer = writer(dir.path(), 1000, 2);
        assert!(writer.write(&line(b"lost")).is_err());
        writer.dropped.fetch_add(1, Ordering::Relaxed);
        fs::remove_file(dir.path().join("plugins")).unwrap();
        assert!(writer.write(&line(b"too soon")).is_err());
        writer.files.clear();
        writer.write(&line(b"kept \xff\x00")).unwrap();
        let text = fs::read(dir.path().join("plugins/p/output.log")).unwrap();
        assert!(String::from_utf8_lossy(&text).contains("--- 1 lines of plugins were dropped\n"));
        assert!(text.ends_with(b"out kept \xff\x00\n"));
    }

    #[tokio::test]
    async fn a_flood_never_waits_for_the_disk() {
        // Nobody takes the lines: the worst disk there is.
        let (lines, _queue) = sync_channel(WAITING_LINES);
        let output = Output { lines, waiting: Arc::default(), dropped: Arc::default() };
        let ends = output.pipes(&"p".into()).unwrap();
        let mut pipe = File::from(ends.into_iter().next().unwrap());
        let flood = tokio::task::spawn_blocking(move || {
            for _ in 0..200 {
                pipe.write_all(&[b'x'; 40 * 1024]).unwrap();
                pipe.write_all(b"\n").unwrap();
            }
        });
        tokio::time::timeout(Duration::from_secs(30), flood).await.expect("the writer was held up").unwrap();
        assert!(output.waiting.load(Ordering::Relaxed) <= WAITING_BYTES);
        tokio::time::timeout(Duration::from_secs(30), async {
            while output.dropped.load(Ordering::Relaxed) < 400 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("what was dropped is counted");
    }
}
