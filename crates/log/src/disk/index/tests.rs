use super::*;
use crate::disk::files::tests::MemoryFile;

const SEED: HashSeed = HashSeed(3, 4);

fn topic(number: usize) -> Topic {
    Topic::parse(&format!("topic/{number}")).unwrap()
}

/// An index of `events` events over `topics` topics, every third under a second topic, and its
/// footer in a file.
fn both(events: u32, topics: usize) -> (OpenIndex, Footer, MemoryFile) {
    let mut index = OpenIndex::default();
    for number in 0..events {
        // Some offsets are missing, as in a segment that was written anew.
        let delta = number * 2 + number / 7;
        let posting = Posting { delta, position: 64 + number * 200 };
        let one = topic(number as usize % topics);
        let both = [one.clone(), topic(topics + number as usize % 5)];
        let under = if number % 3 == 0 { &both[..] } else { &both[..1] };
        index.add(posting, u64::from(number / 10), under, number % 100 == 99);
        if number % 4 == 0 {
            index.add_key(KeyId { prefix: 9, number: delta.into() }, 100 + u64::from(delta), 5);
        }
    }
    index.add_dropped(topic(1), 7);
    let data_end = 64 + u64::from(events) * 200;
    let frame = Frame { salt: 77, base: 100, next: 100 + u64::from(events) * 3, data_end };
    let mut bytes = vec![1; data_end as usize];
    index.write_footer(frame, SEED, &mut bytes);
    let file = MemoryFile::new(bytes);
    let footer = Footer::read(&file, "file", 77).unwrap().unwrap();
    assert_eq!((footer.frame(), footer.events()), (frame, u64::from(events)));
    (index, footer, file)
}

#[test]
fn a_footer_answers_as_the_index_it_was_written_from() {
    for (events, topics) in [(0, 1), (1, 1), (2_000, 1), (2_000, 3), (2_000, 700), (1_500, 1_500)] {
        let (index, footer, file) = both(events, topics);
        for at in [0, 1, 2, 3, 50, 999, 2_000, 4_285, 9_999] {
            assert_eq!(footer.fence_at(&file, at).unwrap(), index.fence_at(at));
            let since = u64::from(at);
            assert_eq!(footer.fence_since(&file, since).unwrap(), index.fence_since(since));
            for number in [0, 1, topics / 2, topics - 1, topics, topics + 4, topics + 9] {
                let (topic, max) = (topic(number), 1 + at as usize % 600);
                let hash = SEED.topic_hash(&topic);
                let range = at..at + 1_000;
                assert_eq!(
                    footer.postings(&file, hash, range.clone(), max).unwrap(),
                    index.postings(&topic, range, max)
                );
                assert_eq!(
                    footer.postings_below(&file, hash, at, max).unwrap(),
                    index.postings_below(&topic, at, max)
                );
                let all = index.postings(&topic, at..u32::MAX, usize::MAX).found.len();
                assert_eq!(footer.count_from(&file, hash, at).unwrap(), all as u64);
            }
        }
        let mut topics = footer.topics(&file).unwrap();
        let mut expected: Vec<_> =
            index.topics.iter().map(|(topic, all)| (topic.clone(), all.len() as u64)).collect();
        topics.sort();
        expected.sort();
        assert_eq!(topics, expected);
        let remembered = footer.remembered(&file).unwrap();
        assert_eq!(remembered.keys, index.keys);
        assert_eq!(remembered.dropped, [(topic(1), 7)]);
        assert_eq!(remembered.finals.len(), index.finals.len());
    }
}

#[test]
fn a_footer_of_another_segment_is_none() {
    let (_, _, file) = both(10, 2);
    assert!(Footer::read(&file, "file", 78).unwrap().is_none());
    let short = MemoryFile::new(vec![0; 50]);
    assert!(Footer::read(&short, "file", 77).unwrap().is_none());
}

#[test]
fn a_damaged_block_is_told_not_believed() {
    let (_, footer, file) = both(2_000, 700);
    let start = footer.frame().data_end as usize + MARKER_BYTES;
    let end = footer.trailer.blob_start(0) as usize;
    let hash = SEED.topic_hash(&topic(650));
    for at in (start..end).step_by(BLOCK_BYTES) {
        let mut bytes = file.bytes();
        bytes[at + 5] ^= 4;
        let damaged = MemoryFile::new(bytes);
        let answers = [
            footer.postings(&damaged, hash, 0..u32::MAX, 9).err(),
            footer.fence_at(&damaged, 700).err(),
            (0..700)
                .map(|number| SEED.topic_hash(&topic(number)))
                .find_map(|hash| footer.postings(&damaged, hash, 0..u32::MAX, 9_999).err()),
            (0..9_999).find_map(|delta| footer.fence_at(&damaged, delta).err()),
        ];
        assert!(answers.into_iter().flatten().next().is_some(), "byte {at}");
    }
}
