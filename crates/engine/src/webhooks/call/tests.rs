use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivatePkcs8KeyDer},
    },
};

use super::*;

const STRICT: Rules = Rules { loopback: false };

#[test]
fn every_address_of_a_name_is_judged() {
    let judged = |texts: &[&str]| judge(STRICT, texts.iter().map(|text| text.parse().unwrap()));
    assert_eq!(judged(&["1.1.1.1", "2606:4700::1111"]), Ok(()));
    let refused = judged(&["1.1.1.1", "10.0.0.1"]).unwrap_err();
    assert_eq!(refused, "it leads to what is not a public address", "and not which one");
    assert!(judged(&["fd00::1"]).is_err());
    assert!(judged(&["::ffff:1.1.1.1"]).is_err(), "an address in disguise");
    assert!(judged(&[]).is_err());
    assert!(judged(&vec!["1.1.1.1"; 33]).is_err());
}

/// This machine's own name for itself is resolved, judged and refused; nobody is connected to.
#[tokio::test]
async fn a_name_that_leads_inside_is_refused_after_it_is_resolved() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let host = Host::Name("localhost".to_owned());
    let target = Target {
        scheme: Scheme::Http,
        host,
        port,
        authority: "localhost".to_owned(),
        path: "/".to_owned(),
        url: format!("http://localhost:{port}/"),
    };
    let caller = Caller::by(STRICT, tls::trusting(RootCertStore::empty()));
    let refused = caller.connect(&target).await.unwrap_err();
    assert!(refused.contains("is not a public address"), "{refused}");
    let seen = tokio::time::timeout(Duration::from_millis(200), listener.accept());
    assert!(seen.await.is_err(), "nobody came");
    let answer = caller.post(&format!("https://127.0.0.1:{port}/"), &[], String::new()).await;
    assert!(answer.error.unwrap().contains("not a public address"));
    let local = Caller::by(Rules { loopback: true }, tls::trusting(RootCertStore::empty()));
    local.connect(&target).await.unwrap();
}

const LOCAL: Rules = Rules { loopback: true };

fn trusting(certificates: &[CertificateDer<'static>]) -> Caller {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate.clone()).unwrap();
    }
    Caller::by(LOCAL, tls::trusting(roots))
}

/// An endpoint with TLS that answers 204 to whatever it is sent; its port, and the certificate for `localhost` that it
/// made for itself.
async fn encrypted() -> (u16, CertificateDer<'static>) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key.into())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            // whoever does not trust us says so and goes
            let Ok(mut stream) = acceptor.accept(socket).await else { continue };
            let mut seen = vec![0; 4_096];
            let read = stream.read(&mut seen).await.unwrap();
            assert!(seen[..read].starts_with(b"POST /x HTTP/1.1"));
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
            stream.flush().await.unwrap();
        }
    });
    (port, certificate)
}

#[test]
fn a_name_is_asked_for_as_it_is_written() {
    assert_eq!(absolute("hooks.example"), "hooks.example.", "without the resolver's search list");
    assert_eq!(absolute("localhost"), "localhost");
}

#[tokio::test]
async fn certificates_are_verified_with_their_names() {
    let (port, certificate) = encrypted().await;
    let caller = trusting(&[certificate]);
    let url = format!("https://localhost:{port}/x");
    let answer = caller.post(&url, &[("webhook-id", "evt_1".to_owned())], "{}".to_owned()).await;
    assert_eq!((answer.status, answer.error), (Some(204), None));
    // the same machine by another name
    let answer = caller.post(&format!("https://127.0.0.1:{port}/x"), &[], String::new()).await;
    assert!(answer.error.unwrap().contains("TLS"), "its certificate does not name it");
    let answer = trusting(&[]).post(&url, &[], String::new()).await;
    assert!(answer.error.unwrap().contains("TLS"), "nobody vouches for it");
}

#[tokio::test]
async fn an_answer_without_end_is_not_read_to_its_end() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        socket.write_all(head.as_bytes()).await.unwrap();
        let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
        let mut sent = 0_usize;
        while socket.write_all(chunk.as_bytes()).await.is_ok() {
            sent += chunk.len();
        }
        sent
    });
    let answer =
        trusting(&[]).post(&format!("http://127.0.0.1:{port}/x"), &[], String::new()).await;
    assert_eq!((answer.status, answer.error), (Some(200), None));
    let sent = tokio::time::timeout(Duration::from_secs(10), server).await.unwrap().unwrap();
    assert!(sent < 32 << 20, "it was hung up on after {sent} bytes");
}

#[tokio::test]
async fn an_answer_with_an_endless_head_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        socket.write_all(b"HTTP/1.1 200 OK\r\n").await.unwrap();
        while socket.write_all(b"x-more: and more and more and more\r\n").await.is_ok() {}
    });
    let answer =
        trusting(&[]).post(&format!("http://127.0.0.1:{port}/x"), &[], String::new()).await;
    assert!(answer.status.is_none() && answer.error.unwrap().contains("exchange failed"));
}
