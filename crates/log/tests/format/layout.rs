//! A second reader of the format, written from `docs/internals/log-format.md` alone: it reads the kept
//! logs byte by byte, so that what the document says is what stands in the files.

use std::collections::BTreeMap;
use std::hash::Hasher;

use serde_json::{Value, json};
use siphasher::sip128::{Hasher128, SipHasher13};

use crate::kept::Kept;

/// What the file `identity` says.
pub(crate) struct Identity {
    pub(crate) epoch: String,
    seed: (u64, u64),
}

/// What a segment holds.
pub(crate) struct Segment {
    salt: u64,
    base: u64,
    is_rewritten: bool,
    pub(crate) records: Vec<Record>,
    footer: Option<Footer>,
}

/// An event or, without topics, keys.
pub(crate) struct Record {
    position: u64,
    batch: u32,
    is_commit: bool,
    pub(crate) event: Value,
    key: Option<String>,
    keys: Vec<KeyRun>,
}

/// `prefix`, `number`, `offset`, `count`, `at`.
type KeyRun = (u128, u64, u64, u64, u64);

/// `delta`, `position`.
type Posting = (u32, u32);

#[derive(Default)]
struct Footer {
    next: u64,
    /// `delta`, `position`, `latest_before`.
    fences: Vec<(u32, u32, u64)>,
    /// Of each topic: its hash, and its events.
    topics: Vec<(String, u64, Vec<Posting>)>,
    keys: Vec<KeyRun>,
    finals: Vec<(u64, String)>,
    dropped: Vec<(u64, String)>,
}

/// Numbers out of bytes, one after the other.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(count);
        self.0 = rest;
        bytes
    }

    fn number(&mut self, bytes: usize) -> u128 {
        let bytes = self.bytes(bytes).iter().rev();
        bytes.fold(0, |number, &byte| number << 8 | u128::from(byte))
    }

    fn short(&mut self) -> u16 {
        self.number(2) as u16
    }

    fn int(&mut self) -> u32 {
        self.number(4) as u32
    }

    fn long(&mut self) -> u64 {
        self.number(8) as u64
    }

    fn text(&mut self, bytes: usize) -> String {
        String::from_utf8(self.bytes(bytes).to_vec()).unwrap()
    }

    /// A length in two bytes, and a text.
    fn topic(&mut self) -> String {
        let bytes = self.short().into();
        self.text(bytes)
    }

    fn key_run(&mut self) -> KeyRun {
        (self.number(16), self.long(), self.long(), self.long(), self.long())
    }

    fn until_empty<T>(mut self, mut read: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let mut all = Vec::new();
        while !self.0.is_empty() {
            all.push(read(&mut self));
        }
        all
    }
}

fn salted(salt: u64, bytes: &[u8]) -> u32 {
    crc32fast::hash(&[&salt.to_le_bytes(), bytes].concat())
}

impl Identity {
    pub(crate) fn read(bytes: &[u8]) -> Self {
        assert_eq!((bytes.len(), &bytes[..8]), (44, &b"\xF7TIDNAM\n"[..]));
        let mut fields = Fields(&bytes[8..]);
        assert_eq!(fields.int(), 1, "the version");
        let epoch = fields.text(10);
        assert_eq!(fields.bytes(2), [0, 0]);
        let seed = (fields.long(), fields.long());
        assert_eq!(fields.int(), crc32fast::hash(&bytes[..40]));
        Self { epoch, seed }
    }

    fn hash(&self, kind: u8, text: &str) -> u128 {
        let mut hasher = SipHasher13::new_with_keys(self.seed.0, self.seed.1);
        hasher.write(&[kind]);
        hasher.write(text.as_bytes());
        hasher.finish128().as_u128()
    }

    fn topic_hash(&self, topic: &str) -> u64 {
        self.hash(2, topic) as u64
    }

    /// Prefix and number of a key.
    fn key(&self, key: &str) -> (u128, u64) {
        let numbered = key.rsplit_once(':').and_then(|(prefix, digits)| {
            let number: u64 = digits.parse().ok()?;
            (number.to_string() == digits).then_some((prefix.len() + 1, number))
        });
        match numbered {
            Some((length, number)) => (self.hash(1, &key[..length]), number),
            None => (self.hash(0, key), 0),
        }
    }
}

impl Segment {
    pub(crate) fn read(name: &str, bytes: &[u8]) -> Self {
        let header = &bytes[..64];
        assert_eq!(&header[..8], b"\xF7TIDLOG\n");
        let mut fields = Fields(&header[8..]);
        assert_eq!(fields.int(), 1, "the version");
        let flags = fields.int();
        let (salt, base) = (fields.long(), fields.long());
        assert_eq!((flags & !3, name), (0, &*format!("{base:020}.log")));
        fields.bytes(16);
        assert_eq!(fields.long(), 0);
        assert_eq!(fields.int(), crc32fast::hash(&header[..56]));
        assert_eq!(fields.0, b"\n\xF7\xF7\n");
        let trailer = bytes.last_chunk::<112>().filter(|it| it.starts_with(b"\xF7TIDEND\n"));
        let data_end = trailer.map(|trailer| Fields(&trailer[32..]).long() as usize);
        let mut records = Vec::new();
        let mut position = 64;
        while position < data_end.unwrap_or(bytes.len()) {
            let Some((record, length)) = Record::read(salt, position, bytes) else { break };
            records.push(record);
            position += length;
        }
        let footer = data_end.map(|data_end| {
            assert_eq!(position, data_end);
            Footer::read(salt, base, &bytes[data_end..])
        });
        // What has no commit was not written to its end.
        let whole = records.iter().rposition(|record| record.is_commit).map_or(0, |at| at + 1);
        records.truncate(whole);
        Self { salt, base, is_rewritten: flags & 2 != 0, records, footer }
    }
}

impl Record {
    /// The record at a position and its length; `None` if there is no whole one.
    fn read(salt: u64, position: usize, bytes: &[u8]) -> Option<(Self, usize)> {
        let bytes = &bytes[position..];
        let mut head = Fields(bytes.get(..40)?);
        let (sum, head_sum) = (head.int(), head.int());
        if head_sum != salted(salt, &bytes[8..40]) {
            return None;
        }
        let body_bytes = head.int() as usize;
        let batch = head.int();
        let (offset, appended_at) = (head.long(), head.long());
        let (flags, topic_count) = (head.short(), head.short());
        let (type_bytes, key_bytes) = (head.short().into(), (head.short() ^ 0xA400).into());
        assert_eq!(flags & !0x7F, 0);
        let mut body = Fields(bytes.get(40..40 + body_bytes)?);
        if sum != salted(salt, &bytes[4..40 + body_bytes]) {
            return None;
        }
        let has = |bit: u16| flags & 1 << bit != 0;
        let retry_ms = has(4).then(|| body.long());
        let topics: Vec<String> = (0..topic_count).map(|_| body.topic()).collect();
        let event_type = body.text(type_bytes);
        let key = body.text(key_bytes);
        let (mut data, mut keys) = (String::new(), Vec::new());
        if has(6) {
            keys = body.until_empty(Fields::key_run);
        } else {
            let rest = body.0.len();
            data = body.text(rest);
        }
        let length = (40 + body_bytes) / 8 * 8 + 8;
        assert!(bytes[40 + body_bytes..length].iter().all(|&byte| byte == 0xA5));
        let event = json!({
            "offset": offset,
            "topics": topics,
            "type": has(3).then_some(event_type),
            "private": has(1),
            "final": has(2),
            "retry_ms": retry_ms,
            "data": data,
            "appended_at": appended_at,
        });
        let (position, key) = (position as u64, has(5).then_some(key));
        let record = Self { position, batch, is_commit: has(0), event, key, keys };
        Some((record, length))
    }

    pub(crate) fn offset(&self) -> u64 {
        self.event["offset"].as_u64().unwrap()
    }

    pub(crate) fn topics(&self) -> impl Iterator<Item = &str> {
        self.event["topics"].as_array().unwrap().iter().filter_map(Value::as_str)
    }

    fn is_event(&self) -> bool {
        self.topics().next().is_some()
    }
}

impl Footer {
    fn read(salt: u64, base: u64, bytes: &[u8]) -> Self {
        let trailer = &bytes[bytes.len() - 112..];
        let mut rest = Fields(&bytes[..bytes.len() - 112]);
        assert_eq!(rest.bytes(16), [&b"\xF7TIDIDX\n"[..], &salt.to_le_bytes()].concat());
        let mut fields = Fields(&trailer[8..]);
        assert_eq!((fields.long(), fields.long()), (salt, base));
        let (next, _data_end, events) = (fields.long(), fields.long(), fields.long());
        let (_first_at, _latest_at) = (fields.long(), fields.long());
        let counts = [fields.int(), fields.int(), fields.int()].map(|count| count as usize);
        let blobs = [(); 4].map(|()| (fields.int() as usize, fields.int()));
        assert_eq!(fields.int(), salted(salt, &trailer[..108]));
        assert!(fields.0.is_empty());
        let fences = section(salt, 0, 16, counts[0], &mut rest);
        let directory = section(salt, 1, 16, counts[1], &mut rest);
        let postings = section(salt, 2, 8, counts[2], &mut rest);
        let postings = Fields(&postings).until_empty(|it| (it.int(), it.int()));
        let [names, keys, finals, dropped] = blobs.map(|(length, sum)| {
            let blob = rest.bytes(length);
            assert_eq!(sum, salted(salt, blob));
            Fields(blob)
        });
        assert!(rest.0.is_empty());
        let names = names.until_empty(Fields::topic);
        let directory = Fields(&directory).until_empty(|it| (it.long(), it.int(), it.int()));
        assert_eq!(names.len(), directory.len());
        let mut first_free = 0;
        let topic = |(name, (hash, first, count)): (String, (u64, u32, u32))| {
            assert_eq!(first, first_free);
            first_free += count;
            let of_topic = &postings[first as usize..first_free as usize];
            (name, hash, of_topic.to_vec())
        };
        let topics = names.into_iter().zip(directory).map(topic).collect();
        let fences = Fields(&fences).until_empty(|it| (it.int(), it.int(), it.long()));
        let footer = Self {
            next,
            fences,
            topics,
            keys: keys.until_empty(Fields::key_run),
            finals: finals.until_empty(|it| (base + u64::from(it.int()), it.topic())),
            dropped: dropped.until_empty(|it| (it.long(), it.topic())),
        };
        assert_eq!(footer.offsets(base).len() as u64, events);
        footer
    }

    /// The offsets of all events that its topics name, and where they stand.
    fn offsets(&self, base: u64) -> BTreeMap<u64, u32> {
        let postings = self.topics.iter().flat_map(|(_, _, postings)| postings);
        postings.map(|(delta, position)| (base + u64::from(*delta), *position)).collect()
    }
}

/// The items of a section, out of its blocks.
fn section(
    salt: u64,
    number: u64,
    item_bytes: usize,
    count: usize,
    bytes: &mut Fields<'_>,
) -> Vec<u8> {
    let in_block = 4_092 / item_bytes;
    let mut items = Vec::new();
    for block in 0..count.div_ceil(in_block) {
        let count = (count - block * in_block).min(in_block);
        let length = if count == in_block { 4_092 } else { count * item_bytes };
        let payload = bytes.bytes(length);
        let place = (number << 32 | block as u64).to_le_bytes();
        assert_eq!(bytes.int(), salted(salt, &[&place, payload].concat()));
        items.extend_from_slice(&payload[..count * item_bytes]);
    }
    items
}

/// Checks that the records of a segment follow each other as they must, and that its index says of
/// them what it must.
#[track_caller]
fn check_segment(segment: &Segment, identity: &Identity) {
    let events: Vec<&Record> = segment.records.iter().filter(|it| it.is_event()).collect();
    let mut batch = 1;
    for record in &segment.records {
        assert_eq!(record.batch, batch);
        batch += u32::from(record.is_commit);
    }
    let mut next = segment.base;
    for record in &segment.records {
        let is_there =
            if segment.is_rewritten { next <= record.offset() } else { next == record.offset() };
        assert!(is_there, "{} after {next}", record.offset());
        next = record.offset() + u64::from(record.is_event());
    }
    let Some(footer) = &segment.footer else { return };
    assert!(if segment.is_rewritten { next <= footer.next } else { next == footer.next });
    let place = |record: &&Record| (record.offset(), record.position as u32);
    assert_eq!(footer.offsets(segment.base), events.iter().map(place).collect());
    let mut fences: Vec<(u32, u32, u64)> = Vec::new();
    let mut latest = 0;
    for event in &events {
        let (offset, position) = place(event);
        if fences.last().is_none_or(|fence| position >= fence.1 + 4_096) {
            fences.push(((offset - segment.base) as u32, position, latest));
        }
        latest = latest.max(event.event["appended_at"].as_u64().unwrap());
    }
    assert_eq!(footer.fences, fences);
    let hashes = footer.topics.iter().map(|(name, hash, _)| (*hash, name));
    assert!(hashes.is_sorted());
    for (name, hash, postings) in &footer.topics {
        assert_eq!(*hash, identity.topic_hash(name));
        let of_topic = events.iter().filter(|record| record.topics().any(|it| it == name));
        assert!(of_topic.map(place).eq(
            postings.iter().map(|(delta, position)| (segment.base + u64::from(*delta), *position))
        ));
    }
    let finals = events.iter().filter(|record| record.event["final"] == true);
    let finals = finals.flat_map(|it| it.topics().map(|topic| (it.offset(), topic.to_owned())));
    assert_eq!(footer.finals, finals.collect::<Vec<_>>());
}

/// Makes every sum in a file right, so that what it says is believed, and the file what its name says.
pub(crate) fn mend(name: &str, bytes: &mut [u8]) {
    let put =
        |bytes: &mut [u8], at: usize, new: &[u8]| bytes[at..at + new.len()].copy_from_slice(new);
    let Some(base) = name.strip_suffix(".log").and_then(|base| base.parse::<u64>().ok()) else {
        if bytes.len() >= 44 {
            put(bytes, 0, b"\xF7TIDNAM\n\x01\0\0\0");
            let sum = crc32fast::hash(&bytes[..40]);
            put(bytes, 40, &sum.to_le_bytes());
        }
        return;
    };
    if bytes.len() < 64 {
        return;
    }
    put(bytes, 0, b"\xF7TIDLOG\n\x01\0\0\0");
    put(bytes, 24, &base.to_le_bytes());
    let sum = crc32fast::hash(&bytes[..56]);
    put(bytes, 56, &sum.to_le_bytes());
    put(bytes, 60, b"\n\xF7\xF7\n");
    let salt = Fields(&bytes[16..]).long();
    let length = bytes.len();
    let mut position = 64;
    while position + 40 <= length {
        let body_bytes = Fields(&bytes[position + 8..]).int() as usize;
        if body_bytes > length - position - 40 {
            break;
        }
        let sum = salted(salt, &bytes[position + 8..position + 40]);
        put(bytes, position + 4, &sum.to_le_bytes());
        let sum = salted(salt, &bytes[position + 4..position + 40 + body_bytes]);
        put(bytes, position, &sum.to_le_bytes());
        position += (40 + body_bytes) / 8 * 8 + 8;
        if bytes[position.min(length)..].starts_with(b"\xF7TIDIDX\n") {
            break;
        }
    }
    if length >= 64 + 16 + 112 && bytes[length - 112..].starts_with(b"\xF7TIDEND\n") {
        mend_index(salt, base, bytes);
    }
}

fn mend_index(salt: u64, base: u64, bytes: &mut [u8]) {
    let trailer = bytes.len() - 112;
    let (index, end) = bytes.split_at_mut(trailer);
    end[8..16].copy_from_slice(&salt.to_le_bytes());
    end[16..24].copy_from_slice(&base.to_le_bytes());
    let mut fields = Fields(&end[32..]);
    let mut position = (fields.long() as usize).saturating_add(16);
    fields.bytes(24);
    let counts = [fields.int(), fields.int(), fields.int()].map(|count| count as usize);
    for (number, count) in counts.into_iter().enumerate() {
        let item_bytes = if number == 2 { 8 } else { 16 };
        let in_block = 4_092 / item_bytes;
        for block in 0..count.div_ceil(in_block).min(index.len()) {
            let count = (count - block * in_block).min(in_block);
            let length = if count == in_block { 4_092 } else { count * item_bytes };
            let place = ((number as u64) << 32 | block as u64).to_le_bytes();
            let after = position.saturating_add(length);
            let Some(payload) = index.get(position..after) else { return };
            let sum = salted(salt, &[&place, payload].concat()).to_le_bytes();
            let Some(place) = index.get_mut(after..after + 4) else { return };
            place.copy_from_slice(&sum);
            position = after + 4;
        }
    }
    for blob in 0..4 {
        let length = Fields(&end[76 + 8 * blob..]).int() as usize;
        let Some(bytes) = index.get(position..position.saturating_add(length)) else { return };
        end[80 + 8 * blob..][..4].copy_from_slice(&salted(salt, bytes).to_le_bytes());
        position += length;
    }
    let sum = salted(salt, &end[..108]);
    end[108..].copy_from_slice(&sum.to_le_bytes());
}

#[test]
fn the_kept_logs_are_laid_out_as_the_document_says() {
    for kept in Kept::all() {
        let files = kept.files();
        let (segments, others) = files.split_at(files.len() - 1);
        let identity = Identity::read(&others[0].1);
        assert_eq!(kept.expected["epoch"], identity.epoch);
        let read = |(name, bytes): &(String, Vec<u8>)| Segment::read(name, bytes);
        let segments: Vec<Segment> = segments.iter().map(read).collect();
        segments.iter().for_each(|segment| check_segment(segment, &identity));
        let salts: Vec<u64> = segments.iter().map(|segment| segment.salt).collect();
        assert!(salts.windows(2).all(|two| two[0] != two[1]));

        let records = || segments.iter().flat_map(|segment| &segment.records);
        let found: BTreeMap<u64, &Value> =
            records().filter(|it| it.is_event()).map(|it| (it.offset(), &it.event)).collect();
        for event in kept.expected["events"].as_array().unwrap() {
            assert_eq!(found.get(&event["offset"].as_u64().unwrap()), Some(&event));
        }
        let next = kept.expected["next"].as_u64().unwrap();
        assert_eq!(found.keys().next_back(), Some(&(next - 1)));
        check_memories(&kept, &segments, &identity);
    }
}

/// Checks what the files say of keys and of what rules dropped.
#[track_caller]
fn check_memories(kept: &Kept, segments: &[Segment], identity: &Identity) {
    let footers = || segments.iter().filter_map(|segment| segment.footer.as_ref());
    // The keys of a segment that has no index stand in its records.
    let mut runs: Vec<KeyRun> = footers().flat_map(|footer| footer.keys.clone()).collect();
    for record in segments.iter().filter(|it| it.footer.is_none()).flat_map(|it| &it.records) {
        runs.extend(&record.keys);
        if let Some(key) = &record.key {
            let (prefix, number) = identity.key(key);
            runs.push((prefix, number, record.offset(), 1, 0));
        }
    }
    for (key, offset) in kept.expected["keys"].as_object().unwrap() {
        let (prefix, number) = identity.key(key);
        let place = |run: &KeyRun| number.checked_sub(run.1).filter(|place| *place < run.3);
        let mut runs = runs.iter().filter(|run| run.0 == prefix);
        let found = runs.find_map(|run| place(run).map(|place| run.2 + place));
        assert_eq!(found, offset.as_u64(), "{key}");
    }
    for (offset, topic) in footers().flat_map(|footer| &footer.dropped) {
        let highest = kept.expected["dropped"][topic].as_u64();
        assert!(highest >= Some(*offset), "{topic}");
    }
    assert!(footers().any(|footer| !footer.dropped.is_empty()));
    assert!(segments.iter().flat_map(|it| &it.records).any(|it| !it.keys.is_empty()));
}
