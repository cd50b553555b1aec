//! Events that leave together, as the bytes that leave.
//!
//! All subscribers of equal interests that are live get the same batch, so its bytes are put
//! together once, and each socket is written with one call.

use std::sync::Arc;

use tidings_core::Batch;

use crate::delivery::{Delivery, Encoded};

/// The batch that is being written, in runs of bounded size.
#[derive(Default)]
pub(crate) struct Joined {
    batch: Option<Arc<Batch<Delivery>>>,
    runs: Vec<Bounds>,
    /// The bytes of all runs of more than one event.
    bytes: Vec<u8>,
    /// Where each event ends within its run.
    ends: Vec<usize>,
}

/// Which events a run has, and where its bytes are.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    first: usize,
    count: usize,
    bytes_from: usize,
}

/// Events that follow each other, and their chunks.
pub(crate) struct Run<'a> {
    entries: &'a [Arc<Encoded>],
    bytes: &'a [u8],
    ends: &'a [usize],
}

impl Joined {
    /// Makes ready the bytes of a batch, unless they are.
    pub(crate) fn prepare(&mut self, batch: &Arc<Batch<Delivery>>) {
        if self.batch.as_ref().is_some_and(|known| Arc::ptr_eq(known, batch)) {
            return;
        }
        self.clear();
        self.batch = Some(Arc::clone(batch));
        let entries = &batch.entries;
        let mut first = 0;
        while first < entries.len() {
            let bytes_from = self.bytes.len();
            let mut run_bytes = 0;
            let mut end = first;
            while let Some(entry) = entries.get(end)
                && (end == first || run_bytes + chunk(entry).len() <= RUN_BYTES_MAX)
            {
                run_bytes += chunk(entry).len();
                self.ends.push(run_bytes);
                end += 1;
            }
            if end - first > 1 {
                entries[first..end].iter().for_each(|it| self.bytes.extend_from_slice(chunk(it)));
            }
            self.runs.push(Bounds { first, count: end - first, bytes_from });
            first = end;
        }
    }

    /// Lets go of the batch, and of memory that a large one has needed.
    pub(crate) fn clear(&mut self) {
        self.batch = None;
        self.runs.clear();
        self.ends.clear();
        self.bytes.clear();
        self.bytes.shrink_to(RUN_BYTES_MAX);
    }

    /// The runs of the batch that was prepared last.
    pub(crate) fn runs(&self) -> impl Iterator<Item = Run<'_>> {
        let entries = self.batch.as_ref().map_or(&[][..], |batch| &batch.entries);
        self.runs.iter().map(move |&Bounds { first, count, bytes_from }| {
            let entries = &entries[first..first + count];
            let ends = &self.ends[first..first + count];
            let bytes = match entries {
                [only] => chunk(only),
                _ => &self.bytes[bytes_from..bytes_from + ends[count - 1]],
            };
            Run { entries, bytes, ends }
        })
    }
}

impl Run<'_> {
    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes
    }

    /// How many events are whole in the first so many bytes, and, if one more was begun, how many of
    /// its bytes are among them.
    pub(crate) fn whole_in(&self, bytes: usize) -> (usize, Option<usize>) {
        if bytes == self.bytes.len() {
            return (self.ends.len(), None);
        }
        let whole = self.ends.partition_point(|&end| end <= bytes);
        let begin = whole.checked_sub(1).map_or(0, |last| self.ends[last]);
        (whole, (bytes > begin).then(|| bytes - begin))
    }

    pub(crate) fn event(&self, place: usize) -> Arc<Encoded> {
        Arc::clone(&self.entries[place])
    }
}

fn chunk(entry: &Encoded) -> &[u8] {
    entry.payload.frame.chunk_bytes()
}

/// Bounds what is put together: about what a socket takes at once.
const RUN_BYTES_MAX: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use tidings_core::Topic;
    use tidings_sse::{EventFields, Frame};

    use super::*;

    fn batch(sizes: &[usize]) -> Arc<Batch<Delivery>> {
        let topics: Arc<[Topic]> = [Topic::parse("a").unwrap()].into();
        let entry = |(place, &size): (usize, &usize)| {
            let data = "x".repeat(size);
            let frame = Frame::encode(&EventFields { data: &data, ..Default::default() }).unwrap();
            Arc::new(Encoded {
                offset: place as u64 + 1,
                topics: topics.clone(),
                event_type: None,
                private: false,
                is_final: false,
                payload: Delivery { frame, published_micros: 0, held: None },
            })
        };
        let entries: Vec<_> = sizes.iter().enumerate().map(entry).collect();
        Arc::new(Batch { next: entries.len() as u64 + 1, entries })
    }

    #[test]
    fn runs_hold_all_chunks_in_order_and_are_bounded() {
        for sizes in
            [&[1][..], &[5, 6, 7], &[30_000; 9], &[200_000, 1, 200_000, 1, 1], &[70_000; 3]]
        {
            let batch = batch(sizes);
            let mut joined = Joined::default();
            joined.prepare(&batch);
            let bytes: Vec<u8> = joined.runs().flat_map(|run| run.bytes().to_vec()).collect();
            let expected: Vec<u8> =
                batch.entries.iter().flat_map(|entry| chunk(entry).to_vec()).collect();
            assert!(bytes == expected, "{sizes:?}");
            assert!(
                joined.runs().all(|run| run.ends.len() == 1 || run.bytes.len() <= RUN_BYTES_MAX)
            );
        }
    }

    #[test]
    fn a_run_tells_which_events_are_whole() {
        let batch = batch(&[1, 20, 1]);
        let mut joined = Joined::default();
        joined.prepare(&batch);
        let run = joined.runs().next().unwrap();
        let [first, second, third] = [0, 1, 2].map(|place| chunk(&batch.entries[place]).len());
        assert_eq!(run.whole_in(0), (0, None));
        assert_eq!(run.whole_in(3), (0, Some(3)));
        assert_eq!(run.whole_in(first), (1, None));
        assert_eq!(run.whole_in(first + 2), (1, Some(2)));
        assert_eq!(run.whole_in(first + second), (2, None));
        assert_eq!(run.whole_in(first + second + third), (3, None));
    }
}
