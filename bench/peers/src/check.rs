//! What each peer is seen doing.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bench_stand::{
    EventStream, Prepared, Request, Running, Scratch, Target, TlsFiles, Transport, Wanted,
};

use crate::client::{Publisher, Subscriber};
use crate::tls::{Curl, status_over_tls};

/// What the cells of a row are.
pub(crate) const COLUMNS: [&str; 10] = [
    "version",
    "events",
    "two topics",
    "resumes",
    "heartbeat",
    "TLS 1.3",
    "HTTP/2",
    "processes",
    "MiB at rest",
    "many",
];

/// Tries one peer; returns its row, and what went wrong.
pub(crate) fn check(
    target: &dyn Target,
    prepared: &Prepared,
    folder: &Path,
    files: &TlsFiles,
    connections: usize,
) -> (Vec<String>, Vec<String>) {
    let mut faults = Vec::new();
    let mut cell = |outcome: Option<Result<String>>| match outcome {
        None => "–".to_owned(),
        Some(Ok(text)) => text,
        Some(Err(error)) => {
            faults.push(format!("{error:#}"));
            "fails".to_owned()
        }
    };
    let offers = target.offers();
    let one = &["aaaaaaa1".to_owned()][..];
    let two = &["aaaaaaa1".to_owned(), "aaaaaaa2".to_owned()][..];
    let tried = |wanted: Wanted, attempt: &dyn Fn(&Running) -> Result<String>| {
        let scratch = Scratch::new(folder)?;
        let running = target.start(scratch.path(), &wanted).context("it does not start")?;
        attempt(&running)
    };
    let done = |outcome: Result<()>| outcome.map(|()| "yes".to_owned());
    let is_sse = offers.transport == Transport::Sse;
    let events = |running: &Running| {
        // Once with a reader of event streams, so that more is seen than bytes.
        if is_sse {
            read_events(target, running).context("events")?;
        }
        done(deliver(target, running, one).context("events"))
    };
    let memory = |running: &Running| {
        deliver(target, running, one)?;
        let usage = running.usage()?;
        Ok(format!("{} | {:.1}", usage.processes, usage.resident_bytes as f64 / 1_048_576.0))
    };
    let over = |version| move |running: &Running| deliver_over_tls(target, running, version);
    let tls = Wanted { tls: Some(files.clone()), ..PLAIN };
    let cells = vec![
        prepared.version.clone(),
        cell(Some(tried(PLAIN, &events))),
        cell((offers.topics_max > 1).then(|| {
            tried(PLAIN, &|running| done(deliver(target, running, two).context("two topics")))
        })),
        cell(offers.resume.then(|| {
            let wanted = Wanted { kept_events: 100, ..PLAIN };
            tried(wanted, &|running| done(resume(target, running).context("resume")))
        })),
        cell(offers.heartbeat.then(|| {
            let wanted = Wanted { heartbeat: Some(Duration::from_secs(1)), ..PLAIN };
            tried(wanted, &|running| keep_alive(target, running).context("heartbeat"))
        })),
        cell((offers.tls && is_sse).then(|| {
            tried(tls.clone(), &|running| done(over("--http1.1")(running).context("TLS")))
        })),
        cell(
            offers
                .http2
                .then(|| tried(tls, &|running| done(over("--http2")(running).context("HTTP/2")))),
        ),
        cell(Some(tried(PLAIN, &memory))),
        cell(Some({
            let wanted = Wanted { connections, ..PLAIN };
            tried(wanted, &|running| deliver_to_many(target, running, connections))
        })),
    ];
    (cells, faults)
}

/// Reads three events with their data and, where there are any, ids that differ.
fn read_events(target: &dyn Target, running: &Running) -> Result<Vec<(String, String)>> {
    let topic = "bbbbbbb1";
    let request = target.subscribe(&[topic.to_owned()], None);
    let mut stream = open(running, &request)?;
    let mut publisher = Publisher::connect(running.publish_at())?;
    let mut events = Vec::new();
    for number in 1..=3 {
        publisher.publish(&target.publish(topic, &data(number)))?;
    }
    take(&mut stream, 3, &mut events)?;
    for (number, (_, found)) in (1..).zip(&events) {
        ensure!(found.contains(&data(number)), "{found} came instead of event {number}");
    }
    Ok(events)
}

/// Has three events come over each of these topics, with a connection that is kept alive.
fn deliver(target: &dyn Target, running: &Running, topics: &[String]) -> Result<()> {
    let request = target.subscribe(topics, None);
    let transport = target.offers().transport;
    let mut subscriber = Subscriber::open(running.subscribe_at(), transport, &request)?;
    let mut publisher = Publisher::connect(running.publish_at())?;
    // A stream may have begun before all parts of a server know of it.
    for topic in topics {
        while !subscriber.has(&data(0))? {
            publisher.publish(&target.publish(topic, &data(0)))?;
        }
    }
    for number in 1..=3 {
        for topic in topics {
            publisher.publish(&target.publish(topic, &data(number)))?;
            subscriber.expect(&data(number))?;
        }
    }
    Ok(())
}

/// Has three events come to each of many; tells how many that are.
fn deliver_to_many(target: &dyn Target, running: &Running, count: usize) -> Result<String> {
    let topic = "eeeeeee1";
    let request = target.subscribe(&[topic.to_owned()], None);
    let transport = target.offers().transport;
    let open = |_| Subscriber::open(running.subscribe_at(), transport, &request);
    let subscribers: Result<Vec<_>> = (0..count).map(open).collect();
    let mut subscribers = subscribers.context("many do not get in")?;
    let mut publisher = Publisher::connect(running.publish_at())?;
    for subscriber in &mut subscribers {
        while !subscriber.has(&data(0))? {
            publisher.publish(&target.publish(topic, &data(0)))?;
        }
    }
    for number in 1..=3 {
        publisher.publish(&target.publish(topic, &data(number)))?;
    }
    for (index, subscriber) in subscribers.iter_mut().enumerate() {
        for number in 1..=3 {
            let what = || format!("event {number} for subscriber {index} of {count}");
            subscriber.expect(&data(number)).with_context(what)?;
        }
    }
    Ok(count.to_string())
}

/// Comes back after the first of a hundred events that nobody read, and reads all others.
fn resume(target: &dyn Target, running: &Running) -> Result<()> {
    let topic = "bbbbbbb1";
    let seen = read_events(target, running)?;
    let mut publisher = Publisher::connect(running.publish_at())?;
    for number in 4..=100 {
        publisher.publish(&target.publish(topic, &data(number)))?;
    }
    let (id, _) = &seen[0];
    ensure!(!id.is_empty() && *id != seen[1].0, "ids are {id:?}, {:?}", seen[1].0);
    let request = target.subscribe(&[topic.to_owned()], Some(id));
    let mut stream = open(running, &request)?;
    let mut events = Vec::new();
    take(&mut stream, 99, &mut events)?;
    for (number, (_, found)) in (2..).zip(&events) {
        ensure!(found.contains(&data(number)), "{found} came instead of event {number}");
    }
    Ok(())
}

/// How often something comes where nothing happens.
fn keep_alive(target: &dyn Target, running: &Running) -> Result<String> {
    let request = target.subscribe(&["ccccccc1".to_owned()], None);
    let transport = target.offers().transport;
    let mut subscriber = Subscriber::open(running.subscribe_at(), transport, &request)?;
    loop {
        let begin = Instant::now();
        subscriber.stir()?;
        // What belongs to the begin of a stream comes at once.
        if begin.elapsed() > Duration::from_millis(300) {
            return Ok(format!("{:.1} s", begin.elapsed().as_secs_f64()));
        }
    }
}

fn deliver_over_tls(target: &dyn Target, running: &Running, version: &str) -> Result<()> {
    let topic = "ddddddd1";
    let request = target.subscribe(&[topic.to_owned()], None);
    let curl = Curl::open(running.subscribe_at(), &request, version)?;
    let expected = if version == "--http2" { "HTTP/2 200" } else { "HTTP/1.1 200" };
    let mut is_spoken = false;
    let publish = target.publish(topic, &data(1));
    let begin = Instant::now();
    loop {
        // Nothing tells when the subscription stands: curl keeps the head until more comes.
        if running.is_publish_tls() {
            let status = status_over_tls(running.publish_at(), &publish)?;
            ensure!(status.starts_with("HTTP/1.1 2"), "a publish is answered {status:?}");
        } else {
            Publisher::connect(running.publish_at())?.publish(&publish)?;
        }
        loop {
            match curl.lines.recv_timeout(Duration::from_millis(200)) {
                Ok(line) if !is_spoken => {
                    ensure!(line.starts_with(expected), "{line} instead of {expected}");
                    is_spoken = true;
                }
                Ok(line) if line.contains(&data(1)) => return Ok(()),
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => anyhow::bail!("the stream ended"),
            }
        }
        ensure!(begin.elapsed() < PATIENCE, "no event over TLS");
    }
}

fn open(running: &Running, request: &Request) -> Result<EventStream> {
    let lines = request.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
    EventStream::open(running.subscribe_at(), &request.path, &lines.collect::<String>())
}

/// Reads so many events with data, each with its id; others are how a server says hello.
fn take(stream: &mut EventStream, count: usize, events: &mut Vec<(String, String)>) -> Result<()> {
    stream
        .for_each(|event| {
            if event.data.contains(DATA_MARK) {
                events.push((event.id.to_string(), event.data.to_string()));
            }
            if events.len() < count { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })
        .with_context(|| format!("{} of {count} events came", events.len()))
}

fn data(number: usize) -> String {
    format!("{DATA_MARK}{number:04}")
}

const DATA_MARK: &str = "number.";

const PATIENCE: Duration = Duration::from_secs(5);

const PLAIN: Wanted =
    Wanted { connections: 100, topics: 10, kept_events: 0, heartbeat: None, tls: None };
