use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    },
};

use super::*;

const STRICT: Rules = Rules { loopback: false };

#[test]
fn every_address_of_a_name_is_judged() {
    let judged = |texts: &[&str]| judge(STRICT, texts.iter().map(|text| text.parse().unwrap()));
    assert_eq!(judged(&["1.1.1.1", "2606:4700::1111"]), Ok(()));
    assert!(judged(&["1.1.1.1", "10.0.0.1"]).unwrap_err().contains("10.0.0.1"));
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
    };
    let caller = Caller::trusting(STRICT, RootCertStore::empty());
    let refused = caller.connect(&target).await.unwrap_err();
    assert!(refused.contains("is not a public address"), "{refused}");
    let seen = tokio::time::timeout(Duration::from_millis(200), listener.accept());
    assert!(seen.await.is_err(), "nobody came");
    let answer = caller.post(&format!("https://127.0.0.1:{port}/"), &[], String::new()).await;
    assert!(answer.error.unwrap().contains("not a public address"));
    let local = Caller::trusting(Rules { loopback: true }, RootCertStore::empty());
    local.connect(&target).await.unwrap();
}

/// A certificate for `localhost` by an authority that nobody else trusts; they guard nothing.
const AUTHORITY: &[u8] = include_bytes!("../tls/ca.pem");
const CERTIFICATE: &[u8] = include_bytes!("../tls/localhost.pem");
const KEY: &[u8] = include_bytes!("../tls/localhost.key");
const LOCAL: Rules = Rules { loopback: true };

fn trusting(certificates: &[u8]) -> Caller {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(certificates) {
        roots.add(certificate.unwrap()).unwrap();
    }
    Caller::trusting(LOCAL, roots)
}

/// An endpoint with TLS that answers 204 to whatever it is sent; its port.
async fn encrypted() -> u16 {
    let chain = CertificateDer::pem_slice_iter(CERTIFICATE).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(KEY).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
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
    port
}

#[tokio::test]
async fn certificates_are_verified_with_their_names() {
    let port = encrypted().await;
    let caller = trusting(AUTHORITY);
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
