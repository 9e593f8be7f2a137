//! What comes of answers: those of real agents, and of whatever else listens there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;

use super::report;
use super::sockets::{BOTH, CLUSTER, Lab, member};
use crate::model::document::Versioned;
use crate::model::peer::{Peer, PeerReport, PeerTroubleKind};
use crate::observe::{KnownAddresses, PeerAnswer};
use crate::peer::answer::{Asked, MAX_BYTES, read};
use crate::peer::client::{self, Tracks};

use PeerTroubleKind as Kind;

const ASKED: Asked = Asked { cluster: CLUSTER, member: 2 };

fn document(report: &PeerReport) -> serde_json::Value {
    serde_json::to_value(Versioned::from(report)).unwrap()
}

fn answer(body: impl Into<Vec<u8>>) -> PeerAnswer {
    PeerAnswer { status: 200, body: body.into(), certificate: None }
}

fn kind(body: impl Into<Vec<u8>>) -> Option<PeerTroubleKind> {
    read(&answer(body), ASKED).err().map(|trouble| trouble.kind)
}

#[test]
fn a_report_counts_for_the_member_that_was_asked_and_in_a_version_that_is_known() {
    let good = document(&report("m2", CLUSTER, 2));
    let with = |pointer: &str, value: serde_json::Value| {
        let mut document = good.clone();
        *document.pointer_mut(pointer).unwrap() = value;
        document.to_string()
    };
    let mut more = good.clone();
    more["of-tomorrow"] = serde_json::json!({"a": [1, 2]});
    let rows = [
        ("as it is", good.to_string(), None),
        ("with a field of tomorrow", more.to_string(), None),
        ("with words of tomorrow", with("/overall", "Splendid".into()), None),
        ("of another member", with("/etcd/member", "3".into()), Some(Kind::AnotherMember)),
        ("of another cluster", with("/etcd/cluster", "c2".into()), Some(Kind::AnotherMember)),
        ("of no member yet", with("/etcd/member", serde_json::Value::Null), Some(Kind::AnotherMember)),
        ("of another version", with("/apiVersion", "lastgood/v9".into()), Some(Kind::Version)),
        ("of another kind", with("/kind", "Status".into()), Some(Kind::Answer)),
        ("with an ID that is none", with("/etcd/member", "you".into()), Some(Kind::Answer)),
        ("with a time that is none", with("/at", "tomorrow".into()), Some(Kind::Answer)),
        ("cut off", good.to_string()[..100].to_owned(), Some(Kind::Answer)),
        ("empty", String::new(), Some(Kind::Answer)),
        ("a list", "[]".to_owned(), Some(Kind::Answer)),
        ("deep", "[".repeat(60_000), Some(Kind::Answer)),
    ];
    for (what, body, trouble) in rows {
        assert_eq!(kind(body), trouble, "a report {what}");
    }
    let refused = PeerAnswer { status: 503, ..answer(good.to_string()) };
    assert_eq!(read(&refused, ASKED).unwrap_err().kind, Kind::Answer);
}

#[test]
fn texts_of_another_agent_are_cut_and_move_no_cursor() {
    let mut said = report("m2", CLUSTER, 2);
    said.sentence = format!("\x1b[2J{}", "x".repeat(10_000));
    said.inhibitors = vec!["a\nb".to_owned(); 1000];
    let said = read(&answer(document(&said).to_string()), ASKED).unwrap();
    assert!(said.sentence.len() < 500 && !said.sentence.contains('\x1b'), "{}", said.sentence);
    assert!(said.inhibitors.len() < 100);
    assert_eq!(said.inhibitors[0], "a b");
}

proptest! {
    #[test]
    fn s9_whatever_bytes_come_there_is_no_panic(body in proptest::collection::vec(any::<u8>(), 0..2000)) {
        prop_assert!(kind(body).is_some());
    }

    #[test]
    fn s9_a_damaged_report_is_no_panic(at in 0usize..4000, byte: u8, cut in 0usize..4000) {
        let mut body = document(&report("m2", CLUSTER, 2)).to_string().into_bytes();
        let at = at % body.len();
        body[at] = byte;
        body.truncate(cut.max(1));
        let _ = kind(body);
    }
}

/// Who listens where the agent of the second master should be: sends this and hangs up, or waits.
async fn impostor(lab: &Lab, says: Vec<u8>, hangs: bool) -> JoinSet<()> {
    // The one before ends in its own time.
    let mut bound = TcpListener::bind(lab.at(2)).await;
    for _ in 0..100 {
        if bound.is_ok() {
            break;
        }
        sleep(Duration::from_millis(10)).await;
        bound = TcpListener::bind(lab.at(2)).await;
    }
    let listener = bound.unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(lab.pki.server("m2", None)));
    let mut task = JoinSet::new();
    task.spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else { return };
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(&says).await;
            if hangs {
                sleep(Duration::from_secs(60)).await;
            }
            let _ = stream.shutdown().await;
        }
    });
    task
}

async fn asked(lab: &Lab) -> Result<PeerReport, PeerTroubleKind> {
    let security = Ok(lab.security("m1"));
    let heard = client::one(&member(2), security, ASKED, lab.port, &KnownAddresses::default()).await;
    heard.map(|heard| heard.report).map_err(|trouble| trouble.kind)
}

#[tokio::test(flavor = "multi_thread")]
async fn s9_hostile_answers_end_within_the_deadline() {
    let lab = Lab::new();
    assert_eq!(asked(&lab).await.unwrap_err(), Kind::Refused, "nobody listens");
    let good = document(&report("m2", CLUSTER, 2)).to_string();
    let http = |status: &str, length: usize, body: &str| {
        format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes()
    };
    let huge = "x".repeat(MAX_BYTES * 4);
    let chunks = format!(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{}",
        format!("8000\r\n{}\r\n", &huge[..0x8000]).repeat(8)
    );
    let rows = [
        ("a report", http("200 OK", good.len(), &good), false, None),
        ("truncated", http("200 OK", good.len() + 9, &good), false, Some(Kind::Unreachable)),
        ("huge", http("200 OK", huge.len(), &huge), true, Some(Kind::Answer)),
        ("huge in pieces", chunks.into_bytes(), true, Some(Kind::Answer)),
        ("no HTTP", b"\x00\x01\x02\r\n\r\n".to_vec(), false, Some(Kind::Unreachable)),
        ("an error", http("500 Internal Server Error", 0, ""), false, Some(Kind::Answer)),
        (
            "elsewhere",
            b"HTTP/1.1 302 Found\r\nlocation: https://127.0.0.3/\r\ncontent-length: 0\r\n\r\n".to_vec(),
            false,
            Some(Kind::Answer),
        ),
        ("late", Vec::new(), true, Some(Kind::TimedOut)),
        ("half", http("200 OK", good.len(), &good[..50]), true, Some(Kind::TimedOut)),
    ];
    for (what, says, hangs, trouble) in rows {
        let _impostor = impostor(&lab, says, hangs).await;
        let began = Instant::now();
        assert_eq!(asked(&lab).await.err(), trouble, "{what}");
        assert!(began.elapsed() < Duration::from_secs(5), "{what}: {:?}", began.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_certificate_of_the_host_that_was_dialled_is_accepted() {
    let lab = Lab::new();
    lab.pki.authority("other");
    lab.pki.sign_with("foreign", "other", 5, &format!("subjectAltName=IP:127.0.0.2\n{BOTH}"));
    lab.pki.sign_expired("expired", "ca", &format!("subjectAltName=IP:127.0.0.2\n{BOTH}"));
    let serving = lab.serve(lab.master(2, ""));
    for (certificate, trouble) in
        [("m2", None), ("expired", None), ("m3", Some(Kind::Certificate)), ("foreign", Some(Kind::Certificate))]
    {
        let mut master = lab.master(2, "");
        master.peering = lab.peering(2, certificate, "");
        serving.masters.send(Some(master)).unwrap();
        lab.listens(2).await;
        assert_eq!(asked(&lab).await.err(), trouble, "{certificate}");
    }
    // The other side does not accept ours.
    serving.masters.send(Some(lab.master(2, ", --peer-cert-allowed-cn=nobody"))).unwrap();
    lab.listens(2).await;
    assert_eq!(asked(&lab).await.err(), Some(Kind::Certificate));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_three_masters_knows_the_others_and_says_who_does_not_answer() {
    let lab = Lab::new();
    let _second = lab.serve(lab.master(2, ""));
    lab.listens(2).await;
    let (tracks, (masters, changes)) = (Tracks::default(), watch::channel(Some(lab.master(1, ""))));
    let mut task = JoinSet::new();
    task.spawn(client::ask(Arc::clone(&tracks), lab.port, changes));
    let shown = |number: u8| -> Option<Peer> {
        let tracks = tracks.lock().unwrap();
        Some(tracks.get(&u64::from(number))?.show(&member(number)))
    };
    let settled = |peer: &Peer| peer.trouble.as_ref().is_none_or(|trouble| trouble.kind != Kind::NotAsked);
    for _ in 0..500 {
        if [2, 3].into_iter().all(|number| shown(number).is_some_and(|peer| settled(&peer))) {
            break;
        }
        sleep(Duration::from_millis(10)).await;
    }
    let (second, third) = (shown(2).unwrap(), shown(3).unwrap());
    assert!(second.answers(), "{:?}", second.trouble);
    assert_eq!(second.report.map(|report| report.node).as_deref(), Some("master-2"));
    assert!(second.clock_ahead_millis.is_some_and(|ahead| ahead.abs() < 2000));
    assert_eq!(third.trouble.map(|trouble| trouble.kind), Some(Kind::Refused));
    assert!(shown(1).is_none(), "it does not ask itself");
    // The others leave the cluster.
    masters.send(None).unwrap();
    for _ in 0..500 {
        if shown(2).is_none() {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("they are still known");
}
