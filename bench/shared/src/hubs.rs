//! Hubs on a store, and publishers and a subscriber before them.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::{ControlFlow, Range};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bench_stand::{EventStream, Running, Served, data_of, number_of};
use memchr::memmem;

/// Hubs that share a log.
pub struct Hubs {
    hubs: Vec<Running>,
}

/// What publishers achieved.
pub struct Rate {
    pub events: u64,
    pub elapsed: Duration,
}

/// How long single publishes took, in microseconds.
pub struct Single {
    /// Until the hub had answered.
    pub answers_us: Vec<f64>,
    /// Until a subscriber at the last of the hubs had the event.
    pub receipts_us: Vec<f64>,
}

impl Hubs {
    pub fn start(program: &Path, count: usize, url: &str, folder: &Path) -> Result<Self> {
        let start = |_| {
            let mut command = Command::new(program);
            command.args(["serve", "--listen", "127.0.0.1:0", "--log-level", "warn"]);
            command.args(["--log", url]).current_dir(folder).stderr(Stdio::inherit());
            Ok(Running::one(Served::announced(&mut command)?, false))
        };
        Ok(Self { hubs: (0..count).map(start).collect::<Result<_>>()? })
    }

    pub fn cpu(&self) -> Result<Duration> {
        self.hubs.iter().map(Running::cpu).sum()
    }

    fn address(&self, place: usize) -> SocketAddr {
        self.hubs[place % self.hubs.len()].publish_at()
    }

    /// Publishes batches from `publishers` connections, spread over the hubs, each its next one as
    /// soon as the last is answered. `mark` is called when the first answer counts and when none does
    /// any more.
    pub fn publish_batches(
        &self,
        publishers: usize,
        batch: u64,
        warm_up: Duration,
        measured: Duration,
        mut mark: impl FnMut() -> Result<()>,
    ) -> Result<Rate> {
        let (is_over, next, acknowledged) =
            (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
        let (rate, end) = thread::scope(|scope| {
            let publish = |place| {
                let (is_over, next, acknowledged) = (&is_over, &next, &acknowledged);
                let address = self.address(place);
                scope.spawn(move || -> Result<Vec<Range<u64>>> {
                    let mut publisher = Publisher::connect(address)?;
                    let mut runs = Vec::new();
                    while !is_over.load(Ordering::Relaxed) {
                        let first = next.fetch_add(batch, Ordering::Relaxed);
                        runs.push(publisher.publish(first..first + batch)?);
                        acknowledged.fetch_add(batch, Ordering::Relaxed);
                    }
                    Ok(runs)
                })
            };
            let publishers: Vec<_> = (0..publishers).map(publish).collect();
            thread::park_timeout(warm_up);
            mark()?;
            let (begin, before) = (Instant::now(), acknowledged.load(Ordering::Relaxed));
            while begin.elapsed() < measured {
                thread::park_timeout(measured.saturating_sub(begin.elapsed()));
            }
            let rate = Rate {
                events: acknowledged.load(Ordering::Relaxed) - before,
                elapsed: begin.elapsed(),
            };
            mark()?;
            is_over.store(true, Ordering::Relaxed);
            let mut offsets = BTreeSet::new();
            for publisher in publishers {
                for run in publisher.join().expect("publishers do not panic")? {
                    ensure!(run.end - run.start == batch, "a batch is not in one piece");
                    ensure!(offsets.insert(run.start), "an offset was given twice");
                }
            }
            let total = acknowledged.load(Ordering::Relaxed);
            let ends = offsets.first().zip(offsets.last()).context("nothing was published")?;
            let span = ends.1 + batch - ends.0;
            ensure!(span == total, "{total} events have {span} offsets");
            Ok((rate, ends.1 + batch))
        })?;
        self.check_end(end, CHECKED)?;
        Ok(rate)
    }

    /// Reads the last events below an offset at each hub: all have the same, also one that was behind.
    fn check_end(&self, end: u64, count: usize) -> Result<()> {
        let mut epoch = None;
        EventStream::open(self.address(0), "/events?topic=*&last=1", "")?.for_each(|event| {
            epoch = event.id.split_once('-').map(|(epoch, _)| epoch.to_owned());
            ControlFlow::Break(())
        })?;
        let epoch = epoch.context("ids begin with an epoch")?;
        let after = format!("last-event-id: {epoch}-{}\r\n", end - 1 - count as u64);
        let mut first: Option<Vec<_>> = None;
        for place in 0..self.hubs.len() {
            let mut stream = EventStream::open(self.address(place), "/events?topic=*", &after)?;
            let mut events = Vec::new();
            stream.for_each(|event| {
                ensure_data(&event.data);
                events.push((event.id.clone(), event.data.clone()));
                if events.len() == count {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            })?;
            let same = first.get_or_insert_with(|| events.clone());
            ensure!(*same == events, "hubs disagree about the last {count} events");
        }
        Ok(())
    }

    /// Publishes single events at the first hub, each once the last was received at the last hub.
    pub fn publish_singly(&self, count: usize, pause: Duration) -> Result<Single> {
        let mut stream =
            EventStream::open(self.address(self.hubs.len() - 1), "/events?topic=bench/1", "")?;
        let (received, receipts) = mpsc::channel();
        let receiver = thread::spawn(move || {
            let mut seen = 0;
            stream.for_each(|event| {
                seen += 1;
                let is_open = received.send((Instant::now(), number_of(&event.data))).is_ok();
                if seen < count && is_open {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                }
            })
        });
        let mut publisher = Publisher::connect(self.address(0))?;
        let mut single = Single { answers_us: Vec::new(), receipts_us: Vec::new() };
        for number in 0..count as u64 {
            thread::park_timeout(pause);
            let begin = Instant::now();
            publisher.publish(number..number + 1)?;
            single.answers_us.push(begin.elapsed().as_secs_f64() * 1e6);
            let (at, seen) = receipts.recv_timeout(PATIENCE).context("an event is lost")?;
            ensure!(seen == Some(number), "event {number} was not the next");
            single.receipts_us.push((at - begin).as_secs_f64() * 1e6);
        }
        receiver.join().expect("the receiver does not panic")?;
        Ok(single)
    }
}

fn ensure_data(data: &str) {
    assert!(number_of(data).is_some(), "an event is not one that was published");
}

/// One kept-alive connection.
struct Publisher {
    socket: TcpStream,
    request: Vec<u8>,
    response: Vec<u8>,
}

impl Publisher {
    fn connect(address: SocketAddr) -> Result<Self> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { socket, request: Vec::new(), response: Vec::new() })
    }

    /// Publishes events with these numbers as one array, and returns their offsets.
    fn publish(&mut self, numbers: Range<u64>) -> Result<Range<u64>> {
        let mut body = String::with_capacity((numbers.end - numbers.start) as usize * 240);
        for number in numbers.clone() {
            body.push(if number == numbers.start { '[' } else { ',' });
            let data = data_of(number);
            let data = std::str::from_utf8(&data).context("the data is text")?;
            write!(body, r#"{{"topic":"bench/1","data":"{data}"}}"#)?;
        }
        body.push(']');
        self.request.clear();
        write!(
            self.request,
            "POST /events HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        )?;
        self.socket.write_all(&self.request)?;
        self.response.clear();
        let mut chunk = [0; 65_536];
        loop {
            let count = self.socket.read(&mut chunk)?;
            ensure!(count > 0, "a hub closed the connection");
            self.response.extend_from_slice(&chunk[..count]);
            if let Some(body) = body_of(&self.response)? {
                return offsets_of(&self.response[body]);
            }
        }
    }
}

/// Where the body of a response lies, or `None` if it is not whole yet.
fn body_of(response: &[u8]) -> Result<Option<Range<usize>>> {
    let Some(head) = memmem::find(response, b"\r\n\r\n") else { return Ok(None) };
    let text = String::from_utf8_lossy(&response[..head]).to_ascii_lowercase();
    if !text.starts_with("http/1.1 200") {
        bail!("answered {}", String::from_utf8_lossy(response));
    }
    let Some(length) = text.lines().find_map(|line| line.strip_prefix("content-length: ")) else {
        // In chunks: the last one is empty.
        return Ok(response.ends_with(b"\r\n0\r\n\r\n").then_some(head + 4..response.len()));
    };
    let length: usize = length.trim().parse()?;
    let body = head + 4..head + 4 + length;
    Ok((response.len() >= body.end).then_some(body))
}

/// The data of chunks (RFC 9112, section 7.1); what is in none is given back as it is.
fn without_framing(body: &[u8]) -> Result<Vec<u8>> {
    if body.starts_with(b"{") {
        return Ok(body.to_vec());
    }
    let (mut rest, mut data) = (body, Vec::new());
    loop {
        let line = memmem::find(rest, b"\r\n").context("a chunk has a size")?;
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line])?, 16)?;
        if size == 0 {
            return Ok(data);
        }
        let chunk = rest.get(line + 2..line + 2 + size).context("a chunk is whole")?;
        data.extend_from_slice(chunk);
        rest = &rest[line + 4 + size..];
    }
}

/// The offsets of an answer, which follow each other.
fn offsets_of(body: &[u8]) -> Result<Range<u64>> {
    let answer: serde_json::Value = serde_json::from_slice(&without_framing(body)?)?;
    let ids = answer["ids"].as_array().context("an array is answered by ids")?;
    let offset = |id: Option<&serde_json::Value>| -> Option<u64> {
        id?.as_str()?.rsplit_once('-')?.1.parse().ok()
    };
    let (first, last) = (offset(ids.first()), offset(ids.last()));
    let (first, last) = first.zip(last).context("ids end in offsets")?;
    ensure!(last - first + 1 == ids.len() as u64, "a batch has a hole");
    Ok(first..last + 1)
}

/// Events that are compared at the end.
const CHECKED: usize = 2_000;
const PATIENCE: Duration = Duration::from_secs(10);
