//! Bodies of one event a line, as they come.

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::hub::Hub;
use crate::stream::Stream;

#[tokio::test]
async fn lines_of_a_body_that_trickles_are_published_as_they_come() {
    let hub = Hub::start(&[]);
    let mut stream = Stream::open(hub.address, "topic=a", "").await;
    let mut publisher = TcpStream::connect(hub.address).await.unwrap();
    let head = "POST /events HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-ndjson\r\n\
                transfer-encoding: chunked\r\n\r\n";
    publisher.write_all(head.as_bytes()).await.unwrap();
    for number in 0..5 {
        // The line end comes with the next line; the last one has none.
        let line =
            format!("{}{{\"topic\":\"a\",\"data\":{number}}}", if number == 0 { "" } else { "\n" });
        let chunk = format!("{:x}\r\n{line}\r\n", line.len());
        publisher.write_all(chunk.as_bytes()).await.unwrap();
        if number > 0 {
            assert_eq!(stream.next().await.unwrap().data, (number - 1).to_string());
        }
    }
    publisher.write_all(b"0\r\n\r\n").await.unwrap();
    assert_eq!(stream.next().await.unwrap().data, "4");
}

#[test]
fn a_body_of_known_length_is_published_as_a_whole_and_answered_in_order() {
    let hub = Hub::start(&[]);
    let body: String = (0..5_000).map(|number| format!("{{\"topic\":\"t{number}\"}}\n")).collect();
    let answer = hub.post("application/x-ndjson", body.as_bytes());
    let answer: serde_json::Value = serde_json::from_str(answer.body()).unwrap();
    let ids = answer["ids"].as_array().unwrap();
    let offset = |id: &serde_json::Value| {
        id.as_str().unwrap().rsplit('-').next().unwrap().parse::<u64>().unwrap()
    };
    assert_eq!(ids.iter().map(offset).collect::<Vec<_>>(), (1..=5_000).collect::<Vec<_>>());

    let broken = format!("{body}{{\"topic\":\"t\"}}\n{{\"topic\":7}}\n");
    assert_eq!(hub.post("application/x-ndjson", broken.as_bytes()).status, 400);
    assert_eq!(hub.metric("tidings_events_published_total"), 5_000, "nothing is half-published");
}
