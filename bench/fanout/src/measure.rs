//! One server, one workload, once: started, checked, measured, stopped.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bench_stand::{Running, Scratch, Target, TlsFiles};

use crate::histogram::{Histogram, Sparse};
use crate::load_process::LoadProcess;
use crate::plan::{Carrier, Command, Pattern, Plan, Publishers, Received, topic_name};
use crate::workload::{Kind, Workload};

/// What was measured, by name; the unit is the end of the name.
pub type Figures = BTreeMap<&'static str, f64>;

/// Where things are.
#[derive(Debug)]
pub struct Place<'a> {
    /// For what servers write.
    pub folder: &'a Path,
    pub tls: &'a TlsFiles,
}

/// Measures once.
///
/// # Errors
///
/// If the server does not start, or does anything that is wrong.
pub fn measure(target: &dyn Target, workload: &Workload, place: &Place<'_>) -> Result<Figures> {
    let mut workload = workload.clone();
    let patience = u64::from(target.patience());
    for count in [&mut workload.events, &mut workload.warm_up_events, &mut workload.deliveries] {
        *count = count.div_ceil(patience);
    }
    if workload.kind == Kind::Live {
        workload.deliveries = workload.events * workload.read_fan_out();
    }
    let round = Round { target, workload: &workload, place };
    match workload.kind {
        Kind::Live => round.live(),
        Kind::Idle => round.idle(),
        Kind::Resume => round.resume(),
    }
}

struct Round<'a> {
    target: &'a dyn Target,
    workload: &'a Workload,
    place: &'a Place<'a>,
}

impl Round<'_> {
    fn live(&self) -> Result<Figures> {
        let workload = self.workload;
        let scratch = Scratch::new(self.place.folder)?;
        let server = self.start(scratch.path(), workload.connections)?;
        let mut figures = Figures::new();
        let mut load = LoadProcess::start(&self.plan(&server, 0..workload.connections)?)?;
        self.connect(&server, &mut load, &mut figures)?;

        let warm_up = self.phase(&mut load, workload.warm_up_events)?;
        ensure!(warm_up.received.lost == 0, "{} lost while warming up", warm_up.received.lost);
        let mut arrivals = self.arrivals(&server)?;
        if let Some(arrivals) = &mut arrivals {
            arrivals.tell(&Command::Connect)?;
        }
        let cpu_before = server.cpu()?;
        let measured = self.phase(&mut load, workload.events)?;
        let cpu = (server.cpu()? - cpu_before).as_secs_f64();
        if let Some(arrivals) = &mut arrivals {
            let mut first_byte = Histogram::default();
            first_byte.merge(&arrivals.connected()?.first_byte);
            figures.insert("arrival_p50_ms", ms(first_byte.quantile_ns(0.5)));
            figures.insert("arrival_p99_ms", ms(first_byte.quantile_ns(0.99)));
            figures.insert("arrival_max_ms", ms(first_byte.max_ns()));
        }
        let received = &measured.received;
        ensure!(
            received.deliveries + received.lost == workload.deliveries,
            "{} deliveries instead of {}",
            received.deliveries,
            workload.deliveries
        );
        measured.insert_into(&mut figures, cpu);
        Ok(figures)
    }

    fn resume(&self) -> Result<Figures> {
        let workload = self.workload;
        let scratch = Scratch::new(self.place.folder)?;
        let server = self.start(scratch.path(), workload.connections + 1)?;
        let before = workload.warm_up_events;
        let all = before + workload.events;
        let mut figures = Figures::new();
        let mut plan = Plan { notes_ids: true, ..self.plan(&server, 0..1)? };
        if let Some(publishers) = &mut plan.publishers {
            publishers.fan_out = 1;
        }
        let mut first = LoadProcess::start(&plan)?;
        first.tell(&Command::Connect)?;
        first.connected()?;
        let pattern = Pattern::Window(1);
        let published = publish(&mut first, pattern, all)?;
        ensure!(published.received.lost == 0, "events are lost before it begins");
        let ids = &published.received.ids;
        ensure!(ids.len() as u64 == all, "{} events had ids, of {all}", ids.len());
        let after = (&*ids[before as usize - 1], before as u32);

        let streams = workload.streams(self.target, 0..workload.connections, Some(after));
        let plan = Plan {
            publishers: None,
            streams,
            connecting_max: RECONNECTING_MAX.min(self.target.connecting_max()),
            first_source: 10,
            ..self.plan(&server, 0..1)?
        };
        let mut load = LoadProcess::start(&plan)?;
        load.tell(&Command::Begin)?;
        load.begun()?;
        let cpu_before = server.cpu()?;
        load.tell(&Command::Expect { published: published.published })?;
        load.tell(&Command::Connect)?;
        let connected = load.connected()?;
        let received = load.complete()?;
        let cpu = (server.cpu()? - cpu_before).as_secs_f64();
        let phase = Phase {
            received,
            first_ns: connected.first_ns,
            answered: Sparse::default(),
            published: Vec::new(),
        };
        phase.insert_into(&mut figures, cpu);
        // Latency is from a publish that was long before.
        figures.retain(|name, _| !["p50_ms", "p99_ms", "max_ms", "publish_p50_ms"].contains(name));
        figures.insert("caught_up_per_s", workload.connections as f64 / phase.seconds());
        insert_connected(&mut figures, &connected.first_byte);
        Ok(figures)
    }

    fn idle(&self) -> Result<Figures> {
        let workload = self.workload;
        let scratch = Scratch::new(self.place.folder)?;
        let instances = workload.connections.div_ceil(PROCESS_CONNECTIONS_MAX);
        let each = workload.connections.div_ceil(instances);
        let mut servers = Vec::new();
        let mut resident_before = 0;
        for instance in 0..instances {
            let folder = scratch.path().join(instance.to_string());
            fs::create_dir_all(&folder)?;
            servers.push(self.start(&folder, each)?);
            resident_before += servers[instance].usage()?.resident_bytes;
        }
        let kernel_before = kernel_bytes()?;
        let mut loads = Vec::new();
        let mut figures = Figures::new();
        let (mut seconds, mut first_byte) = (0.0, Histogram::default());
        for (instance, server) in servers.iter().enumerate() {
            let of_all = instance * each..((instance + 1) * each).min(workload.connections);
            let mut plan = self.plan(server, of_all)?;
            plan.publishers = None;
            plan.first_source = 1 + 2 * instance as u8;
            let mut load = LoadProcess::start(&plan)?;
            load.tell(&Command::Connect)?;
            let connected = load.connected()?;
            seconds += (connected.last_ns - connected.first_ns) as f64 / 1e9;
            first_byte.merge(&connected.first_byte);
            loads.push(load);
        }
        insert_connected(&mut figures, &first_byte.to_sparse());
        figures.insert("connects_per_s", workload.connections as f64 / seconds);
        for load in &mut loads {
            load.tell(&Command::Begin)?;
            load.begun()?;
        }
        let cpu_of_all = || servers.iter().map(Running::cpu).sum::<Result<Duration>>();
        let (cpu_before, begin) = (cpu_of_all()?, Instant::now());
        let end = begin + Duration::from_secs(workload.seconds);
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            // It is time itself that is measured.
            thread::park_timeout(left);
        }
        let cpu = (cpu_of_all()? - cpu_before).as_secs_f64();
        let mut heartbeats = 0;
        for load in &mut loads {
            let published = vec![0; workload.publishers];
            load.tell(&Command::Expect { published })?;
            let received = load.complete()?;
            ensure!(received.ended == 0, "{} streams ended", received.ended);
            heartbeats += received.others;
        }
        let kernel = kernel_bytes()?.saturating_sub(kernel_before);
        let mut resident = 0;
        for server in &servers {
            resident += server.usage()?.resident_bytes;
        }
        let connections = workload.connections as f64;
        let resident = resident.saturating_sub(resident_before) as f64;
        figures.insert("resident_bytes_per_connection", resident / connections);
        figures.insert("kernel_bytes_per_connection", kernel as f64 / connections);
        figures.insert("cpu_percent", cpu / begin.elapsed().as_secs_f64() * 100.0);
        figures.insert("heartbeats_per_connection", heartbeats as f64 / connections);
        figures.insert("server_processes", instances as f64);
        Ok(figures)
    }

    fn start(&self, folder: &Path, connections: usize) -> Result<Running> {
        let mut wanted = self.workload.wanted(connections);
        if self.workload.carrier != Carrier::Plain {
            wanted.tls = Some(self.place.tls.clone());
        }
        self.target.start(folder, &wanted).context("it does not start")
    }

    /// A process of the load that has these of the subscribers, and the publishers.
    fn plan(&self, server: &Running, subscribers: Range<usize>) -> Result<Plan> {
        let workload = self.workload;
        Ok(Plan {
            subscribe_at: vec![server.subscribe_at()],
            transport: self.target.offers().transport,
            carrier: workload.carrier,
            certificate: Some(self.place.tls.certificate.clone()),
            streams: workload.streams(self.target, subscribers, None),
            streams_each: workload.streams_each,
            first_source: 1,
            connecting_max: CONNECTING_MAX.min(self.target.connecting_max()),
            connects_per_second: None,
            stalled_every: workload.stalled_every,
            data_bytes: workload.data_bytes,
            notes_ids: false,
            lanes: workload.lanes(),
            publishers: Some(self.publishers(server.publish_at(), server.is_publish_tls())?),
        })
    }

    /// Finds topic and data in a request.
    fn publishers(&self, address: SocketAddr, is_tls: bool) -> Result<Publishers> {
        let topic = topic_name(TOPIC_OF_TEMPLATE);
        let data = "d".repeat(self.workload.data_bytes);
        let template = String::from_utf8(self.target.publish(&topic, &data))?;
        let places =
            |text: &str| -> Vec<usize> { template.match_indices(text).map(|(at, _)| at).collect() };
        let (topics_at, data_at) = (places(&topic), places(&data));
        ensure!(!topics_at.is_empty() && !data_at.is_empty(), "what is published is not there");
        Ok(Publishers {
            address,
            is_tls,
            topics_at,
            data_at,
            template,
            fan_out: self.workload.read_fan_out().max(1),
        })
    }

    fn arrivals(&self, server: &Running) -> Result<Option<LoadProcess>> {
        if self.workload.arrivals == 0 {
            return Ok(None);
        }
        let plan = Plan {
            publishers: None,
            connects_per_second: self.workload.arrivals_per_second,
            first_source: 20,
            ..self.plan(server, 0..self.workload.arrivals)?
        };
        LoadProcess::start(&plan).map(Some)
    }

    fn connect(
        &self,
        server: &Running,
        load: &mut LoadProcess,
        figures: &mut Figures,
    ) -> Result<()> {
        let connections = self.workload.connections.div_ceil(self.workload.streams_each) as f64;
        let streams = self.workload.connections as f64;
        let (resident, kernel) = (server.usage()?.resident_bytes, kernel_bytes()?);
        load.tell(&Command::Connect)?;
        let connected = load.connected()?;
        let seconds = (connected.last_ns - connected.first_ns) as f64 / 1e9;
        figures.insert("connects_per_s", connections / seconds);
        insert_connected(figures, &connected.first_byte);
        let resident = server.usage()?.resident_bytes.saturating_sub(resident);
        let kernel = kernel_bytes()?.saturating_sub(kernel);
        figures.insert("resident_bytes_per_stream", resident as f64 / streams);
        figures.insert("kernel_bytes_per_stream", kernel as f64 / streams);
        Ok(())
    }

    fn phase(&self, load: &mut LoadProcess, events: u64) -> Result<Phase> {
        publish(load, self.workload.pattern, events)
    }
}

/// Publishes so many events and waits until all have come.
fn publish(load: &mut LoadProcess, pattern: Pattern, events_max: u64) -> Result<Phase> {
    load.tell(&Command::Begin)?;
    load.begun()?;
    load.tell(&Command::Publish { pattern, events_max, seconds_max: PUBLISH_SECONDS_MAX })?;
    let published = load.published()?;
    load.tell(&Command::Expect { published: published.published.clone() })?;
    Ok(Phase {
        received: load.complete()?,
        first_ns: published.first_ns,
        answered: published.answered,
        published: published.published,
    })
}

/// What came of publishing.
struct Phase {
    received: Received,
    first_ns: u64,
    answered: Sparse,
    published: Vec<u64>,
}

impl Phase {
    fn seconds(&self) -> f64 {
        self.received.last_ns.saturating_sub(self.first_ns) as f64 / 1e9
    }

    fn insert_into(&self, figures: &mut Figures, cpu_seconds: f64) {
        let received = &self.received;
        let deliveries = received.deliveries as f64;
        let (mut latency, mut answered) = (Histogram::default(), Histogram::default());
        latency.merge(&received.latency);
        answered.merge(&self.answered);
        figures.extend([
            ("cpu_us_per_delivery", cpu_seconds * 1e6 / deliveries),
            ("cpu_us_per_read", cpu_seconds * 1e6 / received.reads as f64),
            ("server_cores", cpu_seconds / self.seconds()),
            ("deliveries_per_s", deliveries / self.seconds()),
            ("p50_ms", ms(latency.quantile_ns(0.5))),
            ("p99_ms", ms(latency.quantile_ns(0.99))),
            ("max_ms", ms(latency.max_ns())),
            ("lost", received.lost as f64),
            ("publish_p50_ms", ms(answered.quantile_ns(0.5))),
            ("bytes_per_delivery", received.bytes as f64 / deliveries),
            ("deliveries_per_read", deliveries / received.reads as f64),
            ("load_cpu_us_per_delivery", received.cpu_seconds * 1e6 / deliveries),
            ("load_busy", received.cpu_seconds / self.seconds()),
        ]);
    }
}

fn insert_connected(figures: &mut Figures, first_byte: &Sparse) {
    let mut histogram = Histogram::default();
    histogram.merge(first_byte);
    figures.insert("first_byte_p50_ms", ms(histogram.quantile_ns(0.5)));
    figures.insert("first_byte_p99_ms", ms(histogram.quantile_ns(0.99)));
}

fn ms(ns: u64) -> f64 {
    ns as f64 / 1e6
}

/// What the kernel's allocator holds, in bytes: sockets of both ends among it.
fn kernel_bytes() -> Result<u64> {
    let info = fs::read_to_string("/proc/meminfo")?;
    let line = info.lines().find_map(|line| line.strip_prefix("Slab:"));
    let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    Ok(kib.context("the kernel tells")? * 1024)
}

/// Of 20,000 files that a process may have here.
const PROCESS_CONNECTIONS_MAX: usize = 19_000;

/// How many connections wait for an answer at a time.
const CONNECTING_MAX: usize = 200;

/// The same for those who come back at once. Less than any server's backlog would be too kind,
/// more than most have would measure how long the kernel waits before it tries again.
const RECONNECTING_MAX: usize = 1_000;

const TOPIC_OF_TEMPLATE: u32 = 7_654_321;

const PUBLISH_SECONDS_MAX: f64 = 300.0;
