use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Instant;

use tidings_core::{Epoch, Interest, Position, Rights, Selector, Topic};
use tidings_log::{MemoryLog, Offsets, Record};

use crate::mailbox::Command;
use crate::{Delivered, EndReason, Hub, HubOptions, Published, SubscribeError};

#[test]
fn ids_keep_the_life_of_the_log_that_gave_them_out() {
    let (old, new) = (Epoch::from_random(1), Epoch::from_random(2));
    let mut published = Published::default();
    assert_eq!((published.count(), published.last()), (0, None));
    published.extend(Published::new(old, Offsets::new(7, 2)));
    published.extend(Published::new(old, Offsets::new(9, 1)));
    published.extend(Published::new(old, Offsets::default()));
    published.extend(Published::new(new, Offsets::new(1, 1)));
    let expected = [(old, 7), (old, 8), (old, 9), (new, 1)];
    let expected = expected.map(|(epoch, offset)| Position { epoch, offset });
    assert_eq!(published.ids().collect::<Vec<_>>(), expected);
    assert_eq!((published.last(), published.run_count()), (expected.last().copied(), 2));
    assert_eq!(published.into_ids().collect::<Vec<_>>(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_that_fails_ends_its_streams_and_the_others_go_on() {
    let log = MemoryLog::new(crate::random_epoch().unwrap(), Default::default());
    let options = HubOptions { shards: 2, ..Default::default() };
    let hub = Hub::start(options, Arc::new(log)).unwrap();
    let interest = || Interest::new(vec![Selector::All], vec![], Rights::everything());
    let serve = || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, _) = listener.accept().unwrap();
        socket.set_nonblocking(true).unwrap();
        hub.admit(interest(), Default::default()).map(|admission| {
            admission.serve(socket, None);
            BufReader::new(client)
        })
    };
    // They take turns: each shard has one of both kinds.
    let (mut first, mut second) = (serve().unwrap(), serve().unwrap());
    let mut pulled = [(); 2].map(|()| hub.subscribe(interest(), Default::default()).unwrap());
    hub.shared.shards.mailboxes[0].send(Command::Fail);

    let mut rest = String::new();
    first.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "0\r\n\r\n");
    assert_eq!(pulled[0].next().await, None);
    let begin = Instant::now();
    while !hub.has_failed() {
        assert!(begin.elapsed().as_secs() < 60, "it was not noted");
        std::thread::yield_now();
    }
    drop(pulled[0].next().await);
    let mut third = serve().unwrap();
    let topic = Topic::parse("a").unwrap();
    hub.publish(vec![Record::new([topic], "goes on")]).await.unwrap();
    for stream in [&mut second, &mut third] {
        let mut data = String::new();
        while !data.starts_with("data: ") {
            data.clear();
            stream.read_line(&mut data).unwrap();
        }
        assert_eq!(data, "data: goes on\n");
    }
    let Some(Delivered::Event(event)) = pulled[1].next().await else { panic!("no event") };
    assert_eq!(event.data, "goes on");
    assert_eq!(hub.figures().ended[EndReason::Failed as usize].1, 1);

    hub.shared.shards.mailboxes[1].send(Command::Fail);
    second.read_to_string(&mut rest).unwrap();
    assert!(rest.ends_with("0\r\n\r\n"));
    while hub.shared.next_mailbox().is_some() {
        std::thread::yield_now();
    }
    assert_eq!(serve().err(), Some(SubscribeError::ShuttingDown));
}
