//! Reading: the statements, and entries from their rows.

use std::sync::Arc;

use bytestring::ByteString;
use tidings_core::{Bounds, Entry, EventType, Topic};
use tidings_log::Body;
use tidings_log::shared::{EngineError, Fetched, Life, StepLimit, Wish};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::columns::{FLAG_FINAL, FLAG_PRIVATE, parsed};
use crate::fault::Fault;
use crate::session::Session;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Forward,
    Backward,
}

/// Reads one step.
pub(crate) async fn read(
    session: &Session,
    log: i16,
    life: &Life,
    wish: &Wish<'_>,
    direction: Direction,
) -> Result<Fetched, Fault> {
    let of_log = OfLog { session, log, epoch: life.epoch.to_string(), limit: wish.limit };
    match wish.topics {
        Some(topics) if !topics.is_empty() && topics.len() <= TOPICS_MAX => {
            of_log.find(wish, topics, direction).await
        }
        _ => of_log.part(wish.from, wish.until, None, direction).await,
    }
}

/// What all parts of a step have in common.
struct OfLog<'a> {
    session: &'a Session,
    log: i16,
    epoch: String,
    limit: StepLimit,
}

impl OfLog<'_> {
    /// Looks for entries under some topics, by more and more runs of offsets until there are some.
    async fn find(
        &self,
        wish: &Wish<'_>,
        topics: &[Topic],
        direction: Direction,
    ) -> Result<Fetched, Fault> {
        let names: Vec<&str> = topics.iter().map(Topic::as_str).collect();
        let bounds = bounds_in(self.session, self.log, &self.epoch).await?;
        let (mut from, mut until) = (wish.from.max(bounds.oldest), wish.until.min(bounds.next));
        let runs_max = (KEYS_MAX / names.len() as u64).clamp(1, RUNS_MAX);
        let mut runs = FIRST_RUNS;
        while from < until {
            let (low, high) = match direction {
                Direction::Forward => (from, until.min(((from >> RUN_BITS) + runs) << RUN_BITS)),
                Direction::Backward => {
                    let run = ((until - 1) >> RUN_BITS).saturating_sub(runs - 1);
                    (from.max(run << RUN_BITS), until)
                }
            };
            let fetched = self.part(low, high, Some(&names), direction).await?;
            match direction {
                Direction::Forward => from = fetched.end,
                Direction::Backward => until = fetched.end,
            }
            if !fetched.entries.is_empty() {
                return Ok(fetched);
            }
            runs = (runs * 8).min(runs_max);
        }
        let end = end_of(direction, None, wish.from, wish.until, bounds);
        Ok(Fetched { entries: Vec::new(), end, bounds })
    }

    async fn part(
        &self,
        from: u64,
        until: u64,
        names: Option<&Vec<&str>>,
        direction: Direction,
    ) -> Result<Fetched, Fault> {
        let events_max = self.limit.events_max.clamp(1, EVENTS_MAX);
        let bytes_max = self.limit.bytes_max.min(BYTES_MAX) as i64;
        let rows_max = events_max as i64;
        let (low, high) = (signed(from), signed(until));
        let mut parameters: Vec<&(dyn ToSql + Sync)> =
            vec![&self.log, &self.epoch, &low, &high, &rows_max, &bytes_max];
        let sql = match (direction, names) {
            (Direction::Forward, None) => FORWARD,
            (Direction::Backward, None) => BACKWARD,
            (Direction::Forward, Some(_)) => FORWARD_TOPICS,
            (Direction::Backward, Some(_)) => BACKWARD_TOPICS,
        };
        if let Some(names) = names {
            parameters.push(names);
        }
        let statement = self.session.prepared(sql).await?;
        let rows = self.session.client.query(&statement, &parameters).await?;
        let bounds = bounds_of(rows.first())?;
        let mut entries = Vec::with_capacity(rows.len());
        for row in &rows {
            entries.extend(entry_of(row)?);
        }
        let cut = match (entries.last(), rows.last()) {
            (Some(last), Some(row)) => {
                let is_cut = row.try_get::<_, i64>("last")? as u64 != last.offset
                    || row.try_get::<_, i64>("found")? as usize >= events_max;
                is_cut.then_some(last.offset)
            }
            _ => None,
        };
        let end = end_of(direction, cut, from, until, bounds);
        Ok(Fetched { entries, end, bounds })
    }
}

/// Up to where all was looked at, if it ended at an entry early.
fn end_of(direction: Direction, cut: Option<u64>, from: u64, until: u64, bounds: Bounds) -> u64 {
    match (direction, cut) {
        (Direction::Forward, Some(last)) => last + 1,
        (Direction::Forward, None) => until.min(bounds.next).max(from),
        (Direction::Backward, Some(last)) => last,
        (Direction::Backward, None) => from,
    }
}

/// What can be read now.
pub(crate) async fn bounds(session: &Session, log: i16, life: &Life) -> Result<Bounds, Fault> {
    bounds_in(session, log, &life.epoch.to_string()).await
}

async fn bounds_in(session: &Session, log: i16, epoch: &String) -> Result<Bounds, Fault> {
    let statement = session.prepared(BOUNDS).await?;
    bounds_of(session.client.query_opt(&statement, &[&log, epoch]).await?.as_ref())
}

fn bounds_of(row: Option<&Row>) -> Result<Bounds, Fault> {
    let row = row.ok_or(Fault::Engine(EngineError::OtherLife))?;
    if !row.try_get::<_, bool>("is_same")? {
        return Err(Fault::Engine(EngineError::OtherLife));
    }
    let (oldest, next): (i64, i64) = (row.try_get("oldest")?, row.try_get("next")?);
    Ok(Bounds { oldest: oldest as u64, next: next as u64 })
}

fn entry_of(row: &Row) -> Result<Option<Entry<Body>>, Fault> {
    let Some(offset) = row.try_get::<_, Option<i64>>("offset")? else { return Ok(None) };
    let damaged = |words: &str| {
        Fault::Engine(EngineError::Damaged(format!("the event at offset {offset} {words}")))
    };
    let first = parsed(row.try_get("topic")?)?;
    let topics: Arc<[Topic]> = match row.try_get::<_, Option<Vec<&str>>>("more_topics")? {
        None => Arc::new([first]),
        Some(more) => {
            let more = more.into_iter().map(parsed);
            std::iter::once(Ok(first)).chain(more).collect::<Result<_, _>>()?
        }
    };
    let event_type: Option<&str> = row.try_get("event_type")?;
    let event_type = event_type
        .map(EventType::parse)
        .transpose()
        .map_err(|error| damaged(&format!("has no valid type: {error}")))?;
    let flags: i16 = row.try_get("flags")?;
    let data: &[u8] = row.try_get("data")?;
    let data = ByteString::try_from(data).map_err(|_| damaged("is not UTF-8"))?;
    let payload = Body {
        data,
        retry_ms: row.try_get::<_, Option<i64>>("retry_ms")?.map(|ms| ms as u64),
        appended_at: row.try_get::<_, i64>("appended_at")? as u64,
    };
    Ok(Some(Entry {
        offset: offset as u64,
        topics,
        event_type,
        private: flags & FLAG_PRIVATE != 0,
        is_final: flags & FLAG_FINAL != 0,
        payload,
    }))
}

pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Bounds and entries by one snapshot. Of the wanted rows those are given that fit into the bytes, `last` and `found` tell
/// of all of them.
macro_rules! step {
    ($wanted:expr, $order:literal) => {
        concat!(
            r#"
            select l.epoch = $2 as is_same, k.oldest, h.next, e."offset", e.appended_at, e.retry_ms, e.flags,
                e.topic, e.more_topics, e.event_type, e.data, e.last, e.found
            from tidings.logs l
            join tidings.kept k on k.log = l.id
            cross join lateral tidings.head(l.id) h
            left join lateral (
                select *
                from (
                    select w.*, count(*) over () as found,
                        first_value("offset") over (order by "offset" "#, $order, r#") as first,
                        last_value("offset") over (
                            order by "offset" "#, $order, r#"
                            rows between unbounded preceding and unbounded following
                        ) as last,
                        sum(size) over (order by "offset" "#, $order, r#") as upto
                    from ("#, $wanted, r#") w
                ) b
                where b."offset" = b.first or b.upto <= $6
            ) e on true
            where l.id = $1
            order by e."offset" "#, $order
        )
    };
}

macro_rules! any_topic {
    ($order:literal) => {
        concat!(
            r#"
            select e.* from tidings.events e
            where e.log = $1 and e."offset" >= $3 and e."offset" < $4
            order by e."offset" "#,
            $order,
            " limit $5"
        )
    };
}

/// By the index of topics: what is added to columns keeps other indexes out of it.
macro_rules! some_topics {
    ($order:literal) => {
        concat!(
            r#"
            select e.* from tidings.events e
            where tidings.keys_of(e.log, e."offset", e.topic, e.more_topics) && (
                    select array_agg(tidings.topic_key($1, t.topic, r.run))
                    from unnest($7::text[]) t (topic), generate_series($3::bigint >> 14, ($4::bigint - 1) >> 14) r (run)
                )
                and e.log + 0 = $1 and e."offset" + 0 >= $3 and e."offset" + 0 < $4
                and (e.topic = any ($7::text[]) or e.more_topics && $7::text[])
            order by e."offset" "#, $order, " limit $5"
        )
    };
}

const FORWARD: &str = step!(any_topic!(""), "");
const FORWARD_TOPICS: &str = step!(some_topics!(""), "");
const BACKWARD: &str = step!(any_topic!("desc"), "desc");
const BACKWARD_TOPICS: &str = step!(some_topics!("desc"), "desc");
const BOUNDS: &str = "
    select l.epoch = $2 as is_same, k.oldest, h.next
    from tidings.logs l join tidings.kept k on k.log = l.id cross join lateral tidings.head(l.id) h
    where l.id = $1";

/// As in `tidings.keys_of`.
const RUN_BITS: u32 = 14;
/// The key of a run comes again after so many.
const RUNS_MAX: u64 = 256;
const FIRST_RUNS: u64 = 2;
/// Keys to look for at once.
const KEYS_MAX: u64 = 1_024;
/// With more topics than these everything is read: it costs less than so many searches.
const TOPICS_MAX: usize = 64;
const EVENTS_MAX: usize = 4_096;
const BYTES_MAX: usize = 16 << 20;
