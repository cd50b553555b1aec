//! What has come, and whether it is all that should have.

use anyhow::{Result, ensure};

use crate::event::{Event, now_ns};
use crate::histogram::Histogram;
use crate::load::frames::Lines;
use crate::plan::{Lanes, Plan, Received};

/// One subscription.
#[derive(Debug)]
pub struct StreamState {
    pub lines: Lines,
    pub place: Place,
}

/// What a subscription expects.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    first_lane: u32,
    lanes: u32,
    /// Where the numbers of its next events begin.
    next_at: usize,
    /// Whether it is read at all.
    counts: bool,
}

/// Counts and checks of all streams.
#[derive(Debug)]
pub struct Tally {
    /// The number of the next event, for each lane of each stream.
    next: Vec<u32>,
    lanes: Lanes,
    /// Of the first stream, if they are noted.
    pub ids: Vec<String>,
    /// Deliveries of all phases, and what was left out in all of them.
    pub total: u64,
    lost_total: u64,
    /// Of the streams that are read.
    places: Vec<Place>,
    /// How many events were before the first that is to come, over all of these.
    begun_at: u64,
    expected_total: Option<u64>,
    pub phase: Phase,
}

/// Counts of one phase.
#[derive(Debug)]
pub struct Phase {
    pub began_ns: u64,
    pub last_ns: u64,
    pub deliveries: u64,
    pub latency: Histogram,
    pub bytes: u64,
    pub others: u64,
    pub reads: u64,
    pub ended: u64,
    lost: u64,
}

impl Phase {
    fn begin() -> Self {
        let now = now_ns();
        Self {
            began_ns: now,
            last_ns: now,
            deliveries: 0,
            latency: Histogram::default(),
            bytes: 0,
            others: 0,
            reads: 0,
            ended: 0,
            lost: 0,
        }
    }
}

impl Tally {
    /// Nothing has come yet.
    pub fn new(plan: &Plan) -> (Self, Vec<StreamState>) {
        let mut next = Vec::new();
        let streams = plan.streams.iter().enumerate().map(|(index, stream)| {
            let (first_lane, lanes) = plan.lanes.of_topics(stream.first_topic, stream.topics);
            let next_at = next.len();
            next.resize(next_at + lanes as usize, stream.first_number);
            let connection = index / plan.streams_each;
            let counts = plan.stalled_every.is_none_or(|every| !connection.is_multiple_of(every));
            let mut lines = Lines::default();
            lines.last_id = (plan.notes_ids && index == 0).then(String::new);
            StreamState { lines, place: Place { first_lane, lanes, next_at, counts } }
        });
        let streams: Vec<_> = streams.collect();
        let places = streams.iter().map(|stream| stream.place).filter(|place| place.counts);
        let places: Vec<_> = places.collect();
        let numbers = places
            .iter()
            .flat_map(|place: &Place| &next[place.next_at..place.next_at + place.lanes as usize]);
        let begun_at = numbers.map(|number| u64::from(*number)).sum();
        let tally = Self {
            next,
            lanes: plan.lanes,
            ids: Vec::new(),
            total: 0,
            lost_total: 0,
            places,
            begun_at,
            expected_total: None,
            phase: Phase::begin(),
        };
        (tally, streams)
    }

    /// A phase begins.
    pub fn begin(&mut self) {
        self.phase = Phase::begin();
        self.expected_total = None;
    }

    /// Takes an event that came to a stream at `now`.
    ///
    /// # Errors
    ///
    /// If it is not for this stream, or has come before, or is older than one that came.
    pub fn deliver(&mut self, stream: Place, event: Event, now: u64) -> Result<()> {
        let lane = event.lane.wrapping_sub(stream.first_lane);
        ensure!(lane < stream.lanes, "an event of another topic: {event:?}");
        let next = &mut self.next[stream.next_at + lane as usize];
        ensure!(
            event.number >= *next,
            "an event twice, or out of order: {event:?}, {next} is next"
        );
        let lost = u64::from(event.number - *next);
        *next = event.number + 1;
        self.phase.lost += lost;
        self.lost_total += lost;
        self.total += 1;
        self.phase.deliveries += 1;
        self.phase.latency.add(now.saturating_sub(event.sent_ns));
        self.phase.last_ns = now;
        Ok(())
    }

    /// So many events have been published by each publisher since the start.
    pub fn expect(&mut self, published: &[u64]) {
        let totals = self.lanes.totals(published);
        let of_place = |place: &Place| -> u64 {
            let lanes = place.first_lane as usize..(place.first_lane + place.lanes) as usize;
            totals[lanes].iter().map(|total| u64::from(*total)).sum()
        };
        let all: u64 = self.places.iter().map(of_place).sum();
        self.expected_total = Some(all - self.begun_at);
    }

    /// Whether all that is expected has come or will not come any more.
    pub fn is_complete(&self) -> bool {
        self.expected_total.is_some_and(|expected| self.total + self.lost_total >= expected)
    }

    /// What came in this phase. What is expected and has not come is lost.
    pub fn received(&mut self, cpu_seconds: f64) -> Received {
        let missing = self.expected_total.unwrap_or_default();
        let missing = missing.saturating_sub(self.total + self.lost_total);
        let phase = &self.phase;
        Received {
            deliveries: phase.deliveries,
            lost: phase.lost + missing,
            latency: phase.latency.to_sparse(),
            last_ns: phase.last_ns,
            began_ns: phase.began_ns,
            bytes: phase.bytes,
            others: phase.others,
            reads: phase.reads,
            cpu_seconds,
            ended: phase.ended,
            ids: self.ids.clone(),
        }
    }
}
