//! Who is answered, and what comes of requests that are wrong.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

use super::report;
use super::sockets::{BOTH, CLUSTER, Lab};
use crate::model::peer::{PeerEtcd, PeerReport};
use crate::peer::server::{DEADLINE, REPORT};

const STRANGER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 9));

#[tokio::test(flavor = "multi_thread")]
async fn s9_a_report_is_for_certificates_of_members_alone_and_also_for_expired_ones() {
    let lab = Lab::new();
    lab.pki.authority("other");
    let san = "subjectAltName=IP:127.0.0.2\n";
    for (name, authority, extensions) in [
        ("no-usage", "ca", san.to_owned()),
        ("expired", "ca", format!("{san}{BOTH}")),
        ("foreign", "other", format!("{san}{BOTH}")),
        ("foreign-expired", "other", format!("{san}{BOTH}")),
        ("server-only", "ca", format!("{san}extendedKeyUsage=serverAuth\n")),
        ("server-only-expired", "ca", format!("{san}extendedKeyUsage=serverAuth\n")),
        ("no-member", "ca", format!("subjectAltName=IP:127.0.0.9\n{BOTH}")),
        ("no-name", "ca", BOTH.to_owned()),
    ] {
        if name.ends_with("expired") {
            lab.pki.sign_expired(name, authority, &extensions);
        } else {
            lab.pki.sign_with(name, authority, 5, &extensions);
        }
    }
    let serving = lab.serve(lab.master(1, ""));
    for (name, answered) in [
        ("m2", true),
        ("m1", true),
        ("no-usage", true),
        ("expired", true),
        ("foreign", false),
        ("foreign-expired", false),
        ("server-only", false),
        ("server-only-expired", false),
        ("no-member", false),
        ("no-name", false),
    ] {
        assert_eq!(lab.reports_to(name).await, answered, "{name}");
    }
    // Who may ask follows the flags and the members, whatever was let in before.
    for (more, answered) in [
        (", --peer-cert-allowed-cn=m2", true),
        (", --peer-cert-allowed-cn=other", false),
        (", '--peer-cert-allowed-cn=other,m2'", true),
        (", --peer-cert-allowed-hostname=127.0.0.2", true),
        (", --peer-cert-allowed-hostname=127.0.0.3", false),
    ] {
        serving.masters.send(Some(lab.master(1, more))).unwrap();
        assert_eq!(lab.reports_to("m2").await, answered, "{more}");
    }
    let mut without = lab.master(1, "");
    serving.masters.send(Some(without.clone())).unwrap();
    assert!(lab.reports_to("m2").await);
    without.members.retain(|member| member.id != 2);
    serving.masters.send(Some(without)).unwrap();
    assert!(!lab.reports_to("m2").await, "it was removed from the cluster");
    assert!(lab.reports_to("m3").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_renewed_on_disk_is_shown_with_the_next_connection() {
    let lab = Lab::new();
    lab.pki.sign_expired("old", "ca", &format!("subjectAltName=IP:127.0.0.1\n{BOTH}"));
    let mut master = lab.master(1, "");
    master.peering = lab.peering(1, "old", "");
    let _serving = lab.serve(master);
    let answer = lab.ask("m2", REPORT).await.unwrap();
    assert!(answer.certificate.is_some_and(|certificate| certificate.contains("expired")), "it reports nevertheless");
    for end in ["crt", "key"] {
        std::fs::copy(lab.pki.path(&format!("m1.{end}")), lab.pki.path(&format!("old.{end}"))).unwrap();
    }
    assert_eq!(lab.ask("m2", REPORT).await.unwrap().certificate, None);
    std::fs::remove_file(lab.pki.path("old.key")).unwrap();
    assert!(lab.ask("m2", REPORT).await.is_err());
    assert!(_serving.shared.trouble().is_some_and(|why| why.contains("old.key")), "{:?}", _serving.shared.trouble());
}

/// Sends bytes over an accepted connection, and reads until its end.
async fn sent(lab: &Lab, bytes: &[u8]) -> String {
    let mut stream = lab.tls(STRANGER).await;
    let mut answer = Vec::new();
    let _ = stream.write_all(bytes).await;
    let _ = timeout(DEADLINE * 2, stream.read_to_end(&mut answer)).await.expect("a connection ends");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn s9_requests_that_are_wrong_are_refused_within_their_deadline() {
    let lab = Lab::new();
    let _serving = lab.serve(lab.master(1, ""));
    let long = format!("GET {REPORT} HTTP/1.1\r\nhost: m1\r\nx: {}\r\n\r\n", "y".repeat(9 << 10));
    let lines = "x: y\r\n".repeat(5000);
    let rows: [(&str, String, &str); 10] = [
        ("a report", format!("GET {REPORT} HTTP/1.1\r\nhost: m1\r\n\r\n"), "HTTP/1.1 200"),
        ("two at once", format!("GET {REPORT} HTTP/1.1\r\nhost: m1\r\n\r\n").repeat(2), "HTTP/1.1 200"),
        ("another path", "GET /v1/fence HTTP/1.1\r\nhost: m1\r\n\r\n".to_owned(), "HTTP/1.1 404"),
        ("a path that goes up", "GET /v1/report/../report HTTP/1.1\r\nhost: m1\r\n\r\n".to_owned(), "HTTP/1.1 404"),
        ("another method", format!("DELETE {REPORT} HTTP/1.1\r\nhost: m1\r\n\r\n"), "HTTP/1.1 405"),
        (
            "a body without end",
            format!("GET {REPORT} HTTP/1.1\r\nhost: m1\r\ncontent-length: 99999999\r\n\r\nx"),
            "HTTP/1.1 200",
        ),
        ("no HTTP", "\0\u{1}\u{2}garbage\r\n\r\n".to_owned(), ""),
        ("another HTTP", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), ""),
        ("a long header", long, ""),
        ("many headers", format!("GET {REPORT} HTTP/1.1\r\n{lines}\r\n"), ""),
    ];
    for (what, request, begins) in &rows {
        let began = Instant::now();
        let answer = sent(&lab, request.as_bytes()).await;
        assert!(answer.starts_with(begins), "{what}: {answer}");
        assert_eq!(answer.contains("200 OK"), begins.contains("200"), "{what}: {answer}");
        assert!(answer.matches("HTTP/1.1").count() <= 1, "{what}: one answer for a connection: {answer}");
        assert!(began.elapsed() < DEADLINE * 2, "{what}");
    }
    let began = Instant::now();
    assert_eq!(sent(&lab, b"GET /v1/rep").await, "", "half a request is waited for, and then no more");
    assert!(began.elapsed() >= DEADLINE / 2, "{:?}", began.elapsed());
    assert!(lab.reports_to("m2").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn s9_clients_that_are_silent_or_hang_up_delay_nobody() {
    let lab = Lab::new();
    let _serving = lab.serve(lab.master(1, ""));
    lab.listens(1).await;
    let mut silent = Vec::new();
    for last in 10..60 {
        for _ in 0..3 {
            silent.extend(lab.from([127, 0, 0, last].into()).await);
        }
    }
    for _ in 0..50 {
        // Hangs up in the middle of its first word.
        let mut stream = lab.from(STRANGER).await.unwrap();
        let _ = stream.write_all(b"\x16\x03\x01").await;
    }
    let began = Instant::now();
    assert!(lab.reports_to("m2").await);
    assert!(began.elapsed() < DEADLINE / 2, "{:?}", began.elapsed());
    drop(silent);
}

#[tokio::test(flavor = "multi_thread")]
async fn s8_a_paused_agent_reports_that_and_is_moved_by_nothing_that_a_peer_sends() {
    let lab = Lab::new();
    let serving = lab.serve(lab.master(1, ""));
    let etcd = PeerEtcd { serves: false, version: None, ..report("", CLUSTER, 1).etcd };
    let data = lab.dir.path().join("data");
    std::fs::create_dir_all(data.join("member/snap")).unwrap();
    serving.shared.reporter.note_found(etcd, Some(data.clone()), vec!["paused until tomorrow".to_owned()]);
    let before = names(&data);
    for path in ["/v1/fence", "/v1/accept", "/v1/release", "/v1/over", "/v2/report", REPORT] {
        let order = format!("POST {path} HTTP/1.1\r\nhost: m1\r\ncontent-length: 13\r\n\r\n{{\"ballot\": 1}}");
        let answer = sent(&lab, order.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 40"), "{path}: {answer}");
    }
    let answer = lab.ask("m2", REPORT).await.unwrap();
    let said: PeerReport = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(said.inhibitors, ["paused until tomorrow"]);
    assert_eq!((names(&data), said.etcd.barred), (before, Some(false)), "nothing was written");
}

fn names(dir: &std::path::Path) -> Vec<String> {
    crate::sys::files::names(&dir.join("member")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_and_peers_without_certificates_are_named_and_without_peers_no_port_is_open() {
    let lab = Lab::new();
    let taken = TcpListener::bind(lab.at(1)).await.unwrap();
    let serving = lab.serve(lab.master(1, ""));
    let trouble = async |part: &str| {
        for _ in 0..200 {
            if serving.shared.trouble().is_some_and(|why| why.contains(part)) {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("{part}: {:?}", serving.shared.trouble());
    };
    trouble("cannot be listened on").await;
    drop(taken);
    let mut plain = lab.master(1, "");
    plain.peering.security = Err("--listen-peer-urls of etcd has no https:// URL".to_owned());
    serving.masters.send(Some(plain)).unwrap();
    trouble("https://").await;
    assert!(TcpStream::connect(lab.at(1)).await.is_err());
    serving.masters.send(Some(lab.master(1, ""))).unwrap();
    lab.listens(1).await;
    assert!(lab.reports_to("m2").await);
    assert_eq!(serving.shared.trouble(), None);
    // The cluster has one member now.
    serving.masters.send(None).unwrap();
    for _ in 0..200 {
        if TcpStream::connect(lab.at(1)).await.is_err() {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("the port is still open");
}
