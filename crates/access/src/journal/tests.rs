use super::*;

fn open(folder: &Path) -> Result<(Journal, Vec<u32>), AccessError> {
    Journal::open(folder, "numbers.jsonl")
}

fn reopened(folder: &Path) -> Vec<u32> {
    open(folder).unwrap().1
}

#[test]
fn what_was_appended_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let folder = &folder.path().join("new").join("folder");
    let (mut journal, read) = open(folder).unwrap();
    assert!(read.is_empty());
    journal.append(&[1, 2]).unwrap();
    journal.append(&[3]).unwrap();
    assert_eq!((journal.line_count(), reopened(folder)), (3, vec![1, 2, 3]));
    journal.rewrite(&[4]).unwrap();
    journal.append(&[5]).unwrap();
    assert_eq!((journal.line_count(), reopened(folder)), (2, vec![4, 5]));
}

#[test]
fn a_line_that_was_cut_short_is_as_if_it_had_never_been() {
    let folder = tempfile::tempdir().unwrap();
    let whole = b"10\n200\n3000\n";
    for cut in 0..=whole.len() {
        fs::write(folder.path().join("numbers.jsonl"), &whole[..cut]).unwrap();
        let (mut journal, read) = open(folder.path()).unwrap();
        let lines = whole[..cut].iter().filter(|byte| **byte == b'\n').count();
        assert_eq!(read, [10, 200, 3000][..lines]);
        journal.append(&[7]).unwrap();
        assert_eq!(reopened(folder.path()), [&read[..], &[7]].concat(), "cut at {cut}");
    }
}

#[test]
fn room_that_was_never_written_is_as_if_it_had_never_been() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("numbers.jsonl"), b"1\n\0\0\0\0").unwrap();
    assert_eq!(reopened(folder.path()), [1]);
}

#[test]
fn damage_is_refused_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let check = |text: &[u8], damaged_line: usize| {
        fs::write(folder.path().join("numbers.jsonl"), text).unwrap();
        let error = open(folder.path()).unwrap_err();
        let AccessError::Damaged { line, .. } = &error else { panic!("{error}") };
        assert_eq!(*line, damaged_line);
        assert!(error.to_string().contains("move it away"), "{error}");
    };
    check(b"1\nx\n3\n", 2);
    check(b"1\n2\n\n", 3);
    check(b"\0\0\n2\n", 1);
    check(b"-1\n", 1);
    check(b"{}\n", 1);
}

#[test]
fn a_rewrite_that_a_crash_cut_short_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(folder.path()).unwrap();
    journal.append(&[1, 2]).unwrap();
    fs::write(folder.path().join("numbers.new"), b"1\n").unwrap();
    assert_eq!(reopened(folder.path()), [1, 2]);
    journal.rewrite(&[9]).unwrap();
    assert_eq!(reopened(folder.path()), [9]);
}

#[cfg(unix)]
#[test]
fn others_cannot_read_it() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(folder.path()).unwrap();
    let mode = || fs::metadata(journal_path(folder.path())).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(), 0o600);
    journal.rewrite(&[1]).unwrap();
    assert_eq!(mode(), 0o600);
}

#[cfg(unix)]
fn journal_path(folder: &Path) -> PathBuf {
    folder.join("numbers.jsonl")
}
