use super::*;

fn open(directory: &Path, options: DiskLogOptions) -> DiskLog {
    DiskLog::open(directory, options).unwrap()
}

#[test]
fn the_disk_log_conforms() {
    for segment_bytes in [Some(8 << 10), None] {
        let directories = tempfile::tempdir().unwrap();
        let mut count = 0;
        let count = std::cell::RefCell::new(&mut count);
        crate::conformance::check(|retention, keys| {
            **count.borrow_mut() += 1;
            let directory = directories.path().join(count.borrow().to_string());
            let durability = Durability::Os;
            let options = DiskLogOptions { retention, keys, durability, segment_bytes };
            Box::new(open(&directory, options))
        });
    }
}

mod faults;
